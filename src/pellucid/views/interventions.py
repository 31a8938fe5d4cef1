"""Patching sweeps and ablations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from pellucid import display
from pellucid.lens.results import Ablation, PatchingSweep
from pellucid.views.labels import token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Grid, Panel, Picture, TokenText
from pellucid.views.panels.scales import BLUE, Scale, number_text, recovery_scale, share_text, signed_scale, signed_text
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pellucid.decoding.results import PredictedToken
    from pellucid.engine import FloatArray

_NAMED = 6  # number of components in a title
_STRONGEST = 10  # number of places with a bar


def patching_picture(sweep: PatchingSweep) -> Picture:
    """The share of the metric that each patch restores; the metric itself if it is equal in both runs.

    For heads by position: each head at its strongest position, the strongest places, and every place as a detail.
    """
    recovered = sweep.recovered
    has_shares = bool(np.isfinite(recovered[np.isfinite(sweep.values)]).all())
    values = recovered if has_shares else sweep.values
    scale = recovery_scale() if has_shares else signed_scale(sweep.metric, sweep.values)
    runs = f"{sweep.metric}: {number_text(sweep.clean)} clean, {number_text(sweep.corrupted)} corrupted"
    shown = "the share that each patch restores" if has_shares else "both runs have the same; the metric itself"
    panels = _heads_by_position(sweep, values, scale) if len(sweep.axes) == 3 else [_layers(sweep, values, scale)]
    return Picture(f"patching {sweep.component}, {' by '.join(sweep.axes)}", panels, [f"{runs}; {shown}"])


def _layers(sweep: PatchingSweep, values: FloatArray, scale: Scale) -> Grid:
    """A grid of layers by positions or heads."""
    rows = _numbers(values.shape[0])
    by_position = sweep.axes[1] == "position"
    columns = _position_labels(sweep) if by_position else _numbers(values.shape[1])

    def tooltip(row: int, column: int) -> str:
        place = f"{column} {columns[column]}" if by_position else columns[column]
        return _tooltip(sweep, scale, f"layer {row}, {sweep.axes[1]} {place}", (row, column), values)

    if by_position:
        return Grid("", "layer", "position", rows, columns, values, scale, tooltip=tooltip, numbered="columns")
    return Grid("", "layer", "head", rows, columns, values, scale, tooltip=tooltip, keep="first")


def _heads_by_position(sweep: PatchingSweep, values: FloatArray, scale: Scale) -> list[Panel]:
    n_layer, count, n_head = values.shape
    positions = _position_labels(sweep)
    strength = np.where(np.isnan(values), -1, np.abs(values))
    best = strength.argmax(axis=1)  # [layer, head]
    at_best = np.take_along_axis(values, best[:, None], axis=1)[:, 0]

    def tooltip(layer: int, head: int, position: int) -> str:
        where = f"layer {layer}, head {head}, position {position} {positions[position]}"
        return _tooltip(sweep, scale, where, (layer, position, head), values)

    grid = Grid(
        "each head at its strongest position", "layer", "head", _numbers(n_layer), _numbers(n_head), at_best,
        scale, tooltip=lambda layer, head: tooltip(layer, head, int(best[layer, head])), keep="first",
    )  # fmt: skip
    order = np.argsort(-strength, axis=None, kind="stable")[:_STRONGEST]
    places = [tuple(map(int, np.unravel_index(place, values.shape))) for place in order]
    bars = [
        Bar(f"L{layer}H{head} at {position} {positions[position]}", float(values[layer, position, head]))
        for layer, position, head in places
        if strength[layer, position, head] >= 0
    ]
    names = [f"L{layer}H{head}" for layer in range(n_layer) for head in range(n_head)]
    everywhere = values.transpose(0, 2, 1).reshape(-1, count)  # [heads of all layers, position]
    detail = Grid(
        "every head at every position", "head", "position", names, positions, everywhere, scale,
        tooltip=lambda row, column: tooltip(row // n_head, row % n_head, column), detail=True, numbered="columns",
    )  # fmt: skip
    return [grid, Bars("the strongest places", bars, scale.text), detail]


def _tooltip(sweep: PatchingSweep, scale: Scale, where: str, cell: tuple[int, ...], values: FloatArray) -> str:
    """The tooltip of a patch."""
    tooltip = f"{where}\n{sweep.metric} {number_text(float(sweep.values[cell]))}"
    return tooltip if values is sweep.values else f"{tooltip}\nrecovered {scale.text(float(values[cell]))}"


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _position_labels(sweep: PatchingSweep) -> tuple[str, ...]:
    """The clean text's tokens, with the corrupted text's token where they differ."""
    clean, corrupted = (
        token_labels(tokens, ids)
        for tokens, ids in ((sweep.clean_tokens, sweep.clean_ids), (sweep.corrupted_tokens, sweep.corrupted_ids))
    )
    return tuple(a if a == b else f"{a} ← {b}" for a, b in zip(clean, corrupted, strict=True))


def ablation_picture(ablation: Ablation) -> Picture:
    """The text coloured by the rise of each token's loss, and the next tokens before and after the ablation."""
    changes = (ablation.losses_after - ablation.losses_before).tolist()
    labels = token_labels(ablation.tokens, ablation.ids)
    tooltips = [f"{labels[0]}: no loss"] if labels else []
    tooltips += [
        f"{label}: loss {before:.3f} → {after:.3f} nats"
        for label, before, after in zip(
            labels[1:], ablation.losses_before.tolist(), ablation.losses_after.tolist(), strict=True
        )
    ]
    values = ([None] if labels else []) + changes
    scale = signed_scale("change of loss", changes)
    panels: list[Panel] = [
        TokenText("change of each token's loss", ablation.tokens, ablation.ids, values, scale, tooltips)
    ]
    for title, rows in (("next token before", ablation.before), ("next token after", ablation.after)):
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
