"""The cases of Transformers' tests/generation/test_logits_process.py (The HuggingFace Team, Apache-2.0), rewritten.

Inputs and expectations are the same; a batch there is several texts here. test_processors.py and test_warpers.py
compare each processor with that of Transformers on arbitrary inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.errors import OptionError
from pellucid.logits import softmax

INF = float("inf")


def uniform(size: int) -> np.ndarray:
    return np.full(size, 1 / size, dtype=np.float32)


def ramp(size: int, start: float = 0, steepness: float = 1) -> np.ndarray:
    return (np.arange(start, start + size) * steepness).astype(np.float32)


def log(*probabilities: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities, dtype=np.float32))


def text(prompt: int, length: int) -> TokenHistory:
    """A text of a given length, whose first tokens are the prompt."""
    history = TokenHistory([3] * prompt)
    for _ in range(length - prompt):
        history.append(3)
    return history


def excluded(processor: p.Processor, ids: list[int], size: int) -> list[int]:
    """Ids that a processor excludes after a text, from equal logits."""
    return np.flatnonzero(np.isneginf(processor(TokenHistory(ids), uniform(size)))).tolist()


@pytest.mark.parametrize(("length", "banned"), [(5, [0]), (15, [])])
def test_min_length(length: int, banned: list[int]) -> None:
    assert excluded(p.MinLength(10, (0,)), [3] * length, 20) == banned


@pytest.mark.parametrize("eos", [(0,), (0, 18)], ids=str)
@pytest.mark.parametrize(("length", "is_banned"), [(5, True), (6, True), (7, True), (8, False), (15, False)])
def test_min_new_tokens(eos: tuple[int, ...], length: int, is_banned: bool) -> None:
    left = p.MinNewTokens(3, eos)(text(5, length), uniform(20))
    assert np.flatnonzero(np.isneginf(left)).tolist() == (list(eos) if is_banned else [])


def test_temperature() -> None:
    even, peaked = uniform(20), uniform(20)
    peaked[5], peaked[10] = 1 / 20 + 0.1, 1 / 20 - 0.4
    sharper, smoother = p.Temperature(0.5), p.Temperature(1.3)
    for warper in (sharper, smoother):
        np.testing.assert_allclose(softmax(warper.warped(even)), softmax(even), rtol=1e-3)
    plain = softmax(peaked)
    assert softmax(smoother.warped(peaked)).max() < plain.max() < softmax(sharper.warped(peaked)).max()
    assert softmax(sharper.warped(peaked)).min() < plain.min() < softmax(smoother.warped(peaked)).min()


@pytest.mark.parametrize(
    ("ids", "place", "value", "expected"),
    [([0, 1], 0, -0.1, {0: -0.2, 1: 0.05}), ([5, 0], 5, 0.4, {0: 0.05, 5: 0.2})],
)
def test_repetition_penalty(ids: list[int], place: int, value: float, expected: dict[int, float]) -> None:
    scores = uniform(10)
    scores[place] = value
    left = p.RepetitionPenalty(2.0)(TokenHistory(ids), scores)
    assert {token: pytest.approx(float(left[token])) for token in expected} == expected
    others = [token for token in range(10) if token not in expected]
    np.testing.assert_array_equal(left[others], scores[others])


def test_top_k() -> None:
    first, second = ramp(10), ramp(10)
    second[:5] += 10
    assert np.isfinite(p.TopK(3).warped(first)).tolist() == 7 * [False] + 3 * [True]
    assert np.isfinite(p.TopK(3).warped(second)).tolist() == 2 * [False] + 3 * [True] + 5 * [False]
    least = p.TopK(1, min_tokens_to_keep=3)
    assert np.isfinite(least.warped(uniform(5))).sum() == 5  # ties are kept
    assert np.isfinite(least.warped(ramp(5))).sum() == 3


# Warpers on probabilities: the tokens that each keeps.
LEFT: list[tuple[p.Warper, list[tuple[list[float], list[float]]]]] = [
    (p.TopP(0.8), [([0.3, 0.1, 0.1, 0.5], [0.3, 0, 0, 0.5]), ([0.15, 0.3, 0.3, 0.25], [0, 0.3, 0.3, 0.25])]),
    (
        p.MinP(0.05),
        [
            ([0.9, 0.0274, 0.047, 0.0274], [0.9, 0, 0.047, 0]),
            ([0.15, 0.3, 0.3, 0.25], [0.15, 0.3, 0.3, 0.25]),
            ([0.97, 0.01, 0.01, 0.01], [0.97, 0, 0, 0]),
        ],
    ),
    (p.TypicalP(0.5), [([0.97, 0.01, 0.01, 0.01], [0.97, 0, 0, 0]), ([0.4, 0.2, 0.2, 0.2], [0, 0.2, 0.2, 0.2])]),
    (
        p.EpsilonCutoff(0.1),
        [([0.87, 0.099, 0.001, 0.03], [0.87, 0, 0, 0]), ([0.4, 0.299, 0.101, 0.2], [0.4, 0.299, 0.101, 0.2])],
    ),
    (p.EtaCutoff(0.0625), [([0.0, 0.1, 0.8, 0.1], [0, 0.1, 0.8, 0.1]), ([0.01, 0.04, 0.9, 0.05], [0, 0, 0.9, 0])]),
]


@pytest.mark.parametrize(("warper", "cases"), LEFT, ids=lambda value: getattr(value, "label", ""))
def test_tokens_that_warpers_keep(warper: p.Warper, cases: list[tuple[list[float], list[float]]]) -> None:
    for given, left in cases:
        np.testing.assert_allclose(np.exp(warper.warped(log(*given))), left, atol=1e-3)


# Warpers with min_tokens_to_keep=2, on a ramp from -5 to 4 and on one a hundred times as steep.
@pytest.mark.parametrize(
    ("warper", "counts"),
    [
        (p.TopP(0.9, 2), [3, 2]),
        (p.MinP(0.9, 2), [2, 2]),
        (p.TypicalP(0.7, 2), [2, 2]),
        (p.EpsilonCutoff(0.05, 2), [3, 2]),
        (p.EtaCutoff(0.1, 2), [2, 2]),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_warpers_keep_a_minimum_of_tokens(warper: p.Warper, counts: list[int]) -> None:
    kept = [int(np.isfinite(warper.warped(ramp(10, -5, steepness))).sum()) for steepness in (1, 100)]
    assert kept == counts


def test_typical_keeps_every_token_of_a_uniform_distribution() -> None:
    assert np.isfinite(p.TypicalP(0.5, 3).warped(uniform(5))).all()


@pytest.mark.parametrize(
    ("size", "ids", "banned"),
    [
        (2, [1, 1, 2, 1], [1, 2]),
        (2, [0, 1, 0, 1], [0]),
        (3, [1, 1, 2, 1], []),
        (3, [0, 1, 0, 1], [0]),
        (3, [1, 2], []),  # too short to hold a 3-gram
        (3, [0, 1], []),
        (3, [1, 2, 5, 7, 8, 5, 1, 2], [5]),  # 5 stays banned although another 3-gram ends in it
    ],
    ids=str,
)
def test_no_repeat_ngram(size: int, ids: list[int], banned: list[int]) -> None:
    assert excluded(p.NoRepeatNgram(size), ids, 10) == banned


@pytest.mark.parametrize(("ids", "banned"), [([0, 1, 3, 1], [0, 1, 3]), ([0, 1, 0, 1], [0, 1, 2])], ids=str)
def test_bad_words(ids: list[int], banned: list[int]) -> None:
    words = ((1,), (4,), (1, 0), (0, 1, 2), (1, 3, 1, 3))
    assert excluded(p.BadWords(words, eos_token_ids=(4,)), ids, 5) == banned
    assert excluded(p.BadWords(((4,),), eos_token_ids=(4,)), ids, 5) == []


@pytest.mark.parametrize(
    ("ids", "expected"), [([0, 1, 3, 1], [-100, 100, 0, -100, 100]), ([0, 1, 0, 1], [-100, 100, -100, 0, 100])], ids=str
)
def test_sequence_bias(ids: list[int], expected: list[float]) -> None:
    raised = [((1,), 100.0), ((4,), 100.0)]
    lowered = [(ids, -100.0) for ids in ((1, 0), (0, 1, 2), (1, 3, 1, 3), (1, 3, 1, 3, 1, 3))]
    left = p.SequenceBias((*raised, *lowered))(TokenHistory(ids), np.zeros(5, dtype=np.float32))
    assert left.tolist() == expected


@pytest.mark.parametrize(("prompt", "banned"), [(0, [2, 3, 4]), (1, [0, 1, 4])])
def test_prefix_allowed_tokens(prompt: int, banned: list[int]) -> None:
    processor = p.PrefixAllowedTokens(lambda prompt, ids: [[0, 1], [2, 3]][prompt])
    left = processor(TokenHistory([0, 1, 3, 1], prompt), uniform(5))
    assert np.flatnonzero(np.isneginf(left)).tolist() == banned
    with pytest.raises(OptionError, match="allows nothing"):
        p.PrefixAllowedTokens(lambda prompt, ids: [])(TokenHistory([0], prompt), uniform(5))


# A token that is forced at one length and not at another.
@pytest.mark.parametrize(
    ("processor", "at", "not_at"),
    [(p.ForcedBosToken(0), 1, 4), (p.ForcedEosToken((0,), max_length=5), 4, 3)],
    ids=lambda value: getattr(value, "label", ""),
)
def test_forced_tokens(processor: Any, at: int, not_at: int) -> None:
    assert processor(text(at, at), uniform(20)).tolist() == [0, *[-INF] * 19]
    assert np.isfinite(processor(text(not_at, not_at), uniform(20))).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 0.7, 0.8, np.nan], [0.0, 0.7, 0.8, 0.0]),
        ([0.1, INF, 0.3, -INF], [0.1, np.finfo(np.float32).max, 0.3, np.finfo(np.float32).min]),
    ],
)
def test_invalid_values(scores: list[float], expected: list[float]) -> None:
    left = p.RemoveInvalidValues()(TokenHistory([1]), np.array(scores, dtype=np.float32))
    np.testing.assert_array_equal(left, np.array(expected, dtype=np.float32))


def test_exponential_decay() -> None:
    decay = p.ExponentialDecayLengthPenalty(5, 1.1, (0,))
    np.testing.assert_array_equal(decay(text(2, 2), uniform(20)), uniform(20))
    for scores in (uniform(20), -uniform(20)):
        left = decay(text(2, 20), scores)
        assert left[0] > scores[0]
        np.testing.assert_array_equal(left[1:], scores[1:])


@pytest.mark.parametrize("scores", [[-23.18, -29.96, -43.54, 47.77], [-33.58, -26.87, -32.96, 22.51]], ids=str)
def test_renormalising(scores: list[float]) -> None:
    given = np.array(scores, dtype=np.float32)
    left = np.exp(p.RenormalizeLogits().warped(given))
    assert left.sum() == pytest.approx(1)
    np.testing.assert_allclose(left, softmax(given), rtol=1e-5)
