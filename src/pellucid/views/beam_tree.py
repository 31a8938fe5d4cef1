"""The tree of a beam search on a page: lines of tokens, and below each what else was tried there.

A tree is drawn by its main line, the one that leads to the best result: from top to bottom, at one depth. What
branches off it is one deeper, and has a main line of its own. So depth counts departures from the best line, and forty
steps stay as narrow as four.
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
    """Hypotheses of which each is extended by the next one only, and what else the last one was extended by."""

    nodes: tuple[Hypothesis, ...]
    others: tuple[Line, ...]

    @property
    def end(self) -> Hypothesis:
        return self.nodes[-1]


@dataclass(frozen=True)
class Line:
    """Stretches of which each goes on from the one before it."""

    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class DrawnStretch:
    """A stretch in the order in which it is read. depth: departures from the main line. goes_on: whether it goes on
    from the last stretch of the same depth, and does not begin a line."""

    stretch: Stretch
    depth: int
    goes_on: bool


def main_line(record: Record) -> Line:
    """A record's tree by its main line. Of several ways on, the one that leads to the record's own result is the
    main one; else the one to the best result; else the one that led furthest; else the one with the best score."""
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
        ways = children[nodes[-1].id]
        if not ways:
            return Line((*stretches, Stretch(tuple(nodes), ())))
        node = min(ways, key=lambda way: promise[way.id])
        others = tuple(_line(way, children, promise) for way in ways if way is not node)
        stretches.append(Stretch(tuple(nodes), others))


def read_in_order(line: Line, depth: int = 0) -> Iterator[DrawnStretch]:
    """The stretches of a line, each followed by what branches off it."""
    for number, stretch in enumerate(line.stretches):
        yield DrawnStretch(stretch, depth, number > 0)
        for other in stretch.others:
            yield from read_in_order(other, depth + 1)


def stretch_text(record: Record, drawn: DrawnStretch) -> str:
    """The tokens of a stretch; the prompt has none."""
    ids = [node.token for node in drawn.stretch.nodes if node.token is not None]
    if not ids:
        return "the prompt"
    return f"{'… ' if drawn.goes_on else ''}{shown_passage(record.tokens, ids)}"


def has_groups(record: Record) -> bool:
    return any(node.group for node in record.tree)


def beam_tree(record: Record) -> Tree:
    """A record's tree for a terminal."""
    tree = Tree("", hide_root=True, guide_style="dim")
    tree.add(_columns(record, ("hypothesis", "steps", "score", "final", "what became of it"), "dim"))
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
    """A line of the tree: cells of the same widths on every line, aligned at the page's right edge."""
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(ratio=1, overflow="fold", style=style)
    for width in (5, 7, 7):
        table.add_column(width=width, justify="right", no_wrap=True, style=style)
    table.add_column(width=25 if has_groups(record) else 17, no_wrap=True, style=style)
    table.add_row(*cells)
    return table
