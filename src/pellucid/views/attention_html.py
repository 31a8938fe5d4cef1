"""Attention patterns as HTML: one head as a grid, several heads as small images with a tooltip for each row."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid import display
from pellucid.lens.results import AttentionPatterns
from pellucid.views.attention import attention_notes, attention_scale, attention_title, drawn_pattern, one_head
from pellucid.views.labels import numbered, shortened, token_labels
from pellucid.views.panels.html import legend_html, picture_html, view_html
from pellucid.views.panels.pixels import pixels_uri, pooled
from pellucid.views.panels.scales import STRONGEST_MARK, Scale, share_text

# Side of one pattern in CSS pixels, among the heads of one layer and among the heads of all layers.
_AMONG_FEW, _AMONG_MANY = 180, 68
_PIXELS = 200  # side of the image of one pattern
# A row's tooltip names this many tokens. Pages with more rows than the second number have no tooltips.
_NAMED, _MOST_ROWS = 3, 16_000


@display.html.register(AttentionPatterns)
def attention_html(patterns: AttentionPatterns) -> str:
    layers, heads = patterns.patterns.shape[:2]
    if layers == heads == 1:
        return picture_html(one_head(patterns))
    tokens = [shortened(label, 24) for label in numbered(token_labels(patterns.tokens, patterns.ids))]
    has_tooltips = layers * heads * len(tokens) <= _MOST_ROWS
    scale = attention_scale()
    side = _AMONG_FEW if layers == 1 else _AMONG_MANY
    lines = []
    for layer, name in enumerate(patterns.layers):
        pictures = "".join(
            _small(
                patterns.patterns[layer, head],
                f"layer {name}, head {number}",
                tokens,
                scale,
                side,
                has_tooltips=has_tooltips,
            )
            for head, number in enumerate(patterns.heads)
        )
        lines.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px;margin:6px 0">{pictures}</div>')
    notes = attention_notes(
        patterns, "hover over a row to see the tokens that it attends to most" if has_tooltips else ""
    )
    notes_html = "".join(f'<div class="faint">{escape(note)}</div>' for note in notes)
    head = f'<div class="title">{escape(attention_title(patterns))}</div>{notes_html}'
    return view_html(f"{head}{''.join(lines)}{legend_html(scale, STRONGEST_MARK)}")


def _small(
    pattern: NDArray[Any], name: str, tokens: Sequence[str], scale: Scale, side: int, *, has_tooltips: bool
) -> str:
    """One pattern as an image: a pixel for each weight, or for each block of weights if the text is long."""
    count = len(tokens)
    image = pixels_uri(pooled(drawn_pattern(pattern), _PIXELS, _PIXELS), scale)
    rows = "".join(
        f'<rect y="{row}" width="{count}" height="1" fill="transparent">'
        f"<title>{escape(_tooltip(pattern, row, name, tokens))}</title></rect>"
        for row in range(count if has_tooltips else 0)
    )
    return (
        f'<div><div class="faint" style="font:11px ui-monospace,monospace">{escape(_brief(name))}</div>'
        f'<svg width="{side}" height="{side}" viewBox="0 0 {count} {count}" preserveAspectRatio="none" role="img" '
        f'aria-label="attention of {escape(name)}" style="display:block;outline:1px solid rgba(128,128,128,.4)">'
        f'<image href="{image}" width="{count}" height="{count}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated"/>{rows}</svg></div>'
    )


def _brief(name: str) -> str:
    """L3H5 for "layer 3, head 5"."""
    return name.replace("layer ", "L").replace(", head ", "H")


def _tooltip(pattern: NDArray[Any], row: int, name: str, tokens: Sequence[str]) -> str:
    """The tooltip of a row: the tokens that it attends to most."""
    order = np.argsort(-pattern[row], kind="stable")[:_NAMED].tolist()
    seen = [f"{share_text(float(pattern[row, key]))} {tokens[key]}" for key in order if pattern[row, key] > 0]
    return "\n".join([f"{name}: {tokens[row]} attends to", *seen])
