"""Passes over the logits of a vocabulary equal numpy, with every instruction set that this processor can run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import logits as arithmetic
from pellucid.native import instruction_sets, is_built

if not is_built():
    pytest.skip("the extension is not built", allow_module_level=True)

from pellucid.native._native import LogitsPasses

# Lengths around those of a vector, a run of vectors and a vocabulary.
LENGTHS = st.one_of(st.integers(1, 70), st.integers(500, 530), st.sampled_from([4096, 50257]))
sets = st.sampled_from(instruction_sets())


def row(seed: int, length: int, spread: float, shift: float) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=length) * spread + shift).astype(np.float32)


@given(
    name=sets, seed=st.integers(0, 99), length=LENGTHS, spread=st.floats(0, 30), shift=st.floats(-300, 300),
    excluded=st.floats(0, 0.9),
)  # fmt: skip
def test_the_normaliser_is_the_logarithm_of_the_sum_of_exponentials(
    name: str, seed: int, length: int, spread: float, shift: float, excluded: float
) -> None:
    logits = row(seed, length, spread, shift)
    logits[np.random.default_rng(seed).random(length) < excluded] = -np.inf
    logits[seed % length] = shift
    finite, normaliser, _ = LogitsPasses(name).survey(logits)
    doubles = logits.astype(np.float64)
    expected = doubles.max() + math.log(np.exp(doubles - doubles.max()).sum())
    assert normaliser == pytest.approx(expected, abs=1e-6)
    assert finite == bool(np.isfinite(logits).all())


@given(name=sets, length=LENGTHS, place=st.integers(0, 10**6), wrong=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_not_finite_is_found_wherever_it_is(name: str, length: int, place: int, wrong: float) -> None:
    logits = row(1, length, 3, 0)
    assert LogitsPasses(name).survey(logits)[0]
    logits[place % length] = wrong
    assert not LogitsPasses(name).survey(logits)[0]


@given(name=sets, seed=st.integers(0, 99), length=LENGTHS, k=st.integers(1, 10**6), step=st.sampled_from([0.0, 0.5]))
def test_the_largest_are_found_with_all_that_equal_the_last(
    name: str, seed: int, length: int, k: int, step: float
) -> None:
    values = row(seed, length, 3, -40)
    if step:  # many equal values
        values = np.round(values / step).astype(np.float32) * np.float32(step)
    k = 1 + k % length
    passes = LogitsPasses(name)
    found = passes.largest(values, k)
    np.testing.assert_array_equal(found, passes.largest(values, k, passes.survey(values)[2]))
    np.testing.assert_array_equal(found, np.flatnonzero(values >= np.sort(values)[-k]))
    assert found.dtype == np.int64


def test_decoding_finds_the_same_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = row(3, 50257, 3, -30)
    with_kernels = (
        arithmetic.survey(logits).normaliser,
        arithmetic.largest(logits, 50),
        arithmetic.kth_largest(logits, 700),
    )
    monkeypatch.setattr(arithmetic, "_native_passes", lambda: None)
    normaliser, places, kth = (
        arithmetic.survey(logits).normaliser,
        arithmetic.largest(logits, 50),
        arithmetic.kth_largest(logits, 700),
    )
    assert with_kernels[0] == pytest.approx(normaliser, abs=1e-5)
    np.testing.assert_array_equal(with_kernels[1], places)
    assert with_kernels[2] == kth


def test_a_row_or_place_that_is_none_is_an_error() -> None:
    passes = LogitsPasses("")
    nothing, three = np.zeros(0, dtype=np.float32), np.zeros(3, dtype=np.float32)
    for wrong in (lambda: passes.survey(nothing), lambda: passes.largest(three, 0), lambda: passes.largest(three, 4)):
        with pytest.raises(ValueError, match="the row is empty|no such place"):
            wrong()
    with pytest.raises(ValueError, match="no abacus kernels"):
        LogitsPasses("abacus")
