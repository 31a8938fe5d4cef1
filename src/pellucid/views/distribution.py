"""Figures of one next-token distribution after temperature, top-k and top-p, in panels over the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pellucid.decoding.processors import Temperature, TopK, TopP
from pellucid.decoding.shaping import ShapedComparison, ShapedDistribution, compare_sampling, shape_distribution
from pellucid.views.figures import (
    ATTENTION,
    EMBEDDING,
    FAINT,
    INK,
    MLP,
    MONO,
    MUTED,
    SANS,
    STREAM,
    blank_figure,
    drawable,
)
from pellucid.views.labels import shortened, token_labels
from pellucid.views.sampling import comparison_heading, kept_text, processor_names
from pellucid.views.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from pellucid.tokenizer import GPT2Tokenizer

# Inches: a row of bars; heights of a panel's parts and the page's margins; widths of a panel's parts.
_ROW = 0.185
_HEADER, _FOOTER, _TOP, _BOTTOM = 0.62, 0.32, 0.95, 0.15
_LABELS, _PANEL, _NUMBERS, _BETWEEN = 1.7, 2.5, 0.62, 0.25
_COLUMNS = 3
# The longest label of a token, in characters.
_NAME = 20


def sampling_figure(
    logits: ArrayLike,
    tokenizer: GPT2Tokenizer | None = None,
    *,
    temperatures: Sequence[float] = (0.5, 1.0, 2.0),
    top_k: int = 10,
    top_p: float = 0.8,
    top: int = 20,
    prompt: str | None = None,
) -> Figure:
    """Draw one distribution at several temperatures, after top-k, after top-p, and after all three.

    logits: [vocab], of one position. tokenizer: for the tokens' texts; without one, tokens are shown by id.
    top: the number of tokens to show, likeliest first. prompt: the text before the position, for the heading.
    All probabilities are over the whole vocabulary. The last panel applies the highest temperature, then top-k,
    then top-p. Raises `MissingExtraError` without the `plot` extra.
    """
    return comparison_figure(
        compare_sampling(logits, tokenizer, temperatures=temperatures, top_k=top_k, top_p=top_p, top=top, prompt=prompt)
    )


def comparison_figure(comparison: ShapedComparison) -> Figure:
    """Draw a comparison of sampling options. Raises `MissingExtraError` without the `plot` extra."""
    names = token_labels(comparison.tokens, comparison.ids)
    heading = comparison_heading(comparison)
    return _draw(heading, comparison.own, comparison.shaped, list(comparison.ids), list(names))


def temperature_figure(
    logits: ArrayLike, temperatures: Sequence[float] = (1.0, 3.0), names: Sequence[str] | None = None
) -> Figure:
    """Draw the softmax of a few logits [n] at each temperature. names: labels; default: the logits' values."""
    row = np.asarray(logits, dtype=np.float32)
    own, *shaped = shape_distribution(row, [(), *((Temperature(temperature),) for temperature in temperatures)])
    ids = list(range(len(row)))
    if names is None:
        names = [f"logit {logit:g}" for logit in row]
    return _draw("Softmax of a few logits", own, shaped, ids, list(names))


def _draw(
    heading: str, own: ShapedDistribution, shaped: Sequence[ShapedDistribution], ids: list[int], names: list[str]
) -> Figure:
    columns = min(_COLUMNS, len(shaped))
    bands = -(-len(shaped) // columns)
    rest = len(own.probabilities) - len(ids)
    body = _ROW * (len(ids) + (1.6 if rest else 0))
    band = _HEADER + body + _FOOTER
    width = _LABELS + columns * (_PANEL + _NUMBERS + _BETWEEN)
    height = _TOP + bands * band + _BOTTOM
    figure = blank_figure(width, height, "a figure of a distribution")
    figure.text(
        0.3 / width, 1 - 0.42 / height, drawable(heading), fontsize=16, fontweight="bold", color=INK,
        fontfamily=SANS, parse_math=False, verticalalignment="center",
    )  # fmt: skip
    note = "bars: after the processors    ticks: the model's own distribution"
    figure.text(
        0.3 / width, 1 - 0.74 / height, note, fontsize=9.5, color=MUTED, fontfamily=SANS, verticalalignment="center"
    )
    for number, one in enumerate(shaped):
        line, column = divmod(number, columns)
        left = _LABELS + column * (_PANEL + _NUMBERS + _BETWEEN)
        bottom = height - _TOP - line * band - _HEADER - body
        axes = figure.add_axes((left / width, bottom / height, _PANEL / width, body / height))
        panel = _Panel(axes, one, own, ids, len(ids) + (1.6 if rest else 0))
        neighbours = shaped[line * columns : (line + 1) * columns]
        panel.frame(1.04 * max(float(each.probabilities[ids].max()) for each in (own, *neighbours)))
        panel.bars()
        panel.numbers()
        if column == 0:
            panel.names([drawable(name) for name in names])
    return figure


@dataclass(frozen=True)
class _Panel:
    """One shaped distribution on its axes: a row for each token, the likeliest at the top."""

    axes: Axes
    shaped: ShapedDistribution
    own: ShapedDistribution
    ids: list[int]
    rows: float

    def frame(self, limit: float) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = self.axes
        axes.set_xlim(0, limit)
        axes.set_ylim(self.rows - 0.5, -0.5)
        axes.set_yticks([])
        axes.tick_params(axis="x", labelsize=7.5, labelcolor=MUTED, color=FAINT, length=2)
        ticks = [tick for tick in MaxNLocator(nbins=4).tick_values(0, limit) if 0 <= tick <= limit]
        axes.set_xticks(ticks, [f"{100 * tick:.3g}%" for tick in ticks])
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(FAINT)
        self._above(0.4, processor_names(self.shaped), size=10.5, bold=True, color=self.color)
        self._above(0.17, f"{kept_text(self.shaped)} can be drawn", size=8.5, color=MUTED)

    @property
    def color(self) -> str:
        kinds = {type(processor) for processor in self.shaped.processors}
        if len(kinds) > 1:
            return EMBEDDING
        return ATTENTION if TopK in kinds else MLP if TopP in kinds else STREAM

    def bars(self) -> None:
        probabilities, own = self.shaped.probabilities[self.ids], self.own.probabilities[self.ids]
        rows = np.arange(len(self.ids))
        kept = probabilities > 0
        self.axes.barh(rows[kept], probabilities[kept], height=0.72, color=self.color, alpha=0.85, linewidth=0)
        self.axes.barh(rows[~kept], own[~kept], height=0.72, color=FAINT, alpha=0.55, linewidth=0)
        self.axes.vlines(own[kept], rows[kept] - 0.42, rows[kept] + 0.42, color=INK, linewidth=1.1)
        count = int(kept.sum())
        if 0 < count < len(kept) and kept[:count].all():
            self.axes.axhline(count - 0.5, color=self.color, linewidth=1.0, linestyle=(0, (4, 3)))
        for processor in self.shaped.processors:
            if isinstance(processor, TopP) and len(self.shaped.processors) == 1:
                self._cumulative(processor.top_p)

    def _cumulative(self, p: float) -> None:
        """Draw the model's cumulative probability on a second axis from 0 to 1, and a line at p."""
        twin = self.axes.twiny()
        twin.set_xlim(0, 1)
        twin.set_xticks([])
        for spine in twin.spines.values():
            spine.set_visible(False)
        rows = np.arange(len(self.ids))
        twin.plot(
            self.own.cumulative[self.ids],
            rows,
            color=MUTED,
            linewidth=1.1,
            marker="o",
            markersize=3,
            markerfacecolor="white",
        )
        twin.axvline(p, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        label = f"cumulative, up to {p:g}"
        near_left = p < 0.5
        twin.text(
            p + (0.02 if near_left else -0.02), self.rows - 1, label, fontsize=8, fontfamily=SANS, color=MUTED,
            horizontalalignment="left" if near_left else "right", verticalalignment="center_baseline",
        )  # fmt: skip

    def numbers(self) -> None:
        """Write each probability beside its bar, and the total of all other tokens below."""
        for row, probability in enumerate(self.shaped.probabilities[self.ids]):
            self._beside(row, _percent_or_dash(probability), color=INK if probability > 0 else MUTED)
        if self.rows > len(self.ids):
            others = 1 - float(self.shaped.probabilities[self.ids].sum(dtype=np.float64))
            self._beside(
                self.rows - 1, _percent_or_dash(others if self.shaped.kept > len(self.ids) else 0), color=MUTED
            )

    def names(self, names: Sequence[str]) -> None:
        for row, name in enumerate(names):
            self._label(row, shortened(name, _NAME), font=MONO, color=INK)
        if self.rows > len(names):
            others = f"{len(self.own.probabilities) - len(names):,} others"
            self._label(self.rows - 1, others, font=SANS, color=MUTED)

    def _label(self, row: float, text: str, *, font: str, color: str) -> None:
        self.axes.text(
            -0.1 / _PANEL, row, text, transform=self.axes.get_yaxis_transform(), fontsize=8.5, fontfamily=font,
            color=color, parse_math=False, horizontalalignment="right", verticalalignment="center_baseline",
        )  # fmt: skip

    def _beside(self, row: float, text: str, color: str) -> None:
        self.axes.text(
            1 + (_NUMBERS - 0.02) / _PANEL, row, text, transform=self.axes.get_yaxis_transform(), fontsize=8,
            fontfamily=MONO, color=color, horizontalalignment="right", verticalalignment="center_baseline",
        )  # fmt: skip

    def _above(self, inches: float, text: str, *, size: float, color: str, bold: bool = False) -> None:
        top = 1 + inches / (_ROW * self.rows)
        self.axes.text(
            0, top, text, transform=self.axes.transAxes, fontsize=size, fontfamily=SANS, color=color,
            fontweight="bold" if bold else "normal", verticalalignment="center",
        )  # fmt: skip


def _percent_or_dash(probability: float) -> str:
    return "–" if probability <= 0 else percent(probability)
