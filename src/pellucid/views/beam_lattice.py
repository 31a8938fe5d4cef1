"""A beam search as inline SVG: a column for each step, a box for each hypothesis, a line to its parent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Hypothesis
from pellucid.views.record_text import fate, shown_passage, token_text
from pellucid.views.tables import percent

_WIDTH, _HEIGHT = 96, 34
_STEP, _ROW = 128, 42
_TOP, _LEFT = 26, 8
_LONGEST = 12

# Fate of a hypothesis: edge colour and opacity.
LOOKS: Mapping[str, tuple[str, float]] = {
    "extended": ("rgba(128, 128, 128, .8)", 1.0),
    "running": ("#2b8cbe", 1.0),
    "returned": ("#1a9850", 1.0),
    "finished": ("#4575b4", 1.0),
    "displaced": ("#b35806", 0.7),
    "cut": ("rgba(128, 128, 128, .6)", 0.5),
}
_OWN = "#1a9850"


def beam_lattice(record: Record) -> str:
    """Inline SVG of a record's tree, which scrolls sideways if the search is long. Each column is sorted by score. The
    path to the record's own result is green. Hypotheses have tooltips."""
    places = places_of(record)
    own = {node.id for node in record.path()} if record.returned is not None else set()
    steps = max((node.length for node in record.tree), default=0)
    rows = 1 + max(row for _, row in places.values())
    width, height = 2 * _LEFT + steps * _STEP + _WIDTH, _TOP + rows * _ROW
    parts = [
        f'<text x="{_LEFT + step * _STEP + _WIDTH / 2:.0f}" y="14" text-anchor="middle" opacity=".6">{step - 1}</text>'
        for step in range(1, steps + 1)
    ]
    nodes = sorted(record.tree, key=lambda node: node.id in own)  # draw the path to the result last, above the others
    parts += [_edge(node, places, own) for node in nodes if node.parent is not None]
    parts += [_box(record, node, places[node.id], own) for node in nodes]
    return (
        '<div style="overflow-x: auto; margin: 8px 0">'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" aria-label="the beams of the search, step by step" fill="currentColor" '
        'style="font: 12px ui-monospace, monospace; max-width: none">'
        f"{''.join(parts)}</svg></div>"
    )


def places_of(record: Record) -> dict[int, tuple[int, int]]:
    """Column and row of each hypothesis, by id. The column is its length; the rows of a column are sorted by group,
    then by descending score."""
    by_length: dict[int, list[Hypothesis]] = {}
    for node in record.tree:
        by_length.setdefault(node.length, []).append(node)
    return {
        node.id: (length, row)
        for length, nodes in by_length.items()
        for row, node in enumerate(sorted(nodes, key=lambda node: (node.group, -node.score, node.id)))
    }


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    column, row = place
    return _LEFT + column * _STEP, _TOP + row * _ROW


def _edge(node: Hypothesis, places: Mapping[int, tuple[int, int]], own: set[int]) -> str:
    assert node.parent is not None
    (x1, y1), (x2, y2) = _corner(places[node.parent]), _corner(places[node.id])
    x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
    middle = (x1 + x2) / 2
    colour, opacity = (_OWN, 1.0) if node.id in own else LOOKS[node.fate]
    if node.id not in own and node.fate not in ("cut", "displaced"):
        colour = LOOKS["extended"][0]
    return (
        f'<path d="M{x1} {y1}C{middle:.0f} {y1} {middle:.0f} {y2} {x2} {y2}" fill="none" stroke="{colour}" '
        f'stroke-width="{2.5 if node.id in own else 1.2}" opacity="{opacity}"/>'
    )


def _box(record: Record, node: Hypothesis, place: tuple[int, int], own: set[int]) -> str:
    x, y = _corner(place)
    colour, opacity = LOOKS[node.fate]
    is_own = node.id in own
    fill = "rgba(26, 152, 80, .16)" if is_own else "rgba(128, 128, 128, .08)"
    text = "prompt" if node.token is None else token_text(record.tokens, node.token)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    below = f"{node.score:.2f}" if node.token is not None else ""
    if node.fate in ("finished", "returned") and node.final_score is not None:
        below = f"{node.score:.2f} → {node.final_score:.2f}"
    weight = 2 if is_own or node.fate == "returned" else 1
    dashes = ' stroke-dasharray="3 3"' if node.fate in ("cut", "displaced") else ""
    return (
        f'<g opacity="{1.0 if is_own else opacity}"><title>{escape(_tooltip(record, node))}</title>'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{fill}" '
        f'stroke="{_OWN if is_own else colour}" stroke-width="{weight}"{dashes}/>'
        f'<text x="{x + 6}" y="{y + 14}" xml:space="preserve" '
        f'font-weight="{"bold" if is_own else "normal"}">{escape(text)}</text>'
        f'<text x="{x + 6}" y="{y + 28}" font-size="10" opacity=".7">{escape(below)}</text></g>'
    )


def _tooltip(record: Record, node: Hypothesis) -> str:
    """The tooltip of a hypothesis."""
    if node.token is None:
        return shown_passage(record.tokens, record.prompt_ids)
    ids = [one.token for one in record.path(node.id) if one.token is not None]
    lines = [shown_passage(record.tokens, ids), f"hypothesis {node.id}, id {node.token}, score {node.score:.3f}"]
    before = record.tree[node.parent or 0].expansion
    logprob = None if before is None else before.model.logprob(node.token)
    if logprob is not None:
        lines.append(f"the token's probability under the model {percent(min(1.0, math.exp(logprob)))}")
    lines.append(fate(node) or "extended")
    return "\n".join(lines)
