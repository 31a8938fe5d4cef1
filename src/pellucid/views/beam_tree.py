"""The tree of a beam search as indented lines of tokens, for terminals and HTML.

The path to the best result is the main line, drawn from top to bottom without indentation. A branch is indented by one
level more than the line that it leaves, and is drawn in the same way. The indentation is thus the number of departures
from the main line, not the number of steps, so that long searches stay narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Hypothesis
from pellucid.views.record_text import births, fate, shown_passage

FATE_STYLES = {
    "returned": "bold green",
    "finished": "blue",
    "displaced": "magenta",
    "cut": "dim",
    "running": "cyan",
    "extended": "",
}


@dataclass(frozen=True)
class Stretch:
    """A chain of hypotheses without branches, and the branches that leave the line after its last hypothesis."""

    nodes: tuple[Hypothesis, ...]
    others: tuple[Line, ...]

    @property
    def end(self) -> Hypothesis:
        return self.nodes[-1]


@dataclass(frozen=True)
class Line:
    """Consecutive stretches; each continues the one before it."""

    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class DrawnStretch:
    """A stretch with its place in the drawing. depth: departures from the main line. goes_on: whether it continues the
    previous stretch of the same depth; False for the first stretch of a line."""

    stretch: Stretch
    depth: int
    goes_on: bool


def main_line(record: Record) -> Line:
    """The main line of a record's tree. Among several continuations it follows the one that leads to the record's own
    result; otherwise the one to the best result, then the longest, then the one with the best score."""
    children: dict[int, list[Hypothesis]] = {}
    promise: dict[int, tuple[float, int, float]] = {}
    for node in reversed(record.tree):
        later = children.setdefault(node.id, [])
        rank = float("inf") if node.fate != "returned" or node.rank is None else node.rank
        rank = -1 if node.id == record.returned else rank
        own = (rank, -node.length, -node.score)
        promise[node.id] = min([own, *((*promise[child.id][:2], -node.score) for child in later)])
        later.sort(key=lambda child: (-child.score, child.id))
        if node.parent is not None:
            children.setdefault(node.parent, []).append(node)
    return _line(record.tree[0], children, promise)


def _line(
    node: Hypothesis,
    children: Mapping[int, Sequence[Hypothesis]],
    promise: Mapping[int, tuple[float, int, float]],
) -> Line:
    stretches: list[Stretch] = []
    while True:
        nodes = [node]
        while len(children[nodes[-1].id]) == 1:
            nodes.append(children[nodes[-1].id][0])
        continuations = children[nodes[-1].id]
        if not continuations:
            return Line((*stretches, Stretch(tuple(nodes), ())))
        node = min(continuations, key=lambda one: promise[one.id])
        others = tuple(_line(one, children, promise) for one in continuations if one is not node)
        stretches.append(Stretch(tuple(nodes), others))


def read_in_order(line: Line, depth: int = 0) -> Iterator[DrawnStretch]:
    """The stretches of a line, depth first: each is followed by its branches."""
    for number, stretch in enumerate(line.stretches):
        yield DrawnStretch(stretch, depth, number > 0)
        for other in stretch.others:
            yield from read_in_order(other, depth + 1)


def stretch_text(record: Record, drawn: DrawnStretch) -> str:
    """The text of a stretch's tokens; "the prompt" for the root."""
    ids = [node.token for node in drawn.stretch.nodes if node.token is not None]
    if not ids:
        return "the prompt"
    return f"{'… ' if drawn.goes_on else ''}{shown_passage(record.tokens, ids)}"


def has_groups(record: Record) -> bool:
    return any(node.group for node in record.tree)


def beam_tree(record: Record) -> Tree:
    """A record's tree for a terminal."""
    tree = Tree("", hide_root=True, guide_style="dim")
    tree.add(_columns(record, ("hypothesis", "steps", "score", "final", "outcome"), "dim"))
    own = {node.id for node in record.path()} if record.returned is not None else set()
    places = {0: tree}
    for drawn in read_in_order(main_line(record)):
        places[drawn.depth + 1] = places[drawn.depth].add(_label(record, drawn, own))
    return tree


def _label(record: Record, drawn: DrawnStretch, own: set[int]) -> Table:
    end = drawn.stretch.end
    style = "bold" if end.id in own else FATE_STYLES[end.fate].replace("bold ", "")
    cells = [
        Text(stretch_text(record, drawn), style),
        Text(births(drawn.stretch.nodes), "dim"),
        Text(f"{end.score:.2f}" if end.token is not None else "", "dim" if end.fate == "cut" else ""),
        Text("" if end.final_score is None else f"{end.final_score:.3f}", FATE_STYLES[end.fate]),
        Text(_fate_and_group(record, end), FATE_STYLES[end.fate]),
    ]
    return _columns(record, cells)


def _fate_and_group(record: Record, node: Hypothesis) -> str:
    words = [f"group {node.group}"] if has_groups(record) and node.token is not None else []
    return ", ".join([*words, *([fate(node)] if fate(node) else [])])


def _columns(record: Record, cells: Sequence[str | Text], style: str = "") -> Table:
    """A line of the tree. The columns after the first have fixed widths and end at the right edge of the page."""
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(ratio=1, overflow="fold", style=style)
    for width in (5, 7, 7):
        table.add_column(width=width, justify="right", no_wrap=True, style=style)
    table.add_column(width=25 if has_groups(record) else 17, no_wrap=True, style=style)
    table.add_row(*cells)
    return table
