"""A text looked at whole: the pass, every instrument's reading of it, and the page that shows them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pellucid.config import GPT2Config
from pellucid.lens.overview import Overview, Progress, overview, overview_names
from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record
    from pellucid.reference.model import GPT2LMHeadModel

# At how many positions, counted from the end, a report takes the predicted token's logit apart: at all of them.
ATTRIBUTED = None
# How far a report's decodes go on, and with how many beams.
NEW_TOKENS, BEAMS = 8, 3


class Looked(Protocol):
    """What is looked at: a `LanguageModel`."""

    config: GPT2Config

    @property
    def model(self) -> GPT2LMHeadModel: ...
    def trace(self, text: Any, names: Any = None, *, memory_limit: int | None = None) -> Any: ...
    def generate(self, prompt: Any, **options: Any) -> Any: ...


def look_at(
    lm: Looked,
    text: str | Sequence[int],
    *,
    top: int = 5,
    attributed: int | None = 1,
    memory_limit: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Overview:
    """Trace a text and read every instrument on it: see `pellucid.lens.overview.overview`.

    Raises what `LanguageModel.trace` and `overview` raise.
    """
    trace = lm.trace(text, names=overview_names(lm.config), memory_limit=memory_limit)
    written = text if isinstance(text, str) and text else None
    return overview(trace, written, top=top, attributed=attributed, progress=progress)


def report_page(lm: Looked, seen: Overview) -> bytes:
    """The HTML page of what was seen of a text, with a greedy and a beam decode that go on from it."""
    from pellucid.reference.architecture import survey
    from pellucid.views.report.page import report_html

    architecture = survey(lm.model, batch=1, seq=1)  # for its weights: the text's own shapes were seen
    page = report_html(seen, architecture, greedy=_decode(lm, seen), beams=_decode(lm, seen, num_beams=BEAMS))
    return page.encode("utf-8", "backslashreplace")


def write_report(lm: Looked, text: str | Sequence[int], path: str | Path, *, top: int = 5) -> None:
    """Look at a text and write the page to a file, whole or not at all.

    Raises `PellucidError` before any work where the file cannot be written.
    """
    with whole_file(Path(path)) as file:
        file.write(report_page(lm, look_at(lm, text, top=top, attributed=ATTRIBUTED)))


def _decode(lm: Looked, seen: Overview, num_beams: int = 1) -> Record | None:
    """The record of a short decode; None where no position is left."""
    room = min(NEW_TOKENS, lm.config.n_positions - len(seen.ids) + 1)
    if room < 1:
        return None
    found: Record = lm.generate(list(seen.ids), max_new_tokens=room, num_beams=num_beams, record=True).record
    return found
