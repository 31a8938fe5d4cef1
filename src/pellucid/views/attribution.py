"""Direct logit attribution: bars for the largest contributions to a logit, and all heads as a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from pellucid import display
from pellucid.lens.results import LogitAttribution, LogitPart
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Grid, Panel, Picture
from pellucid.views.panels.scales import signed_scale, signed_text
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRONGEST = 16


def logit_attribution_picture(attribution: LogitAttribution, strongest: int = STRONGEST) -> Picture:
    """Bars of the parts with the largest contributions of either sign, a grid of all heads, and bars of the MLPs."""
    shown = attribution.strongest(strongest)
    left_out = len(attribution) - len(shown)
    rest = attribution.total - sum(part.value for part in shown)
    note = f"{left_out} more parts: {signed_text(rest)} together" if left_out else ""
    bars = [Bar(part_label(part), part.value, _activation(part)) for part in shown]
    panels: list[Panel] = [Bars(f"the {len(shown)} strongest of {len(attribution)} parts", bars, signed_text, note)]
    if any(part.kind == "head" for part in attribution):
        panels.append(_heads(attribution))
    mlps = [Bar(f"MLP {part.layer}", part.value) for part in attribution if part.kind == "mlp"]
    if mlps:
        panels.append(Bars("MLPs", mlps, signed_text))
    target = visible(attribution.target, attribution.target_id)
    what = f"the logit of {target}"
    if attribution.against_id is not None:
        what = f"the logit of {target} minus that of {visible(attribution.against, attribution.against_id)}"
    place = attribution.position
    after = visible(attribution.tokens[place], attribution.ids[place])
    notes = [f"after position {place}, {after}: {attribution.logit:.3f}; the parts sum to {attribution.total:.3f}"]
    return Picture(what, panels, notes)


def _activation(part: LogitPart) -> str:
    return "" if part.name == part_label(part) else part.name


def part_label(part: LogitPart) -> str:
    """A part's usual short name, such as L5H1 or MLP 3. Other parts keep their own names."""
    if part.kind == "head":
        return f"L{part.layer}H{part.head}"
    if part.kind == "mlp":
        return f"MLP {part.layer}"
    return "positions" if part.kind == "pos_embed" else "token" if part.kind == "embed" else part.name


def _heads(attribution: LogitAttribution) -> Grid:
    heads = attribution.heads
    rows, columns = (tuple(str(number) for number in range(count)) for count in heads.shape)
    scale = signed_scale("logit", heads)
    return Grid("attention heads", "layer", "head", rows, columns, np.asarray(heads), scale, keep="first")


@display.terminal.register(LogitAttribution)
def logit_attribution_view(attribution: LogitAttribution, strongest: int = STRONGEST) -> Group:
    return picture_view(logit_attribution_picture(attribution, strongest))


@display.html.register(LogitAttribution)
def logit_attribution_html(attribution: LogitAttribution, strongest: int = STRONGEST) -> str:
    return picture_html(logit_attribution_picture(attribution, strongest))


def logit_attribution_figure(attribution: LogitAttribution, strongest: int = STRONGEST) -> Figure:
    """Draw the parts of a logit. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(logit_attribution_picture(attribution, strongest), "logit_attribution_figure")
