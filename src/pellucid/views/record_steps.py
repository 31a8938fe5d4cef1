"""The steps of a record in a terminal, one line for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Source, TokenStep
from pellucid.views.record_text import alternatives, kept, probability, slide_note, token_text
from pellucid.views.tables import percent

SOURCE_STYLES: dict[Source, str] = {
    "greedy": "dim",
    "sampled": "",
    "drafted": "green",
    "corrected": "yellow",
    "contrastive": "",
    "searched": "cyan",
    "steered": "magenta",
}

# Up to `_FEW` alternatives are beside their step if `_BESIDE` columns are free for them, else below it.
_FEW, _BESIDE = 3, 36
_LONGEST_TOKEN = 22


class _Cell(NamedTuple):
    text: str
    style: str = ""
    right: bool = True


class StepLines:
    """An aligned line for every step, with the likeliest alternatives beside it, or below it on a narrow page.

    Columns that would be equal for all steps are omitted. top: the number of alternatives.
    """

    def __init__(self, record: Record, top: int) -> None:
        self._record = record
        self._top = top
        steps = record.steps
        self._has_processors = any(step.expansion.processors for step in steps)
        self._has_filters = any(kept(step.expansion) != str(step.expansion.model.kept) for step in steps)
        self._has_sources = len({step.source for step in steps}) > 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [self._titles(), *map(self._cells, self._record.steps)]
        widths = [max(Text(row[i].text).cell_len for row in rows) for i in range(len(rows[0]))]
        used = sum(width + 2 for width in widths)
        room = options.max_width - used
        beside = 0 < self._top <= _FEW and room >= _BESIDE
        yield _aligned(rows[0], widths).append("alternatives" if beside else "", "dim")
        for step, row in zip(self._record.steps, rows[1:], strict=True):
            if step.slid is not None:
                yield Text(f"      {slide_note(step.slid)}", "yellow")
            line = _aligned(row, widths)
            if beside:
                yield line.append_text(next(self._alternatives(step, room), Text()))
                continue
            line.rstrip()
            yield line
            margin = widths[0] + 2
            for below in self._alternatives(step, options.max_width - margin):
                yield Text(" " * margin).append_text(below)

    def _titles(self) -> list[_Cell]:
        titles = [_Cell("step"), _Cell("token", right=False), _Cell("p(model)"), _Cell("rank"), _Cell("entropy")]
        titles += [_Cell("candidates", right=False)] if self._has_filters else []
        titles += [_Cell("p(chosen)")] if self._has_processors else []
        titles += [_Cell("source", right=False)] if self._has_sources else []
        return [cell._replace(style="dim") for cell in titles]

    def _cells(self, step: TokenStep) -> list[_Cell]:
        cells = [
            _Cell(str(step.step), "dim"),
            _Cell(
                _short(token_text(self._record.tokens, step.token)), likelihood_style(probability(step)), right=False
            ),
            _Cell(percent(probability(step))),
            _Cell(str(step.rank), "" if step.rank else "dim"),
            _Cell(f"{step.expansion.model.entropy:.2f}", "dim"),
        ]
        cells += [_Cell(kept(step.expansion), "dim", right=False)] if self._has_filters else []
        cells += [_Cell(percent(step.probability))] if self._has_processors else []
        cells += [_Cell(step.source, SOURCE_STYLES[step.source], right=False)] if self._has_sources else []
        return cells

    def _alternatives(self, step: TokenStep, room: int) -> Iterator[Text]:
        """Lines of the rejected draft, if any, and the likeliest other tokens with their model probabilities."""
        tokens = self._record.tokens
        pieces = []
        if step.rejected is not None:
            pieces.append(Text(f"not {_short(token_text(tokens, step.rejected))} as drafted", "yellow"))
        for token, chance in alternatives(step, self._top):
            pieces.append(Text.assemble(_short(token_text(tokens, token)), (f" {percent(chance)}", "dim")))
        line = Text(no_wrap=True, overflow="ellipsis")
        for piece in pieces:
            if line and line.cell_len + 2 + piece.cell_len > room:
                yield line
                line = Text(no_wrap=True, overflow="ellipsis")
            line.append("  " if line else "").append_text(piece)
        if line:
            yield line


def likelihood_style(chance: float) -> str:
    """The style of a token with this probability under the model."""
    if chance >= 0.5:
        return "bold green"
    if chance >= 0.1:
        return "bold cyan"
    return "bold yellow" if chance >= 0.01 else "bold red"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TOKEN else f"{text[: _LONGEST_TOKEN - 1]}…"


def _aligned(cells: Sequence[_Cell], widths: Sequence[int]) -> Text:
    """Cells side by side, padded to the widths, two spaces after each."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for cell, width in zip(cells, widths, strict=True):
        filling = " " * (width - Text(cell.text).cell_len)
        line.append(filling if cell.right else "").append(cell.text, cell.style)
        line.append("  " if cell.right else f"{filling}  ")
    return line
