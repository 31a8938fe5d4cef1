"""Every warper returns the array of Transformers' warper for the same option, and changes no input.

Both sum probabilities in float32, in different orders. If a rule compares such a sum with a threshold, only one of them
may keep a token, provided that sum and threshold are equal in float64 up to rounding: see `agree`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import transformers.generation.logits_process as oracle
from hypothesis import given
from hypothesis import strategies as st

from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.logits import log_softmax, softmax

from .generated import VOCAB, logits_rows, processed, theirs

HISTORY = TokenHistory([1, 2])
at_least = st.integers(1, VOCAB + 2)
# Error bound of a float32 sum of a dozen probabilities, or of the logarithm of one.
ROUNDING = 1e-5


def agree(
    logits: np.ndarray, ours: np.ndarray, expected: np.ndarray, margin: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Assert that both arrays are equal, except for tokens whose margin is within rounding error.

    margin: distance of each token's quantity from its threshold, as a function of float64 logits.
    """
    differs = np.isfinite(ours) != np.isfinite(expected)
    np.testing.assert_array_equal(ours[~differs], expected[~differs])
    if differs.any():
        assert margin(logits.astype(np.float64))[differs].max() < ROUNDING


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def entropy_of(probabilities: np.ndarray) -> float:
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())


@given(logits=logits_rows, temperature=st.floats(0.05, 20))
def test_temperature_equals_transformers(logits: np.ndarray, temperature: float) -> None:
    expected = theirs(oracle.TemperatureLogitsWarper(temperature), HISTORY, logits)
    np.testing.assert_array_equal(processed(p.Temperature(temperature), HISTORY, logits), expected)


@given(logits=logits_rows, k=st.integers(1, VOCAB + 3), keep=at_least)
def test_top_k_equals_transformers(logits: np.ndarray, k: int, keep: int) -> None:
    expected = theirs(oracle.TopKLogitsWarper(k, min_tokens_to_keep=keep), HISTORY, logits)
    np.testing.assert_array_equal(processed(p.TopK(k, keep), HISTORY, logits), expected)


@given(
    logits=logits_rows, temperature=st.floats(0.05, 20), k=st.integers(1, VOCAB + 3), keep=at_least,
    neighbours=st.lists(
        st.tuples(st.integers(0, VOCAB - 1), st.integers(0, VOCAB - 1), st.integers(-2, 2)), max_size=9
    ),
)  # fmt: skip
def test_fused_temperature_and_top_k_equal_both_in_sequence(
    logits: np.ndarray, temperature: float, k: int, keep: int, neighbours: list[tuple[int, int, int]]
) -> None:
    # Logits that differ in the last bits, which the division may make equal.
    for place, other, steps in neighbours:
        logits[place] = logits[other]
        for _ in range(abs(steps)):
            logits[place] = np.nextafter(logits[place], np.float32(100 * steps), dtype=np.float32)
    divide, keep_k = p.Temperature(temperature), p.TopK(k, keep)
    divided = divide.warped(logits)
    expected = keep_k.kept(divided)
    places, left = p.TemperedTopK(divide, keep_k).left(logits)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(left, divided[expected])


@given(logits=logits_rows, top_p=st.floats(0.01, 1), keep=at_least)
def test_top_p_equals_transformers(logits: np.ndarray, top_p: float, keep: int) -> None:
    def margin(exact: np.ndarray) -> np.ndarray:
        order = np.argsort(exact, kind="stable")
        distance = np.abs(probabilities_of(exact)[order].cumsum() - (1 - top_p))
        # Any of equal tokens may be the one that crosses the threshold.
        return np.array([distance[exact[order] == value].min() for value in exact])

    expected = theirs(oracle.TopPLogitsWarper(top_p, min_tokens_to_keep=keep), HISTORY, logits)
    agree(logits, processed(p.TopP(top_p, keep), HISTORY, logits), expected, margin)


@given(logits=logits_rows, min_p=st.floats(0, 1), keep=at_least)
def test_min_p_equals_transformers(logits: np.ndarray, min_p: float, keep: int) -> None:
    def margin(exact: np.ndarray) -> np.ndarray:
        probabilities = probabilities_of(exact)
        last_kept = np.sort(probabilities)[-min(keep, VOCAB)]
        # torch.topk may take any of the tokens that tie for the last of the `keep` most likely.
        tied = np.abs(probabilities / (last_kept + 1e-38) - 1)
        return np.minimum(tied, np.abs(probabilities / (min_p * probabilities.max() + 1e-38) - 1))

    keep = min(keep, VOCAB)
    expected = theirs(oracle.MinPLogitsWarper(min_p, min_tokens_to_keep=keep), HISTORY, logits)
    got = processed(p.MinP(min_p, keep), HISTORY, logits)
    agree(logits, got, expected, margin)
    assert np.isfinite(got).sum() >= min(keep, np.isfinite(logits).sum())


@given(logits=logits_rows, mass=st.floats(0.01, 0.99), keep=at_least)
def test_typical_p_equals_transformers(logits: np.ndarray, mass: float, keep: int) -> None:
    def margin(exact: np.ndarray) -> np.ndarray:
        probabilities = probabilities_of(exact)
        surprise = np.full(VOCAB, np.inf)
        surprise[probabilities > 0] = -np.log(probabilities[probabilities > 0])
        distance = np.abs(surprise - entropy_of(probabilities))
        order = np.argsort(distance)
        cumulative = probabilities[order].cumsum()
        # Any token whose cumulative sum is within rounding of the mass may be the one that crosses. The tokens that are
        # equally far from the entropy are undecided as well.
        low = distance[order[min(int((cumulative < mass - ROUNDING).sum()), VOCAB - 1)]]
        high = distance[order[min(int((cumulative < mass + ROUNDING).sum()), VOCAB - 1)]]
        outside = np.maximum(np.maximum(low - distance, distance - high), 0)
        return np.where(np.isfinite(distance), outside, np.inf)

    expected = theirs(oracle.TypicalLogitsWarper(mass, min_tokens_to_keep=keep), HISTORY, logits)
    agree(logits, processed(p.TypicalP(mass, keep), HISTORY, logits), expected, margin)


@given(logits=logits_rows, epsilon=st.floats(1e-6, 0.99), keep=at_least)
def test_epsilon_cutoff_equals_transformers(logits: np.ndarray, epsilon: float, keep: int) -> None:
    def margin(exact: np.ndarray) -> np.ndarray:
        return np.abs(probabilities_of(exact) / epsilon - 1)

    expected = theirs(oracle.EpsilonLogitsWarper(epsilon, min_tokens_to_keep=keep), HISTORY, logits)
    agree(logits, processed(p.EpsilonCutoff(epsilon, keep), HISTORY, logits), expected, margin)


@given(logits=logits_rows, eta=st.floats(1e-6, 0.99), keep=at_least)
def test_eta_cutoff_equals_transformers(logits: np.ndarray, eta: float, keep: int) -> None:
    def margin(exact: np.ndarray) -> np.ndarray:
        probabilities = probabilities_of(exact)
        threshold = min(eta, np.sqrt(eta) * np.exp(-entropy_of(probabilities)))
        return np.abs(probabilities / threshold - 1)

    expected = theirs(oracle.EtaLogitsWarper(eta, min_tokens_to_keep=keep), HISTORY, logits)
    agree(logits, processed(p.EtaCutoff(eta, keep), HISTORY, logits), expected, margin)


@given(logits=logits_rows)
def test_renormalising_equals_transformers(logits: np.ndarray) -> None:
    expected = theirs(oracle.LogitNormalization(), HISTORY, logits)
    got = processed(p.RenormalizeLogits(), HISTORY, logits)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


@given(logits=logits_rows, keep=at_least)
def test_neutral_values_change_nothing(logits: np.ndarray, keep: int) -> None:
    for warper in (p.TopK(VOCAB, keep), p.TopP(1.0, keep), p.MinP(0.0, keep), p.Temperature(1.0)):
        got = processed(warper, HISTORY, logits)
        # Probabilities too small for a float32 sum contribute nothing to it, nor to a draw.
        dropped = np.isneginf(got) & np.isfinite(logits)
        assert probabilities_of(logits.astype(np.float64))[dropped].sum() < 1e-7
        np.testing.assert_array_equal(got[~dropped], logits[~dropped])


WARPERS = [p.TopK(1), p.TopP(0.01), p.MinP(1.0), p.TypicalP(0.01), p.EpsilonCutoff(0.99), p.EtaCutoff(0.99)]


@pytest.mark.parametrize("warper", WARPERS, ids=str)
@given(logits=logits_rows)
def test_at_least_one_token_is_always_kept(warper: p.Filter, logits: np.ndarray) -> None:
    kept = warper.kept(logits)
    assert np.isfinite(logits[kept]).any()
    np.testing.assert_array_equal(kept, np.unique(kept))  # sorted and unique


@given(logits=logits_rows)
def test_softmax_and_log_softmax_are_exact_up_to_rounding(logits: np.ndarray) -> None:
    exact = probabilities_of(logits.astype(np.float64))
    np.testing.assert_allclose(softmax(logits), exact, rtol=1e-5, atol=1e-30)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_softmax(logits), np.log(exact), rtol=1e-5, atol=1e-5)
