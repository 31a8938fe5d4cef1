"""The figure of a warped distribution equals the output of Transformers' warpers on the same logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pellucid import GPT2Tokenizer
from pellucid.decoding.processors import Temperature, TopK, TopP, Warper
from pellucid.decoding.shaping import shape_distribution
from pellucid.errors import MissingExtraError
from pellucid.views.distribution import sampling_figure, temperature_figure

from .reading import assert_readable, texts

WARPERS: dict[type, Any] = {
    Temperature: lambda one: transformers.TemperatureLogitsWarper(float(one.temperature)),
    TopK: lambda one: transformers.TopKLogitsWarper(one.top_k),
    TopP: lambda one: transformers.TopPLogitsWarper(one.top_p),
}


def warped(logits: np.ndarray[Any, Any], processors: tuple[Warper, ...]) -> torch.Tensor:
    """Probabilities [vocab] from Transformers' warpers and torch's softmax."""
    rows = torch.from_numpy(np.asarray(logits, dtype=np.float32))[None]
    for processor in processors:
        rows = WARPERS[type(processor)](processor)(None, rows)
    return rows.softmax(-1)[0]


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer.bundled()


@pytest.fixture(scope="module")
def logits() -> np.ndarray[Any, Any]:
    """Logits over GPT-2's vocabulary, as peaked as those of a language model."""
    generator = np.random.default_rng(3)
    return (generator.permutation(-1.3 * np.log(np.arange(50257) + 2.0))).astype(np.float32)


PROCESSORS = st.one_of(
    st.builds(Temperature, st.floats(0.1, 5)),
    st.builds(TopK, st.integers(1, 60)),
    st.builds(TopP, st.floats(0.01, 0.99)),
)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 50),
    spread=st.floats(0.1, 8),
    processors=st.lists(PROCESSORS, max_size=3).map(tuple),
)
def test_shaped_probabilities_are_those_of_transformers_warpers(
    seed: int, size: int, spread: float, processors: tuple[Warper, ...]
) -> None:
    logits = np.random.default_rng(seed).normal(scale=spread, size=size).astype(np.float32)
    (shaped,) = shape_distribution(logits, [processors])
    theirs = warped(logits, processors).numpy()
    np.testing.assert_allclose(shaped.probabilities, theirs, atol=1e-6)
    assert shaped.probabilities.sum() == pytest.approx(1, abs=1e-5)
    by_rank = np.argsort(-shaped.probabilities, kind="stable")
    np.testing.assert_allclose(shaped.cumulative[by_rank], shaped.probabilities[by_rank].cumsum(), atol=1e-5)


def test_kept_counts_the_ids_that_can_be_drawn(logits: np.ndarray[Any, Any]) -> None:
    own, five, nucleus = shape_distribution(logits, [(), (TopK(5),), (TopP(0.5),)])
    assert (own.kept, five.kept) == (50257, 5)
    assert nucleus.kept == int((warped(logits, (TopP(0.5),)) > 0).sum())


def test_the_walkthroughs_example_has_the_walkthroughs_numbers() -> None:
    example, hot = shape_distribution(np.array([1.0, 2.0, 4.0], np.float32), [(), (Temperature(3),)])
    assert np.round(example.probabilities, 4).tolist() == pytest.approx([0.0420, 0.1142, 0.8438])
    assert np.round(hot.probabilities, 4).tolist() == pytest.approx([0.1955, 0.2729, 0.5315])
    shown = texts(temperature_figure([1, 2, 4], temperatures=(1, 3)))
    for number in ("4.20%", "11.42%", "84.38%", "19.55%", "27.29%", "53.15%", "temperature 3", "logit 4"):
        assert number in shown


def panels(figure: Figure) -> list[tuple[list[str], list[float]]]:
    """Texts and widths of the coloured bars of each panel, in reading order."""
    found = []
    for axes in figure.axes:
        bars = [patch for container in axes.containers[:1] for patch in container]
        if axes.containers:
            found.append(([text.get_text() for text in axes.texts], [bar.get_width() for bar in bars]))
    return found


def test_every_panel_draws_the_probabilities_over_the_whole_vocabulary(
    logits: np.ndarray[Any, Any], tokenizer: GPT2Tokenizer
) -> None:
    drawn = panels(sampling_figure(logits, tokenizer, temperatures=(0.5, 1, 2), top_k=6, top_p=0.6, top=15))
    steps: list[tuple[Warper, ...]] = [(Temperature(t),) for t in (0.5, 1, 2)]
    steps += [(TopK(6),), (TopP(0.6),), (Temperature(2), TopK(6), TopP(0.6))]
    assert len(drawn) == len(steps)
    shown = torch.from_numpy(logits).argsort(descending=True)[:15]
    for (labels, widths), processors in zip(drawn, steps, strict=True):
        expected = warped(logits, processors)
        kept = expected[shown][expected[shown] > 0]
        # At the threshold of top-p, rounding of the sum decides about a token of about 1e-6.
        np.testing.assert_allclose(widths, kept, atol=5e-6)
        assert f"{expected[shown[0]]:.2%}" in labels
        drawable_ids = int((expected > 0).sum())
        assert ("all can be drawn" if drawable_ids == 50257 else f"{drawable_ids} of 50,257 can be drawn") in labels
        others = 1 - float(expected[shown].sum())
        assert (f"{others:.2%}" if drawable_ids > 15 else "–") in labels


def test_tokens_are_shown_by_their_bytes_and_never_as_replacement_characters(tokenizer: GPT2Tokenizer) -> None:
    logits = np.full(50257, -20, np.float32)
    awkward = {
        447: r"'\xe2\x80'",  # the first two bytes of a dash or a quotation mark
        222: r"'\x80'",
        198: r"'\n'",
        197: r"'\t'",
        720: r"' $'",
        48545: None,
        188: r"'\x00'",
        0: "'!'",
    }
    for rank, token in enumerate(awkward):
        logits[token] = 5 - rank
    figure = sampling_figure(logits, tokenizer, top=len(awkward))
    shown = texts(figure)
    for token, expected in awkward.items():
        assert (expected or f"'{tokenizer.display_token(token)}'") in shown
    assert not any("\ufffd" in text for text in shown)
    figure.canvas.draw()


@pytest.mark.filterwarnings("error")
def test_characters_that_no_font_has_are_drawn_as_escapes(tokenizer: GPT2Tokenizer) -> None:
    token = tokenizer.encode("の")[-1]
    assert tokenizer.display_token(token) == "の"
    logits = np.zeros(50257, np.float32)
    logits[token] = 9
    figure = sampling_figure(logits, tokenizer, top=3)
    figure.canvas.draw()
    assert r"'\u306e'" in texts(figure)


def test_no_text_overlaps_another(logits: np.ndarray[Any, Any], tokenizer: GPT2Tokenizer) -> None:
    assert_readable(sampling_figure(logits, tokenizer, prompt="once upon a time " * 20))
    assert_readable(sampling_figure(logits, tokenizer, temperatures=(0.1, 1), top_k=1, top_p=0.1, top=5, prompt="a\nb"))
    assert_readable(temperature_figure([1, 2, 4]))


def test_a_model_without_a_tokenizer_and_a_vocabulary_of_few_are_drawn_too() -> None:
    figure = sampling_figure(np.array([0.5, 3, -1, 2], np.float32), top_k=2)
    assert {"#0", "#1", "#2", "#3"} <= set(texts(figure))
    assert not any("others" in text for text in texts(figure))
    assert_readable(figure)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pellucid\[plot\]"):
        temperature_figure([1, 2, 4])
