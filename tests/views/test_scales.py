"""Colour scales distinguish values for everyone, and text on them is legible."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.views.panels import scales
from pellucid.views.panels.pixels import pixels_png, pooled
from pellucid.views.panels.scales import Scale, contrast

ALL = {
    "share": scales.share_scale(),
    "magnitude": scales.magnitude_scale("size", [0.0, 7.0]),
    "length": scales.norm_scale("norm", [0.0, 3000.0]),
    "signed": scales.signed_scale("change", [-3.0, 2.0]),
    "probability": scales.probability_scale(),
    "rank": scales.rank_scale(),
    "entropy": scales.entropy_scale(),
    "recovery": scales.recovery_scale(),
}
# Colours of a page and of its text.
PAGES = {"light": ((255, 255, 255), (31, 41, 51)), "dark": ((30, 30, 30), (224, 224, 224))}

# Simulation of dichromatic vision in linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency" (2009), severity 1.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ALL)
def test_a_page_s_own_text_is_readable_on_every_tint(name: str, page: str) -> None:
    behind, ink = PAGES[page]
    for value in (*ALL[name].samples, 1e9):
        red, green, blue, opacity = eval(ALL[name].css(value).removeprefix("rgba"))
        shown = scales.mixed(behind, (red, green, blue), opacity)
        assert contrast(ink, shown) >= 4.5, (name, value)


@pytest.mark.parametrize("name", ALL)
def test_text_in_a_terminal_is_readable_on_its_colour(name: str) -> None:
    for value in ALL[name].samples:
        style = ALL[name].style(value)
        if style.bgcolor is not None:
            assert style.color is not None
            ink, behind = (tuple(colour.get_truecolor()) for colour in (style.color, style.bgcolor))
            assert contrast(ink, behind) >= 4.5  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_two_directions_differ_for_people_who_see_fewer_colours(kind: str) -> None:
    def seen(colour: tuple[int, int, int]) -> np.ndarray:
        linear = [(c / 255) ** 2.2 for c in colour]
        return np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1) ** (1 / 2.2)

    red_and_green = np.linalg.norm(seen((200, 60, 60)) - seen((120, 120, 50)))
    blue_and_orange = np.linalg.norm(seen(scales.BLUE) - seen(scales.ORANGE))
    assert blue_and_orange > 0.4
    if kind != "tritan":
        assert red_and_green < 0.4  # the palette avoids such pairs


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=2, max_size=6))
def test_places_stay_within_the_scale_and_keep_the_order_of_values(values: list[float]) -> None:
    numbers = sorted(value for value in values if value == value)
    for scale in (scales.signed_scale("x", values), scales.magnitude_scale("x", np.abs(values)), scales.share_scale()):
        lowest = -1 if scale.is_signed else 0
        places = [scale.at(value) for value in numbers]
        assert all(lowest <= place <= 1 for place in places)
        assert places == sorted(places)
        assert scale.at(float("nan")) == 0


@given(share=st.floats(0, 1))
def test_a_positive_share_is_never_written_as_zero(share: float) -> None:
    assert (scales.share_text(share) == "0%") == (share == 0)


@pytest.mark.parametrize("scale", [scales.share_scale(), scales.signed_scale("x", [1.0])], ids=["share", "signed"])
def test_a_picture_has_a_pixel_for_each_value_as_opaque_as_it_is_large(scale: Scale) -> None:
    values = np.linspace(-1 if scale.is_signed else 0, 1, 12).reshape(3, 4)
    picture = matplotlib.image.imread(io.BytesIO(pixels_png(values, scale)))
    assert picture.shape == (3, 4, 4)
    for place in np.ndindex(3, 4):
        red, green, blue, opacity = eval(scale.css(values[place], scales.STRONGEST_MARK).removeprefix("rgba"))
        np.testing.assert_allclose(picture[place][3], opacity, atol=0.01)
        if opacity > 0.02:
            np.testing.assert_allclose(picture[place][:3] * 255, (red, green, blue), atol=0.5)


@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), most=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_a_smaller_picture_keeps_the_largest_of_each_block(shape: tuple[int, int], most: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    small = pooled(values, *most)
    assert all(found <= allowed for found, allowed in zip(small.shape, most, strict=True))
    high, wide = (-(-length // allowed) for length, allowed in zip(shape, most, strict=True))
    for row, column in np.ndindex(*small.shape):
        block = values[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
        assert small[row, column] == block.max()
