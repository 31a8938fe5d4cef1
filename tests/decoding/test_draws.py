"""Arithmetic on full vocabularies: fast paths equal the plain computation, and draws follow their distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers.generation.logits_process as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import build_pipeline, dense
from pellucid.errors import DecodingError
from pellucid.logits import draw, draw_several, entropy, kth_largest, largest, log_normaliser, softmax

from .generated import logits_rows

GPT2_VOCAB = 50257
uniforms = st.floats(0, 1, exclude_max=True)


def vocabulary_logits(seed: int, kind: str) -> np.ndarray:
    """Logits over GPT-2's vocabulary: smooth, with many ties, with most ids excluded, or sharply peaked."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3, size=GPT2_VOCAB)
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "excluded":
        logits[generator.random(GPT2_VOCAB) < 0.99] = -np.inf
    elif kind == "peaked":
        logits[generator.integers(GPT2_VOCAB)] += 25
    elif kind == "equal":
        logits[:] = 1.5
    return logits.astype(np.float32)


KINDS = ("smooth", "ties", "excluded", "peaked", "equal")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 50, 700, 1000, 40000, GPT2_VOCAB])
def test_the_largest_of_a_vocabulary_equal_those_of_a_full_sort(kind: str, k: int) -> None:
    logits = vocabulary_logits(k, kind)
    order = np.argsort(-logits, kind="stable")
    assert kth_largest(logits, k) == logits[order[k - 1]]
    np.testing.assert_array_equal(largest(logits, k), order[:k])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 50, 5000])
def test_top_k_of_a_vocabulary_equals_transformers(kind: str, k: int) -> None:
    logits = vocabulary_logits(k + 1, kind)
    expected = oracle.TopKLogitsWarper(k)(None, torch.from_numpy(logits)[None])[0].numpy()
    np.testing.assert_array_equal(p.TopK(k).warped(logits), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_of_a_vocabulary_is_the_smallest_most_likely_set(kind: str, top_p: float) -> None:
    logits = vocabulary_logits(7, kind)
    kept = p.TopP(top_p).kept(logits)
    exact = softmax(logits.astype(np.float64))
    left_out = np.setdiff1d(np.arange(GPT2_VOCAB), kept)
    assert logits[kept].min() >= logits[left_out].max()
    # The rule uses float32 probabilities, which have a relative error of about 1e-7.
    assert exact[kept].sum() > top_p - 1e-5
    assert exact[kept].sum() - exact[kept].min() < top_p + 1e-5
    expected = oracle.TopPLogitsWarper(top_p)(None, torch.from_numpy(logits)[None])[0].isfinite().numpy()
    # torch's sort may order equal values in any way.
    assert logits[expected].min() == logits[kept].min()
    assert exact[expected].sum() == pytest.approx(exact[kept].sum(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_normaliser_and_entropy_of_a_vocabulary_equal_those_in_float64(kind: str) -> None:
    logits = vocabulary_logits(3, kind)
    doubles = torch.from_numpy(logits).double()
    assert log_normaliser(logits) == pytest.approx(float(doubles.logsumexp(0)), rel=1e-6)
    exact = doubles[doubles.isfinite()].log_softmax(0)
    assert entropy(logits) == pytest.approx(float(-(exact.exp() * exact).sum()), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_from_a_vocabulary_is_a_search_in_the_cumulative_sum(kind: str) -> None:
    logits = vocabulary_logits(5, kind)
    exact = softmax(logits.astype(np.float64)).cumsum()
    before = np.concatenate(([0.0], exact[:-1]))
    for uniform in [0.0, *np.random.default_rng(0).random(200), 1 - 2**-53]:
        place = draw(logits, float(uniform))
        assert before[place] - 1e-6 <= uniform <= exact[place] + 1e-6
        assert np.isfinite(logits[place])


@given(logits=logits_rows, uniform=uniforms)
def test_a_draw_inverts_the_cumulative_distribution(logits: np.ndarray, uniform: float) -> None:
    before = logits.copy()
    place = draw(logits, uniform)
    exact = softmax(logits.astype(np.float64)).cumsum()
    assert (exact[place - 1] if place else 0.0) - 1e-6 <= uniform <= exact[place] + 1e-6
    np.testing.assert_array_equal(logits, before)


@given(logits=logits_rows, numbers=st.lists(uniforms, min_size=1, max_size=14))
def test_excluded_tokens_are_never_drawn_and_no_token_twice(logits: np.ndarray, numbers: list[float]) -> None:
    before = logits.copy()
    for uniform in [*numbers, 0.0, float(np.nextafter(1, 0))]:
        assert np.isfinite(logits[draw(logits, uniform)])
    drawn = draw_several(logits, numbers)
    assert np.isfinite(logits[drawn]).all()
    assert len(set(drawn)) == len(drawn)
    # As many as requested, unless fewer tokens have a positive float32 probability.
    assert len(drawn) == min(len(numbers), int((np.exp(logits - logits.max()) > 0).sum()))
    np.testing.assert_array_equal(logits, before)


@given(logits=logits_rows, numbers=st.lists(uniforms, min_size=1, max_size=6))
def test_several_draws_are_sequential_draws_without_replacement(logits: np.ndarray, numbers: list[float]) -> None:
    left, expected = logits.copy(), []
    for uniform in numbers:
        weights = np.exp(left - logits.max()).astype(np.float64)
        if not weights.sum():
            break
        cumulative = weights.cumsum()
        position = uniform * cumulative[-1]
        place = min(np.searchsorted(cumulative, position, "right"), np.searchsorted(cumulative, cumulative[-1], "left"))
        expected.append(int(place))
        left[place] = -np.inf
    assert draw_several(logits, numbers) == expected


def test_several_draws_from_a_vocabulary_are_single_draws_without_replacement() -> None:
    for kind in KINDS:
        logits = vocabulary_logits(11, kind)
        numbers = np.random.default_rng(4).random(40).tolist()
        left, expected = logits.copy(), []
        for uniform in numbers:
            expected.append(draw(left, uniform))
            left[expected[-1]] = -np.inf
        assert draw_several(logits, numbers) == expected


@pytest.mark.parametrize("logits", [np.full(5, -np.inf), np.full(900, -np.inf), np.zeros(0)], ids=len)
def test_drawing_from_nothing_is_an_error(logits: np.ndarray) -> None:
    with pytest.raises(DecodingError, match="no token is left"), np.errstate(invalid="ignore"):
        draw(logits.astype(np.float32), 0.5)


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    "options", [{"do_sample": True}, {"temperature": 0.7, "top_k": 9}, {"temperature": 1.5, "top_p": 0.8}], ids=str
)
def test_draws_follow_the_processed_distribution(options: dict[str, Any]) -> None:
    logits = (np.random.default_rng(0).normal(size=40) * 2).astype(np.float32)
    candidates = build_pipeline(GenerationOptions.from_kwargs(options))(TokenHistory([1]), logits)
    shaped = dense(candidates, 40)
    probabilities = softmax(shaped)
    generator = np.random.default_rng(1)
    count = 20_000
    observed = np.bincount([draw(shaped, generator.random()) for _ in range(count)], minlength=40)
    assert observed[probabilities == 0].sum() == 0
    likely = probabilities * count > 5
    # The 99.99% quantile of chi-square with up to 39 degrees of freedom is below 81.
    assert chi_square(observed[likely], probabilities[likely] * count) < 81


def test_pairs_drawn_without_replacement_follow_the_sequential_distribution() -> None:
    # P(i, then j) = p_i * p_j / (1 - p_i), over 600 ids. Five of them, in two blocks, have all the probability.
    places, weights = [3, 4, 250, 300, 599], np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    logits = np.full(600, -np.inf, dtype=np.float32)
    logits[places] = np.log(weights)
    generator = np.random.default_rng(2)
    count = 10_000
    observed = np.zeros((5, 5))
    for _ in range(count):
        first, second = draw_several(logits, generator.random(2).tolist())
        observed[places.index(first), places.index(second)] += 1
    law = weights[:, None] * weights / (1 - weights[:, None])
    distinct = ~np.eye(5, dtype=bool)
    assert observed[~distinct].sum() == 0
    # The 99.99% quantile of chi-square with 19 degrees of freedom is 50.8.
    assert chi_square(observed[distinct], law[distinct] * count) < 50.8


@settings(max_examples=50)
@given(logits=logits_rows, count=st.integers(1, 14))
def test_the_largest_are_the_earliest_among_equals(logits: np.ndarray, count: int) -> None:
    expected = sorted(range(len(logits)), key=lambda place: (-logits[place], place))[:count]
    assert largest(logits, count).tolist() == expected
