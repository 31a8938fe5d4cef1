"""The report of a text: one traced pass, every instrument run on it, and the page that shows the results."""

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

# A report continues every prefix of the text, the last prefixes only of a long text: a decode of so many new tokens
# each, greedy and with so many beams. The prefixes have at most so many tokens together.
NEW_TOKENS, BEAMS, PREFIX_TOKENS = 8, 3, 2048
_PREFIXES_AT_A_TIME = 8


class Looked(Protocol):
    """The calls of `LanguageModel` that a report makes."""

    config: GPT2Config

    @property
    def model(self) -> GPT2LMHeadModel: ...
    def trace(self, text: Any, names: Any = None, *, memory_limit: int | None = None) -> Any: ...
    def generate(
        self, prompt: Sequence[Sequence[int]], *, max_new_tokens: int, num_beams: int, record: bool
    ) -> Any: ...


def look_at(
    lm: Looked,
    text: str | Sequence[int],
    *,
    top: int = 5,
    memory_limit: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Overview:
    """Trace a text and run every instrument on it: see `pellucid.lens.overview.overview`.

    Raises what `LanguageModel.trace` and `overview` raise.
    """
    trace = lm.trace(text, names=overview_names(lm.config), memory_limit=memory_limit)
    written = text if isinstance(text, str) and text else None
    return overview(trace, written, top=top, progress=progress)


def report_page(lm: Looked, seen: Overview) -> bytes:
    """The HTML page of an overview, with greedy and beam decodes that continue the text from each of its tokens."""
    from pellucid.reference.architecture import read_architecture
    from pellucid.views.report.page import report_html

    architecture = read_architecture(
        lm.model, batch=1, seq=1
    )  # for the weights' shapes; the overview has the activations'
    page = report_html(seen, architecture, greedy=_decodes(lm, seen, 1), beams=_decodes(lm, seen, BEAMS))
    return page.encode("utf-8", "backslashreplace")


def write_report(lm: Looked, text: str | Sequence[int], path: str | Path, *, top: int = 5) -> None:
    """Write the report of a text to a file; a write that fails leaves the file as it was.

    Raises `PellucidError` before any work where the file cannot be written.
    """
    with whole_file(Path(path)) as file:
        file.write(report_page(lm, look_at(lm, text, top=top)))


def _decodes(lm: Looked, seen: Overview, num_beams: int) -> list[Record]:
    """Records of short decodes that continue the last prefixes of the text, shortest prefix first."""
    length, positions = len(seen.ids), lm.config.n_positions
    count = min(length, max(1, PREFIX_TOKENS // length))
    rooms = [min(NEW_TOKENS, positions - end + 1) for end in range(length - count + 1, length + 1)]
    records: list[Record] = []
    for room, group in groupby(range(count), key=lambda number: rooms[number]):
        prefixes = [list(seen.ids[: length - count + 1 + number]) for number in group]
        for start in range(0, len(prefixes), _PREFIXES_AT_A_TIME):
            some = prefixes[start : start + _PREFIXES_AT_A_TIME]
            found = lm.generate(some, max_new_tokens=room, num_beams=num_beams, record=True)
            records += [generation.record for generation in found]
    return records
