"""Attention patterns as HTML: one head as a grid, several as small pictures whose rows tell what they look at."""

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

# Pixels of a page: a side of one pattern among a layer's, and among all.
_AMONG_FEW, _AMONG_MANY = 180, 68
_PIXELS = 200
# Rows tell the tokens they look at most while there are not more of them than this on the page.
_TOLD, _MOST_TELLING = 3, 16_000


@display.html.register(AttentionPatterns)
def attention_html(patterns: AttentionPatterns) -> str:
    layers, heads = patterns.patterns.shape[:2]
    if layers == heads == 1:
        return picture_html(one_head(patterns))
    tokens = [shortened(label, 24) for label in numbered(token_labels(patterns.tokens, patterns.ids))]
    tells = layers * heads * len(tokens) <= _MOST_TELLING
    scale = attention_scale()
    side = _AMONG_FEW if layers == 1 else _AMONG_MANY
    lines = []
    for layer, name in enumerate(patterns.layers):
        pictures = "".join(
            _small(patterns.patterns[layer, head], f"layer {name}, head {number}", tokens, scale, side, tells=tells)
            for head, number in enumerate(patterns.heads)
        )
        lines.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px;margin:6px 0">{pictures}</div>')
    notes = attention_notes(patterns, "a row tells under the pointer what it looks at most" if tells else "")
    said = "".join(f'<div class="faint">{escape(note)}</div>' for note in notes)
    head = f'<div class="title">{escape(attention_title(patterns))}</div>{said}'
    return view_html(f"{head}{''.join(lines)}{legend_html(scale, STRONGEST_MARK)}")


def _small(pattern: NDArray[Any], name: str, tokens: Sequence[str], scale: Scale, side: int, *, tells: bool) -> str:
    """One pattern as a picture of a pixel for each weight, or for each block of a long one."""
    count = len(tokens)
    image = pixels_uri(pooled(drawn_pattern(pattern), _PIXELS, _PIXELS), scale)
    rows = "".join(
        f'<rect y="{row}" width="{count}" height="1" fill="transparent">'
        f"<title>{escape(_told(pattern, row, name, tokens))}</title></rect>"
        for row in range(count if tells else 0)
    )
    return (
        f'<div><div class="faint" style="font:11px ui-monospace,monospace">{escape(_brief(name))}</div>'
        f'<svg width="{side}" height="{side}" viewBox="0 0 {count} {count}" preserveAspectRatio="none" role="img" '
        f'aria-label="attention of {escape(name)}" style="display:block;outline:1px solid rgba(128,128,128,.4)">'
        f'<image href="{image}" width="{count}" height="{count}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated"/>{rows}</svg></div>'
    )


def _brief(name: str) -> str:
    """layer 3, head 5 as L3H5."""
    return name.replace("layer ", "L").replace(", head ", "H")


def _told(pattern: NDArray[Any], row: int, name: str, tokens: Sequence[str]) -> str:
    """What a row looks at most."""
    order = np.argsort(-pattern[row], kind="stable")[:_TOLD].tolist()
    seen = [f"{share_text(float(pattern[row, key]))} {tokens[key]}" for key in order if pattern[row, key] > 0]
    return "\n".join([f"{name}: {tokens[row]} looks at", *seen])
