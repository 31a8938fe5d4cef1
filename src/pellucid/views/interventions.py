"""What changes when activations are changed: patching sweeps and ablations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pellucid import display
from pellucid.lens.results import Ablation, PatchingSweep
from pellucid.views.labels import token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Grid, Panel, Picture, TokenText
from pellucid.views.panels.scales import BLUE, number_text, recovery_scale, share_text, signed_scale, signed_text
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

    from pellucid.decoding.results import PredictedToken

_NAMED = 6  # components in a title


def patching_picture(sweep: PatchingSweep) -> Picture:
    """The share of the metric that each patch restores; the metric itself where both runs have the same."""
    recovered = sweep.recovered
    has_shares = bool(np.isfinite(recovered).all())
    values = recovered if has_shares else sweep.values
    scale = recovery_scale() if has_shares else signed_scale(sweep.metric, sweep.values)
    rows = tuple(map(str, range(values.shape[0])))
    columns = _columns(sweep)

    def told(row: int, column: int) -> str:
        value = number_text(float(sweep.values[row, column]))
        place = f"{column} {columns[column]}" if sweep.axes[1] == "position" else columns[column]
        lines = [f"layer {rows[row]}, {sweep.axes[1]} {place}", f"{sweep.metric} {value}"]
        return "\n".join([*lines, f"recovered {scale.text(float(values[row, column]))}"] if has_shares else lines)

    if sweep.axes[1] == "position":
        grid = Grid("", "layer", "position", rows, columns, values, scale, told=told, numbered="columns")
    else:
        grid = Grid("", "layer", "head", rows, columns, values, scale, told=told, keep="first")
    runs = f"{sweep.metric}: {number_text(sweep.clean)} clean, {number_text(sweep.corrupted)} corrupted"
    what = "how much of it each patch restores" if has_shares else "both runs have the same; the values themselves"
    return Picture(f"patching {sweep.component}, {sweep.axes[0]} by {sweep.axes[1]}", [grid], [f"{runs}; {what}"])


def _columns(sweep: PatchingSweep) -> tuple[str, ...]:
    """Heads by number; positions by the clean text's token, and the corrupted one's where it is another."""
    if sweep.axes[1] == "head":
        return tuple(map(str, range(sweep.values.shape[1])))
    clean, corrupted = (
        token_labels(tokens, ids)
        for tokens, ids in ((sweep.clean_tokens, sweep.clean_ids), (sweep.corrupted_tokens, sweep.corrupted_ids))
    )
    return tuple(a if a == b else f"{a} ← {b}" for a, b in zip(clean, corrupted, strict=True))


def ablation_picture(ablation: Ablation) -> Picture:
    """The text coloured by how much each token's loss rose, and what comes next with and without."""
    changes = (ablation.losses_after - ablation.losses_before).tolist()
    labels = token_labels(ablation.tokens, ablation.ids)
    told = [f"{labels[0]}: no loss"] if labels else []
    told += [
        f"{label}: loss {before:.3f} → {after:.3f} nats"
        for label, before, after in zip(
            labels[1:], ablation.losses_before.tolist(), ablation.losses_after.tolist(), strict=True
        )
    ]
    values = ([None] if labels else []) + changes
    scale = signed_scale("change of loss", changes)
    panels: list[Panel] = [
        TokenText("what the loss of each token becomes", ablation.tokens, ablation.ids, values, scale, told)
    ]
    for title, rows in (("next, whole", ablation.before), ("next, ablated", ablation.after)):
        panels.append(next_token_bars(title, rows))
    names = ", ".join(ablation.components[:_NAMED])
    more = len(ablation.components) - _NAMED
    loss = "a single token has no loss"
    if len(changes):
        rise = signed_text(ablation.loss_increase)
        loss = f"loss {ablation.loss_before:.3f} → {ablation.loss_after:.3f} nats a token ({rise})"
    return Picture(f"{ablation.method} ablation of {names}{f' and {more} more' if more > 0 else ''}", panels, [loss])


def next_token_bars(title: str, rows: tuple[PredictedToken, ...]) -> Bars:
    """The likeliest next tokens as bars."""
    bars = [Bar(visible(row.token, row.id), row.probability, f"id {row.id}", BLUE) for row in rows]
    return Bars(title, bars, share_text)


@display.terminal.register(PatchingSweep)
def patching_view(sweep: PatchingSweep) -> Group:
    return picture_view(patching_picture(sweep))


@display.html.register(PatchingSweep)
def patching_html(sweep: PatchingSweep) -> str:
    return picture_html(patching_picture(sweep))


def patching_figure(sweep: PatchingSweep) -> Figure:
    """Draw a sweep. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(patching_picture(sweep), "patching_figure")


@display.terminal.register(Ablation)
def ablation_view(ablation: Ablation) -> Group:
    return picture_view(ablation_picture(ablation))


@display.html.register(Ablation)
def ablation_html(ablation: Ablation) -> str:
    return picture_html(ablation_picture(ablation))


def ablation_figure(ablation: Ablation) -> Figure:
    """Draw an ablation. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(ablation_picture(ablation), "ablation_figure")
