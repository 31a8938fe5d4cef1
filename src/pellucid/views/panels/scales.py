"""Scales from numbers to colours, shared by terminals, figures and HTML.

Signed values are blue for more and orange for less, hues that people with any kind of colour vision can tell apart.
Magnitudes are one hue of increasing strength. On HTML pages a colour is a translucent tint over the page's background,
weak enough that text stays readable on light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.color import Color
from rich.style import Style

if TYPE_CHECKING:
    from matplotlib.colors import LinearSegmentedColormap

Colour = tuple[int, int, int]
TokenScale = Literal["probability", "rank", "entropy"]

BLUE: Colour = (52, 128, 196)
ORANGE: Colour = (214, 108, 36)
PURPLE: Colour = (138, 104, 190)
GREEN: Colour = (44, 140, 92)

# The opacity of the largest value: text on a stronger tint would be hard to read; marks have no text on them.
STRONGEST_TINT = 0.65
STRONGEST_MARK = 0.95
_CURVE = 0.8
_DARK_TEXT: Colour = (16, 20, 24)
# Values below this place on the scale have no colour in a terminal.
_FAINT = 0.12
_SHADES = " ░▒▓█"
_SHADED_FROM = (0.03, 0.12, 0.3, 0.6)
_LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Scale:
    """A mapping from values to colours.

    name: the measured quantity. place: maps a value to its place, from 0 to 1, or from -1 to 1 in a signed scale.
    text: formats a value. more, less: the hues of places above and below 0. samples: values for the legend.
    """

    name: str
    place: Callable[[float], float]
    text: Callable[[float], str]
    more: Colour
    less: Colour | None = None
    samples: tuple[float, ...] = ()

    @property
    def is_signed(self) -> bool:
        return self.less is not None

    def at(self, value: float) -> float:
        """A value's place, clipped to the scale; 0 for NaN."""
        return 0.0 if math.isnan(value) else min(1.0, max(-1.0 if self.is_signed else 0.0, self.place(value)))

    def hue(self, place: float) -> Colour:
        return self.less if place < 0 and self.less is not None else self.more

    def css(self, value: float, strongest: float = STRONGEST_TINT) -> str:
        """A CSS colour for a background. strongest: the opacity of the largest value."""
        place = self.at(value)
        red, green, blue = self.hue(place)
        return f"rgba({red},{green},{blue},{tint(place, strongest):.2f})"

    def style(self, value: float) -> Style:
        """A background for a terminal with a readable text colour; no style for small values."""
        place = self.at(value)
        if abs(place) < _FAINT:
            return Style()
        background = mixed((255, 255, 255), self.hue(place), 0.35 + 0.55 * abs(place))
        return Style(color=Color.from_rgb(*_DARK_TEXT), bgcolor=Color.from_rgb(*background))

    def ink(self, value: float) -> Style:
        """A foreground colour for a mark in a terminal."""
        return Style(color=Color.from_rgb(*self.hue(self.at(value))))

    def shade(self, value: float) -> str:
        """A character whose density shows the magnitude, for cells too small for a number."""
        return _SHADES[_step(abs(self.at(value)))]

    def level(self, value: float) -> str:
        """A bar of one character whose height shows the magnitude."""
        return _LEVELS[min(len(_LEVELS) - 1, int(abs(self.at(value)) * len(_LEVELS)))]

    def colormap(self) -> LinearSegmentedColormap:
        """A matplotlib colour map over places from 0 to 1, or from -1 to 1 in a signed scale."""
        from matplotlib.colors import LinearSegmentedColormap

        more = [(1.0, 1.0, 1.0), _unit(self.more), _unit(mixed(self.more, (0, 0, 0), 0.55))]
        if self.less is None:
            return LinearSegmentedColormap.from_list(self.name, more)
        less = [(1.0, 1.0, 1.0), _unit(self.less), _unit(mixed(self.less, (0, 0, 0), 0.55))]
        return LinearSegmentedColormap.from_list(self.name, [*reversed(less), *more[1:]])

    def places(self, values: Any) -> Any:
        """The places of an array of values."""
        flat = np.asarray(values, dtype=np.float64)
        return np.array([self.at(value) for value in flat.ravel().tolist()], dtype=np.float64).reshape(flat.shape)


def tint(place: float, strongest: float) -> float:
    """The opacity of a place. It grows faster for small values, which would otherwise be hard to tell apart."""
    return strongest * float(abs(place) ** _CURVE)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Linear interpolation from one colour to another by `share`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _unit(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    """The contrast of two colours, 1 to 21, as WCAG 2.1 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def share_scale(name: str = "attention", hue: Colour = ORANGE) -> Scale:
    """Shares of a whole, 0 to 1."""
    return Scale(name, lambda value: value, share_text, hue, samples=(0.0, 0.25, 0.5, 0.75, 1.0))


def magnitude_scale(name: str, values: Any, hue: Colour = BLUE) -> Scale:
    """Values from 0 to the largest of `values`."""
    largest = _largest(values)
    samples = (0.0, largest / 2, largest)
    return Scale(name, lambda value: value / largest if largest else 0.0, number_text, hue, samples=samples)


def norm_scale(name: str, values: Any, hue: Colour = BLUE) -> Scale:
    """Norms from 0 to the largest of `values`, on a logarithmic scale, because a few are far larger than the others."""
    largest = _largest(values)
    most = math.log1p(largest)
    samples = tuple(math.expm1(most * share) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    return Scale(name, lambda value: math.log1p(value) / most if most else 0.0, number_text, hue, samples=samples)


def signed_scale(name: str, values: Any) -> Scale:
    """Values of both signs, up to the largest magnitude of `values`: blue above 0, orange below."""
    largest = _largest(values)
    samples = (-largest, -largest / 2, 0.0, largest / 2, largest)
    return Scale(name, lambda value: value / largest if largest else 0.0, signed_text, BLUE, ORANGE, samples)


def probability_scale() -> Scale:
    """Probabilities on a logarithmic scale: blue above 1%, no colour at 1%, orange below, down to 0.01%."""
    samples = (1.0, 0.1, 0.01, 0.001, 0.0001)
    return Scale("probability", lambda p: 1 + math.log10(p) / 2 if p > 0 else -1.0, share_text, BLUE, ORANGE, samples)


def rank_scale() -> Scale:
    """Ranks (0 is the likeliest) on a logarithmic scale: blue below 99, no colour at 99, orange above."""
    samples = (0, 9, 99, 999, 9999)
    return Scale("rank", lambda rank: 1 - math.log10(rank + 1) / 2, lambda rank: f"{rank:,.0f}", BLUE, ORANGE, samples)


def entropy_scale() -> Scale:
    """Entropies in nats: purple if high. The maximum of GPT-2's vocabulary is 10.8."""
    return Scale(
        "entropy", lambda nats: nats / 8, lambda nats: f"{nats:.2f}", PURPLE, samples=(0.0, 2.0, 4.0, 6.0, 8.0)
    )


def recovery_scale() -> Scale:
    """Shares that a patch restores: 0 is the corrupted run, 1 the clean run, and below 0 is worse than corrupted."""
    samples = (-1.0, -0.5, 0.0, 0.5, 1.0)
    return Scale("recovered", lambda share: share, _percent, BLUE, ORANGE, samples)


def token_scale(by: TokenScale) -> Scale:
    return {"probability": probability_scale, "rank": rank_scale, "entropy": entropy_scale}[by]()


def share_text(share: float) -> str:
    """A share in per cent; "<0.01%" for a positive one that would round to zero."""
    if math.isnan(share):
        return ""
    if share in (0, 1):
        return f"{share:.0%}"
    if 0 < share < 5e-5:
        return "<0.01%"
    return f"{share:.2%}" if share < 0.09995 else f"{share:.1%}"


def _percent(share: float) -> str:
    return number_text(share) if not math.isfinite(share) else f"{share:.0%}".replace("-0%", "0%")


def number_text(value: float) -> str:
    if not math.isfinite(value):
        return "" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def signed_text(value: float) -> str:
    text = number_text(value)
    if text in ("0.00", "-0.00"):
        return "0.00"
    return f"+{text}" if value > 0 else text


def _largest(values: Any) -> float:
    finite = np.abs(np.asarray(values, dtype=np.float64).ravel())
    finite = finite[np.isfinite(finite)]
    return float(finite.max()) if finite.size else 0.0


def _step(share: float) -> int:
    """The index of a share's shade. Steps are finer for small shares, as attention spreads over many tokens."""
    return sum(share >= least for least in _SHADED_FROM)


def _unit(colour: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour)
    return red, green, blue
