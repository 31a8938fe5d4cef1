"""Records of decodes in a terminal: all steps, or the tree, and one step in detail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pellucid import display
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Distribution, Expansion, Hypothesis, TokenStep
from pellucid.decoding.session import NextToken
from pellucid.errors import OptionError
from pellucid.views.beam_tree import FATE_STYLES, beam_tree
from pellucid.views.record_steps import StepLines, likelihood_style
from pellucid.views.record_text import (
    chance,
    chances,
    facts,
    fate,
    how_chosen,
    paragraph,
    passage,
    probability,
    shown_passage,
    slide_note,
    stages,
    step_count,
    token_text,
    tokens_to_compare,
)
from pellucid.views.tables import percent

ALTERNATIVES = 3
COMPARED = 8

# Columns of a terminal: a token, a stage with the space after it, the longest bar, and the shortest.
_TOKEN, _STAGE, _BAR, _SHORT_BAR = 24, 9, 20, 6


@display.terminal.register(Record)
def record_view(record: Record, top: int = ALTERNATIVES) -> Group:
    """The whole record: a header, then every step or the tree. top: the number of alternatives to show for a step."""
    return Group(record_header(record), "", record_body(record, top))


def record_header(record: Record) -> Table:
    """Facts about the decode, the prompt and the continuation."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(record):
        table.add_row(name, Text(value, "bold cyan" if name == "model" else ""))
    prompt, new = (paragraph(passage(record.tokens, ids)) for ids in (record.prompt_ids, record.new_ids))
    between = "" if record.tokens else " "
    table.add_row("text", Text.assemble((prompt + between, "dim"), (new, "bold")))
    return table


def record_body(record: Record, top: int = ALTERNATIVES) -> RenderableType:
    """The steps or the tree, without the header."""
    if record.tree:
        return beam_tree(record)
    return StepLines(record, top) if record.steps else Text("the record has no steps", "dim")


def step_view(record: Record, step: int, top: int = COMPARED) -> Group:
    """One step in detail: the likeliest tokens under the model and after each processor, side by side. For a beam
    search: those of every hypothesis that was running.

    Raises `OptionError` if the record has no such step.
    """
    last = step_count(record) - 1
    if not 0 <= step <= last:
        raise OptionError(f"step is {step}; the record has steps 0 to {last}")
    if not record.tree:
        return Group(*_token_step(record, record.steps[step], top))
    return Group(*_beam_step(record, step, top))


def _token_step(record: Record, step: TokenStep, top: int) -> Iterator[RenderableType]:
    text = Text.assemble(
        (f"step {step.step}  ", "bold"),
        (token_text(record.tokens, step.token), likelihood_style(probability(step))),
        (f"  id {step.token}", "dim"),
    )
    before = passage(record.tokens, [*record.prompt_ids, *record.new_ids[: step.step]])
    yield text
    yield Text(how_chosen(record.tokens, step))
    yield Text(f"after {_ending(before)}", "dim", no_wrap=True, overflow="ellipsis")
    if step.slid is not None:
        yield Text(slide_note(step.slid), "yellow")
    yield ""
    yield from _distributions(step.expansion, record.tokens, top, step)
    if step.candidates:
        yield ""
        yield _contrastive_candidates(record, step)


def _ending(text: str) -> str:
    shown = paragraph(text)
    return shown if len(shown) <= 60 else f"…{shown[-59:]}"


@display.terminal.register(NextToken)
def next_token_view(next_token: NextToken, top: int = COMPARED) -> Group:
    """The distribution of the next token under the model and after each processor."""
    return Group(*_distributions(next_token.expansion, next_token.tokens, top))


def _distributions(
    expansion: Expansion, tokens: Mapping[int, str], top: int, step: TokenStep | None = None
) -> Iterator[RenderableType]:
    if expansion.processors:
        yield _stage_table(expansion)
        yield ""
    yield _Comparison(expansion, tokens, top, step)


def _stage_table(expansion: Expansion) -> Table:
    """The processors by number, with the candidates and the entropy after each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("right", "left", "right", "right"):
        table.add_column(justify=justify)
    table.add_row("", "", Text("candidates", "dim"), Text("entropy", "dim"))
    before = expansion.model.kept
    for number, stage in enumerate(stages(expansion)):
        left = stage.distribution.kept
        table.add_row(
            Text(str(number) if number else "", "dim"),
            Text(stage.name),
            Text(f"{left:,}", "dim" if left == before else "bold"),
            Text(f"{stage.distribution.entropy:.2f}", "dim"),
        )
        before = left
    return table


class Bars:
    """Bars in proportion to probability; the likeliest of `tokens` has `width` columns."""

    def __init__(self, distribution: Distribution, tokens: Sequence[int], width: int) -> None:
        logprobs = {token: distribution.logprob(token) for token in tokens}
        self._chances = {token: 0.0 if logprob is None else exp(logprob) for token, logprob in logprobs.items()}
        self._most = max(self._chances.values(), default=0.0)
        self._width = width

    def of(self, token: int) -> str:
        return "█" * round(self._width * self._chances[token] / self._most) if self._most else ""


class _Comparison:
    """Tokens by row, with their probability under the model and after each processor by column. Columns that do not fit
    the terminal go to further tables."""

    def __init__(self, expansion: Expansion, tokens: Mapping[int, str], top: int, step: TokenStep | None) -> None:
        self._expansion = expansion
        self._tokens = tokens
        self._compared = tokens_to_compare(expansion, top, step)
        self._step = step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = stages(self._expansion)
        names = [token_text(self._tokens, token) for token in self._compared]
        used = min(_TOKEN, max(map(cell_len, [*names, "token"]))) + 2 + max(len(str(token)) for token in self._compared)
        fits = max(1, (options.max_width - used - 4) // _STAGE)
        for start in range(0, len(shown), fits):
            if start:
                yield ""
            numbers = range(start, min(start + fits, len(shown)))
            room = options.max_width - used - 4 - _STAGE * len(numbers)
            yield self._table(numbers, min(_BAR, room) if numbers[-1] == len(shown) - 1 else 0)

    def _table(self, numbers: range, bar: int) -> Table:
        """A table of the stages in `numbers`. bar: the width of the last stage's bars, in columns of a terminal."""
        shown = stages(self._expansion)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, max_width=_TOKEN)
        table.add_column(justify="right", style="dim")
        for _ in numbers:
            table.add_column(justify="right", no_wrap=True, min_width=_STAGE - 2)
        table.add_column(no_wrap=True)
        titles = [Text(str(number) if number else "model", "dim") for number in numbers]
        table.add_row(Text("token", "dim"), Text("id", "dim"), *titles, "")
        bars = Bars(shown[-1].distribution, self._compared, bar - 2 if bar >= _SHORT_BAR else 0)
        for token in self._compared:
            is_chosen = self._step is not None and token == self._step.token
            style = "bold" if is_chosen else ""
            values = chances(self._expansion, token, self._step)
            cells = [Text(values[number], "dim" if values[number] == "·" else style) for number in numbers]
            end = Text.assemble((bars.of(token), "cyan"), (" ◀" if is_chosen else "", "bold"))
            table.add_row(Text(token_text(self._tokens, token), style), str(token), *cells, end)
        return table


def _contrastive_candidates(record: Record, step: TokenStep) -> Table:
    """The candidates of contrastive search, the best score first."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    for _ in range(4):
        table.add_column(justify="right")
    titles = ("token", "id", "probability", "likeness", "score")
    table.add_row(*(Text(title, "dim") for title in titles))
    for candidate in sorted(step.candidates, key=lambda one: -one.score):
        style = "bold" if candidate.id == step.token else ""
        table.add_row(
            Text(token_text(record.tokens, candidate.id), style),
            Text(str(candidate.id), "dim"),
            Text(percent(candidate.probability), style),
            Text(f"{candidate.likeness:.3f}", style),
            Text(f"{candidate.score:.3f}", style),
        )
    return table


def _beam_step(record: Record, step: int, top: int) -> Iterator[RenderableType]:
    """Every hypothesis that was running in a step: its likeliest next tokens, and its children."""
    yield Text.assemble((f"step {step}", "bold"), ("  the running hypotheses, by score", "dim"))
    expanded = [node for node in record.tree if node.length == step and node.expansion is not None]
    for node in sorted(expanded, key=lambda node: (-node.score, node.id)):
        assert node.expansion is not None
        ids = [one.token for one in record.path(node.id) if one.token is not None]
        text = shown_passage(record.tokens, ids) if ids else "the prompt"
        yield ""
        yield Text.assemble((text if len(text) <= 60 else f"…{text[-59:]}", "bold"), (f"  {node.score:.2f}", "dim"))
        if node.slid is not None:
            yield Text(slide_note(node.slid), "yellow")
        yield _continuations(record, node, node.expansion, top)


def _continuations(record: Record, node: Hypothesis, expansion: Expansion, top: int) -> Table:
    """The likeliest next tokens of a hypothesis, and its children with their fates."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=2)
    table.add_column(no_wrap=True, width=20)
    columns = ["p(model)", "p(chosen)", "score"] if expansion.processors else ["p(model)", "score"]
    for column in columns:
        table.add_column(justify="right", no_wrap=True, min_width=max(7, len(column)))
    table.add_column(no_wrap=True)
    table.add_row("", *(Text(title, "dim") for title in ["token", *columns]), "")
    children = {child.token: child for child in record.tree if child.parent == node.id}
    shown = dict.fromkeys(entry.id for entry in expansion.chosen_from.top[:top])
    shown.update(dict.fromkeys(token for token in children if token is not None))
    for token in shown:
        child = children.get(token)
        style = "dim" if child is None else ""
        cells = [Text(chance(expansion.model, token), style)]
        cells += [Text(chance(expansion.chosen_from, token), style)] if expansion.processors else []
        cells.append(Text("" if child is None else f"{child.score:.2f}"))
        outcome = Text("") if child is None else Text(fate(child) or "extended", FATE_STYLES[child.fate])
        table.add_row("", Text(token_text(record.tokens, token), style), *cells, outcome)
    return table


def records_view(records: Sequence[Record], top: int = ALTERNATIVES) -> Group:
    """Several records, each under its number. A tree that consecutive records share is drawn once."""
    parts: list[Any] = []
    for number, record in enumerate(records):
        parts += ["", ""] if number else []
        parts += [Text(f"record {number + 1} of {len(records)}", "bold"), record_header(record), ""]
        shared = _shares_tree(records, number)
        parts.append(Text("the same tree as in the previous record", "dim") if shared else record_body(record, top))
    return Group(*parts)


def steps_view(records: Sequence[Record], step: int, top: int = COMPARED) -> Group:
    """The same step of several records; once for a tree that consecutive records share."""
    parts: list[Any] = []
    for number, record in enumerate(records):
        if _shares_tree(records, number):
            continue
        several = len(records) > 1 and not record.tree
        parts += ["", ""] if number else []
        parts += [Text(f"record {number + 1} of {len(records)}", "bold")] if several else []
        parts.append(step_view(record, step, top))
    return Group(*parts)


def _shares_tree(records: Sequence[Record], number: int) -> bool:
    """Whether a record has the same tree as the previous one, where only the returned hypothesis differs."""
    return number > 0 and bool(records[number].tree) and records[number].tree == records[number - 1].tree
