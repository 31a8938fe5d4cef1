"""Head scores, head norms and norms of the residual stream, as grids of layers by heads or positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from pellucid import display
from pellucid.lens.results import HeadNorms, HeadScores, ResidualNorms
from pellucid.views.labels import token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Grid, Picture
from pellucid.views.panels.scales import GREEN, ORANGE, norm_scale, share_scale, share_text
from pellucid.views.panels.terminal import picture_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RANKED = 10
_ATTENDED_TO = {
    "induction": "tokens that followed earlier occurrences of the current token",
    "previous_token": "the previous token",
    "duplicate_token": "earlier occurrences of the current token",
}


def head_scores_picture(scores: HeadScores) -> Picture:
    """A grid of all heads, and bars of the highest scores."""
    rows, columns = (_numbers(count) for count in scores.scores.shape)
    grid = Grid("", "layer", "head", rows, columns, scores.scores, share_scale("score"), keep="first")
    best = [Bar(str(head), head.score, hue=ORANGE) for head in scores.ranked(_RANKED)]
    name = scores.kind.replace("_", " ")
    notes = [f"the mean attention to {_ATTENDED_TO[scores.kind]}, over {scores.counted:,} pairs of positions"]
    return Picture(f"{name} scores", [grid, Bars("the highest", best, share_text)], notes)


def head_norms_picture(norms: HeadNorms, position: int = -1) -> Picture:
    """A grid of each head's output norm at one position (default: the last), and all positions as a detail."""
    layers, heads, count = norms.norms.shape
    place = range(count)[position]
    tokens = token_labels(norms.tokens, norms.ids)
    at = norms.norms[:, :, place]
    grid = Grid(f"at position {place}, {tokens[place]}", "layer", "head", _numbers(layers), _numbers(heads), at,
                norm_scale("norm", at, ORANGE), keep="first")  # fmt: skip
    names = [f"L{layer}H{head}" for layer in range(layers) for head in range(heads)]
    everywhere = norms.norms.reshape(layers * heads, count)
    detail = Grid("at every position", "head", "position", names, tokens, everywhere,
                  norm_scale("norm", everywhere, ORANGE), detail=True, numbered="columns")  # fmt: skip
    return Picture("norm of each head's output", [grid, detail])


def residual_norms_picture(norms: ResidualNorms) -> Picture:
    """Norms of the residual stream at every block, and of what attention and MLPs add to it."""
    tokens = token_labels(norms.tokens, norms.ids)
    stream = Grid("residual stream", "where", "position", [_short(name) for name in norms.names], tokens, norms.stream,
                  norm_scale("norm", norms.stream), numbered="columns")  # fmt: skip
    layers = _numbers(len(norms.attention))
    both = np.concatenate([norms.attention, norms.mlp])
    written = [
        Grid(
            f"output of {name}",
            "layer",
            "position",
            layers,
            tokens,
            values,
            norm_scale("norm", both, hue),
            numbered="columns",
        )
        for name, values, hue in (("attention", norms.attention, ORANGE), ("the MLP", norms.mlp, GREEN))
    ]
    return Picture("norms of the residual stream, and of what is added to it", [stream, *written])


def _short(name: str) -> str:
    """3 post for blocks.3.resid_post."""
    return name.removeprefix("blocks.").replace(".resid_", " ")


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


@display.terminal.register(HeadScores)
def head_scores_view(scores: HeadScores) -> Group:
    return picture_view(head_scores_picture(scores))


@display.html.register(HeadScores)
def head_scores_html(scores: HeadScores) -> str:
    return picture_html(head_scores_picture(scores))


def head_scores_figure(scores: HeadScores) -> Figure:
    """Draw heads' scores. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(head_scores_picture(scores), "head_scores_figure")


@display.terminal.register(HeadNorms)
def head_norms_view(norms: HeadNorms, position: int = -1) -> Group:
    return picture_view(head_norms_picture(norms, position))


@display.html.register(HeadNorms)
def head_norms_html(norms: HeadNorms, position: int = -1) -> str:
    return picture_html(head_norms_picture(norms, position))


def head_norms_figure(norms: HeadNorms, position: int = -1) -> Figure:
    """Draw heads' norms. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(head_norms_picture(norms, position), "head_norms_figure")


@display.terminal.register(ResidualNorms)
def residual_norms_view(norms: ResidualNorms) -> Group:
    return picture_view(residual_norms_picture(norms))


@display.html.register(ResidualNorms)
def residual_norms_html(norms: ResidualNorms) -> str:
    return picture_html(residual_norms_picture(norms))


def residual_norms_figure(norms: ResidualNorms) -> Figure:
    """Draw the norms of the residual stream. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(residual_norms_picture(norms), "residual_norms_figure")
