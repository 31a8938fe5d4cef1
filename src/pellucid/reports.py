"""The report of a text: one traced pass, the results of all instruments, and the HTML page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pellucid.config import GPT2Config
from pellucid.lens.overview import Overview, Progress, overview, overview_names
from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record
    from pellucid.reference.model import GPT2LMHeadModel

# A report continues every prefix of the text by NEW_TOKENS tokens, greedily and with BEAMS beams. For a long text, it
# continues only the longest prefixes, with about PREFIX_TOKENS tokens in total.
NEW_TOKENS, BEAMS, PREFIX_TOKENS = 8, 3, 2048
_BATCH_SIZE = 8


class ReportModel(Protocol):
    """The calls of `LanguageModel` that a report makes."""

    config: GPT2Config

    @property
    def model(self) -> GPT2LMHeadModel: ...
    def trace(self, text: Any, names: Any = None, *, memory_limit: int | None = None) -> Any: ...
    def generate(
        self, prompt: Sequence[Sequence[int]], *, max_new_tokens: int, num_beams: int, record: bool
    ) -> Any: ...


def traced_overview(
    lm: ReportModel,
    text: str | Sequence[int],
    *,
    top: int = 5,
    memory_limit: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Overview:
    """Trace a text and run all instruments on the trace: see `pellucid.lens.overview.overview`.

    Raises what `LanguageModel.trace` and `overview` raise.
    """
    trace = lm.trace(text, names=overview_names(lm.config), memory_limit=memory_limit)
    written = text if isinstance(text, str) and text else None
    return overview(trace, written, top=top, progress=progress)


def report_page(lm: ReportModel, results: Overview) -> bytes:
    """The HTML page of an overview, with greedy decodes and beam searches that continue the text from each token."""
    from pellucid.reference.architecture import read_architecture
    from pellucid.views.report.page import report_html

    # Only the weights' shapes are used; the overview has the activations' shapes.
    architecture = read_architecture(lm.model, batch=1, seq=1)
    greedy, beams = _continuations(lm, results.ids, 1), _continuations(lm, results.ids, BEAMS)
    return report_html(results, architecture, greedy=greedy, beams=beams).encode("utf-8", "backslashreplace")


def write_report(lm: ReportModel, text: str | Sequence[int], path: str | Path, *, top: int = 5) -> None:
    """Write the report of a text to a file atomically.

    Raises `PellucidError` before any computation if the file cannot be written.
    """
    with whole_file(Path(path)) as file:
        file.write(report_page(lm, traced_overview(lm, text, top=top)))


def _continuations(lm: ReportModel, ids: Sequence[int], num_beams: int) -> list[Record]:
    """Records of the decodes that continue the longest prefixes of the text, shortest prefix first."""
    length = len(ids)
    count = min(length, max(1, PREFIX_TOKENS // length))
    ends = range(length - count + 1, length + 1)
    records: list[Record] = []
    for new_tokens, group in groupby(ends, key=lambda end: min(NEW_TOKENS, lm.config.n_positions - end + 1)):
        prefixes = [list(ids[:end]) for end in group]
        for start in range(0, len(prefixes), _BATCH_SIZE):
            batch = prefixes[start : start + _BATCH_SIZE]
            found = lm.generate(batch, max_new_tokens=new_tokens, num_beams=num_beams, record=True)
            records += [generation.record for generation in found]
    return records
