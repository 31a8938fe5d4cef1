"""A beam search as a figure: a column for each step, a box for each hypothesis, a line to its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Hypothesis
from pellucid.errors import RecordError
from pellucid.views.beam_lattice import places_of
from pellucid.views.figures import FAINT, INK, MLP, MLP_FILL, MUTED, PAPER, Page, Point, drawable
from pellucid.views.labels import shortened
from pellucid.views.record_text import fate, paragraph, passage, token_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
_WIDTH, _HEIGHT, _STEP, _ROW = 1.05, 0.4, 1.4, 0.5
_LEFT, _TOP, _EDGE = 0.35, 1.35, 0.3
_PROMPT, _LONGEST = 90, 14
_EDGES = {"returned": "#1a9850", "finished": "#4575b4", "displaced": "#b35806", "running": "#2b8cbe"}


def beam_figure(record: Record) -> Figure:
    """Draw a record's tree: each column sorted by score, the path to the record's own result in green.

    Raises `RecordError` if the record has no tree, `MissingExtraError` without the `plot` extra.
    """
    if not record.tree:
        raise RecordError("the record has no tree of beams: it was not made by a beam search")
    places = places_of(record)
    steps = max(node.length for node in record.tree)
    rows = 1 + max(row for _, row in places.values())
    page = Page(max(7.0, 2 * _LEFT + steps * _STEP + _WIDTH), _TOP + rows * _ROW + _EDGE, "beam_figure")
    _heading(page, record)
    for step in range(1, steps + 1):
        page.text((_LEFT + step * _STEP + _WIDTH / 2, _TOP - 0.2), str(step - 1), size=8, color=MUTED, align="center")
    own = {node.id for node in record.path()} if record.returned is not None else set()
    for node in record.tree:
        if node.parent is not None:
            _line(page, _corner(places[node.parent]), _corner(places[node.id]), is_own=node.id in own)
        _box(page, record, node, _corner(places[node.id]), is_own=node.id in own)
    return page.figure


def _heading(page: Page, record: Record) -> None:
    prompt = shortened(drawable(paragraph(passage(record.tokens, record.prompt_ids))), _PROMPT)
    room = float(page.figure.get_size_inches()[0]) - 2 * _LEFT
    page.text((_LEFT, 0.35), f"{record.strategy.replace('_', ' ')}, {len(record.tree) - 1} hypotheses", size=13,
              bold=True, room=room)  # fmt: skip
    page.text((_LEFT, 0.65), f"after “{prompt}”", size=9, color=MUTED, room=room)
    page.text((_LEFT, 0.88), "below each token its score; the path to the result is green", size=8.5, color=MUTED)


def _corner(place: tuple[int, int]) -> Point:
    column, row = place
    return _LEFT + column * _STEP, _TOP + row * _ROW


def _line(page: Page, start: Point, end: Point, *, is_own: bool) -> None:
    points = [
        (start[0] + _WIDTH, start[1] + _HEIGHT / 2),
        (start[0] + _WIDTH + 0.12, start[1] + _HEIGHT / 2),
        (end[0] - 0.12, end[1] + _HEIGHT / 2),
        (end[0], end[1] + _HEIGHT / 2),
    ]
    page.line(points, color=MLP if is_own else FAINT, width=2.0 if is_own else 0.9, arrow=False)


def _box(page: Page, record: Record, node: Hypothesis, corner: Point, *, is_own: bool) -> None:
    x, y = corner
    gone = node.fate in ("cut", "displaced") and not is_own
    edge = MLP if is_own else _EDGES.get(node.fate, FAINT)
    page.box(corner, _WIDTH, _HEIGHT, fill=MLP_FILL if is_own else PAPER, edge=edge, line=1.6 if is_own else 0.9)
    name = "prompt" if node.token is None else shortened(drawable(token_text(record.tokens, node.token)), _LONGEST)
    page.text((x + 0.07, y + 0.14), name, size=8, mono=True, color=MUTED if gone else INK, room=_WIDTH - 0.14)
    below = "" if node.token is None else f"{node.score:.2f}"
    if node.fate in ("finished", "returned") and node.final_score is not None:
        below += f" → {node.final_score:.2f}"
    end = fate(node).partition(",")[0].partition(" in ")[0] if gone else ""
    page.text((x + 0.07, y + 0.29), f"{below} {end}".strip(), size=6.5, color=MUTED, room=_WIDTH - 0.14)
