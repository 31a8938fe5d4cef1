"""Panels as HTML: self-contained fragments without scripts, legible on light and dark pages.

Colours are translucent backgrounds, so that the page's text stays readable. Cells and tokens have their details in
tooltips.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pellucid.views.labels import running_text
from pellucid.views.panels.picture import Bar, Bars, Grid, Panel, Picture, TokenText
from pellucid.views.panels.pixels import pixels_uri
from pellucid.views.panels.scales import BLUE, ORANGE, STRONGEST_MARK, STRONGEST_TINT, Scale

# A grid with more columns than this has its numbers in tooltips only; one with more cells is drawn as one image.
_NUMBERED_COLUMNS = 26
_MOST_CELLS = 20_000

STYLE = """<style>
.pellucid-view{font:13px/1.5 system-ui,sans-serif;max-width:100%;color:inherit;text-align:left}
.pellucid-view .title{font-weight:600;font-size:14px}
.pellucid-view .name{font-weight:600;margin:12px 0 4px}
.pellucid-view .faint{opacity:.75}
.pellucid-view .wide{overflow-x:auto;max-width:100%}
.pellucid-view .text{white-space:pre-wrap;font-size:15px;line-height:1.8;margin:4px 0;overflow-wrap:anywhere}
.pellucid-view .text span{border-radius:3px;box-shadow:inset 1px 0 rgba(128,128,128,.35);unicode-bidi:isolate}
.pellucid-view .legend span{margin-right:10px;font:12px ui-monospace,monospace}
.pellucid-view .legend i{margin-right:8px}
.pellucid-view .legend b{display:inline-block;width:14px;height:11px;border-radius:2px;margin-right:4px;\
vertical-align:-1px;outline:1px solid rgba(128,128,128,.35)}
.pellucid-view table{border-collapse:separate;border-spacing:1px;border:0;margin:4px 0;font-size:12px;color:inherit;\
width:auto}
.pellucid-view tr,.pellucid-view thead,.pellucid-view tbody{background:none!important;border:0}
.pellucid-view td,.pellucid-view th{border:0;padding:1px 6px;font-family:ui-monospace,monospace;white-space:pre;\
font-weight:400;text-align:right;unicode-bidi:isolate;max-width:22em;overflow:hidden;text-overflow:ellipsis}
.pellucid-view th{opacity:.75;background:none;position:sticky;left:0}
.pellucid-view .left td,.pellucid-view td.left,.pellucid-view th.left{text-align:left}
.pellucid-view .heat td{padding:0;min-width:14px;height:16px}
.pellucid-view th.up{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;padding:4px 0;max-height:16em;\
max-width:none;vertical-align:bottom}
.pellucid-view td.bar{min-width:220px;padding:0;position:relative}
.pellucid-view td.bar i{position:absolute;top:3px;bottom:3px;border-radius:2px;min-width:1px}
.pellucid-view td.bar b{position:absolute;top:0;bottom:0;border-left:1px solid rgba(128,128,128,.7)}
.pellucid-view summary{cursor:pointer}
.pellucid-view img{image-rendering:pixelated;display:block;background:rgba(128,128,128,.1)}
</style>"""


def picture_html(picture: Picture) -> str:
    """A picture as an HTML fragment with its style sheet."""
    notes = "".join(f'<div class="faint">{escape(note)}</div>' for note in picture.notes)
    body = "".join(panel_html(panel) for panel in picture.panels)
    return view_html(f'<div class="title">{escape(picture.title)}</div>{notes}{body}')


def view_html(body: str) -> str:
    """An HTML fragment with the style sheet that all views share."""
    return f'<div class="pellucid-view">{STYLE}{body}</div>'


def panel_html(panel: Panel) -> str:
    """A panel as HTML, to be placed within `view_html`."""
    if isinstance(panel, TokenText):
        return token_text_html(panel)
    return bars_html(panel) if isinstance(panel, Bars) else grid_html(panel)


def token_text_html(panel: TokenText) -> str:
    """The text with a background colour for each token, and the legend of the scale."""
    spans = []
    for number, (token, token_id, value) in enumerate(zip(panel.tokens, panel.ids, panel.values, strict=True)):
        shown = escape(running_text(token, token_id))
        tooltip = f' title="{escape(panel.tooltips[number])}"' if panel.tooltips else ""
        tint = f' style="background:{panel.scale.css(value)}"' if value is not None else ""
        quiet = ' class="faint"' if value is None and number < panel.quiet else ""
        spans.append(f"<span{quiet}{tint}{tooltip}>{shown}</span>")
    return f'{_name(panel.title)}<div class="text">{"".join(spans)}</div>{legend_html(panel.scale)}'


def legend_html(scale: Scale, strongest: float = STRONGEST_TINT) -> str:
    """Sample values of a scale beside their colours."""
    samples = "".join(
        f'<span><b style="background:{scale.css(value, strongest)}"></b>{escape(scale.text(value) or "0")}</span>'
        for value in scale.samples
    )
    return f'<div class="legend"><i class="faint">{escape(scale.name)}</i> {samples}</div>'


def bars_html(panel: Bars) -> str:
    """Bars from a common zero, with labels on the left and values on the right."""
    lowest = min((min(0.0, bar.value) for bar in panel.bars), default=0.0)
    highest = max((max(0.0, bar.value) for bar in panel.bars), default=0.0)
    rows = "".join(_bar(panel, bar, lowest, (highest - lowest) or 1.0) for bar in panel.bars)
    rest = f'<div class="faint">{escape(panel.left_out)}</div>' if panel.left_out else ""
    return f"{_name(panel.title)}<table><tbody>{rows}</tbody></table>{rest}"


def _bar(panel: Bars, bar: Bar, lowest: float, span: float) -> str:
    zero = -lowest / span
    length = abs(bar.value) / span
    start = zero - length if bar.value < 0 else zero
    red, green, blue = bar.hue or (BLUE if bar.value >= 0 else ORANGE)
    axis = f'<b style="left:{100 * zero:.2f}%"></b>' if panel.has_both_signs else ""
    drawn = f'<i style="left:{100 * start:.2f}%;width:{100 * length:.2f}%;background:rgb({red},{green},{blue})"></i>'
    note = f'<td class="left faint">{escape(bar.note)}</td>' if bar.note else ""
    return (
        f'<tr><td class="left">{escape(bar.label)}</td><td class="bar">{drawn}{axis}</td>'
        f"<td>{escape(panel.text(bar.value))}</td>{note}</tr>"
    )


def grid_html(panel: Grid) -> str:
    """A grid of coloured cells. A detail panel is collapsed."""
    rows, columns = panel.shape
    body = _image_of(panel) if rows * columns > _MOST_CELLS else _cells(panel)
    strongest = STRONGEST_TINT if _is_written(panel) else STRONGEST_MARK
    body = f'<div class="wide">{body}</div>{legend_html(panel.scale, strongest)}'
    if not panel.detail:
        return _name(panel.title) + body
    return f'<details><summary class="name">{escape(panel.title)}</summary>{body}</details>'


def _is_written(panel: Grid) -> bool:
    """Whether there is text in the cells."""
    return panel.texts is not None or len(panel.columns) <= _NUMBERED_COLUMNS


def _cells(panel: Grid) -> str:
    rows, columns = panel.shape
    written = _is_written(panel)
    strongest = STRONGEST_TINT if written else STRONGEST_MARK
    upright = panel.texts is None and max(map(len, panel.columns), default=0) > 4
    kind = ' class="up"' if upright else ' class="left"' if panel.texts is not None else ""
    head = "".join(f"<th{kind}>{escape(panel.column_label(column))}</th>" for column in range(columns))
    lines = []
    for row in range(rows):
        cells = []
        for column in range(columns):
            tint = panel.scale.css(float(panel.values[row, column]), strongest)
            shown = escape(panel.cell(row, column)) if written else ""
            cells.append(
                f'<td style="background:{tint}" title="{escape(panel.cell_tooltip(row, column))}">{shown}</td>'
            )
        lines.append(f'<tr><th class="left">{escape(panel.row_label(row))}</th>{"".join(cells)}</tr>')
    style = "left" if panel.texts is not None else "" if written else "heat"
    corner = f'<th class="left">{escape(panel.row_name)} ↓ {escape(panel.column_name)} →</th>'
    return f'<table class="{style}"><thead><tr>{corner}{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _image_of(panel: Grid) -> str:
    """The grid as an image with a pixel for each cell. The tooltip of a row has its largest values."""
    rows, columns = panel.shape
    width = max(1, min(16, 960 // columns))
    height = width if rows == columns else max(4, min(16, 640 // rows))
    image = (
        f'<image href="{pixels_uri(panel.values, panel.scale)}" width="{columns * width}" height="{rows * height}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
    strips = "".join(
        f'<rect y="{row * height}" width="{columns * width}" height="{height}" fill="transparent">'
        f"<title>{escape(_largest_of(panel, row))}</title></rect>"
        for row in range(rows)
    )
    return f'<svg width="{columns * width}" height="{rows * height}" role="img">{image}{strips}</svg>'


def _largest_of(panel: Grid, row: int, count: int = 5) -> str:
    values = panel.values[row]
    order = sorted(range(len(values)), key=lambda column: -abs(float(values[column])))[:count]
    lines = [f"{panel.column_label(column)}: {panel.scale.text(float(values[column]))}" for column in order]
    return "\n".join([f"{panel.row_name} {panel.row_label(row)}, the largest:", *lines])


def table_html(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of text cells, to be placed within `view_html`. left: the number of left-aligned columns."""
    kinds = [' class="left"' if number < left else "" for number in range(len(titles))]
    head = "".join(f"<th{kind}>{escape(title)}</th>" for kind, title in zip(kinds, titles, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _name(title: str) -> str:
    return f'<div class="name">{escape(title)}</div>' if title else ""
