"""Extreme option values are an error before any work, or decode as in exact arithmetic.

The oracle computes scores as fractions. float32 scores are rounded, so a chosen token may differ from the oracle's by
that rounding error.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from pellucid.decoding import finish, prepare, start
from pellucid.decoding import processors as p
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.records.replay import replay_task
from pellucid.decoding.result_building import generations
from pellucid.errors import DecodingError, OptionError
from pellucid.logits import softmax

from .engines import ScriptedEngine

VOCAB = 9
EOS = 8
PROMPT = [1, 2, 1]
NEW_TOKENS = 3

# A draw from float32 weights cannot reach a token whose log-probability is lower than the best by more than this.
REACH = 104
ROUNDING = 8 * 2.0**-24

extremes: st.SearchStrategy[Any] = st.one_of(
    st.floats(),
    st.floats(0, 2),
    st.sampled_from([5e-324, 1e-300, 1e-45, 1e-38, 1e-20, 1e-7, 1e4, 1e9, 1e38, 3.5e38, 1e300, 10**400, 2**64, True]),
    st.sampled_from([-5e-324, -1e-38, -1.0, -1e4, -1e9, -1e38, -1e300, -(10**400), "1"]),
)
counts: st.SearchStrategy[Any] = st.one_of(
    st.integers(), st.integers(0, 12), st.sampled_from([2**31, 2**63 - 1, 2**63, 10**400])
)


def upto(least: float, most: float) -> st.SearchStrategy[Any]:
    """Numbers of the valid range, its bounds, and sometimes any number."""
    legal = st.one_of(st.floats(least, most), st.sampled_from([least, most, 1.0]))
    return st.integers(0, 9).flatmap(lambda one_in_ten: legal if one_in_ten else extremes)


few: st.SearchStrategy[Any] = st.integers(0, 9).flatmap(lambda one_in_ten: st.integers(1, 5) if one_in_ten else counts)
temperatures = upto(5e-324, 1e308) | upto(5e-324, 1e-3)
penalties = upto(-1000, 1000)
sequence_biases = st.dictionaries(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=2).map(tuple),
    upto(-1e9, 1e9) | upto(-9, 9) | st.sampled_from([math.inf, -math.inf]),
    min_size=1,
    max_size=3,
)
decays = st.tuples(few, upto(5e-324, 1e308))
numbers = st.fixed_dictionaries(
    {},
    optional={
        "temperature": temperatures,
        "repetition_penalty": upto(1e-4, 1e4),
        "frequency_penalty": penalties,
        "presence_penalty": penalties,
        "sequence_bias": sequence_biases,
        "top_k": few,
        "min_p": upto(0, 1),
        "do_sample": st.just(True),
        "seed": counts,
    },
)
searches = st.fixed_dictionaries(
    {"num_beams": few},
    optional={
        "length_penalty": upto(-10, 10),
        "sequence_bias": sequence_biases,
        "repetition_penalty": upto(1e-4, 1e4),
        "num_return_sequences": few,
        "temperature": temperatures,
        "early_stopping": st.sampled_from([True, False, "never"]),
        "exponential_decay_length_penalty": decays,
    },
)
groups = st.fixed_dictionaries(
    {"num_beams": st.just(4), "num_beam_groups": st.sampled_from([2, 4]), "diversity_penalty": upto(0, 1000)},
    optional={"length_penalty": upto(-10, 10), "sequence_bias": sequence_biases},
)
others = st.fixed_dictionaries(
    {},
    optional={
        "top_p": upto(5e-324, 1),
        "typical_p": upto(5e-324, 1),
        "epsilon_cutoff": upto(0, 1),
        "eta_cutoff": upto(0, 1),
        "temperature": temperatures,
        "exponential_decay_length_penalty": decays,
        "no_repeat_ngram_size": few,
        "suppress_tokens": st.lists(few, max_size=3),
        "min_length": few,
        "max_length": few | st.just(7),
        "prompt_lookup_num_tokens": few,
        "remove_invalid_values": st.booleans(),
        "renormalize_logits": st.booleans(),
        "seed": counts,
    },
)


def own_logits(ids: list[int]) -> np.ndarray:
    return np.random.default_rng(ids).normal(scale=6, size=VOCAB).astype(np.float32)


def engine() -> ScriptedEngine:
    return ScriptedEngine(own_logits, VOCAB, n_positions=32)


def settled(given_options: dict[str, Any]) -> GenerationOptions:
    lengths = {} if "max_length" in given_options else {"max_new_tokens": NEW_TOKENS}
    return GenerationOptions.from_kwargs({**lengths, **given_options}, eos_token_id=(EOS,))


def records_of(given_options: dict[str, Any]) -> tuple[GenerationOptions, list[Record]] | None:
    """Options and records of a decode; None if it is refused, in which case the engine has made no step."""
    model = engine()
    try:
        options = settled(given_options)
        task = prepare(model, [PROMPT], options, recorder=Recorder())
        run = start(task)
    except (OptionError, ValueError) as error:
        assert isinstance(error, OptionError) or "positions" in str(error)
        assert len(str(error)) < 2000
        assert model.steps == 0 and not model.slots
        return None
    try:
        found = generations(task, finish(run), None, None)
    except DecodingError:  # the options exclude every token
        assert excludes_all_tokens(options)
        return None
    return options, [generation.record for generation in found if generation.record is not None]


def excludes_all_tokens(options: GenerationOptions) -> bool:
    """True if the options may exclude every token: biases of -inf, short n-grams, suppressed tokens."""
    biases = [bias for _, bias in options.sequence_bias or ()]
    return -math.inf in biases or bool(options.no_repeat_ngram_size or options.suppress_tokens)


def exact_scores(options: GenerationOptions, ids: list[int]) -> dict[int, Fraction]:
    """Exact score of every allowed next token, before temperature."""
    new_ids = ids[len(PROMPT) :]
    scores = {token: Fraction(float(logit)) for token, logit in enumerate(own_logits(ids))}
    forced, excluded = set(), set()
    for sequence, bias in dict(options.sequence_bias or ()).items():
        if list(sequence[:-1]) == ids[len(ids) - len(sequence) + 1 :]:
            if math.isinf(bias):
                (forced if bias > 0 else excluded).add(sequence[-1])
            else:
                scores[sequence[-1]] += Fraction(bias)
    kept = (forced or set(scores)) - excluded
    scores = {token: Fraction(0) if forced else scores[token] for token in kept - excluded}
    penalty = Fraction(options.repetition_penalty)
    for token in set(ids) & set(scores):
        scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
    for token, count in Counter(new_ids).items():
        if token in scores:
            scores[token] -= count * Fraction(options.frequency_penalty) + Fraction(options.presence_penalty)
    return scores


@settings(max_examples=100)
@given(given_options=numbers)
@example({"temperature": 1e-38})
@example({"temperature": 5e-324, "seed": 1})
@example({"temperature": 1e300, "sequence_bias": {(3,): -math.inf}})
@example({"repetition_penalty": 1e-300})
@example({"frequency_penalty": -1e300})
@example({"sequence_bias": {(3,): math.inf, (4,): math.inf, (2, 4): -math.inf}, "do_sample": True})
def test_tokens_are_those_of_exact_arithmetic(given_options: dict[str, Any]) -> None:
    found = records_of(given_options)
    if found is None:
        return
    options, (record,) = found
    event("decodes")
    ids = list(PROMPT)
    for token in record.new_ids:
        scores = exact_scores(options, ids)
        assert token in scores
        rounding = Fraction(ROUNDING) * max(map(abs, scores.values()))
        below_best = max(scores.values()) - scores[token]
        reach = Fraction(options.temperature) * REACH if options.do_sample else 0
        assert below_best <= reach + rounding
        ids.append(token)


@settings(max_examples=100)
@given(given_options=st.one_of(numbers, searches, groups, others))
@example({"exponential_decay_length_penalty": (0, 1e300), "do_sample": True})
@example({"num_beams": 4, "length_penalty": 10, "exponential_decay_length_penalty": (0, 1e300)})
@example({"num_beams": 2**40})
@example({"do_sample": True, "num_return_sequences": 2**40})
def test_a_record_replays_for_any_options(given_options: dict[str, Any]) -> None:
    found = records_of(given_options)
    if found is None:
        return
    event("decodes")
    for record in found[1]:
        again = Record.from_json(record.to_json())
        assert again == record
        assert all(0 <= token < VOCAB for token in record.new_ids)
        task, rank = replay_task(engine(), again, functions={})
        assert finish(start(task))[rank].new_ids == list(record.new_ids)


@given(
    logits=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=8),
    temperature=st.one_of(st.floats(5e-324, 1e308), st.floats(5e-324, 1e-3)),
)
def test_any_temperature_leaves_the_softmax_of_exact_quotients(logits: list[float], temperature: float) -> None:
    row = np.array(logits, dtype=np.float32)
    with np.errstate(over="ignore"):
        exact = np.exp((row.astype(np.float64) - row.max()) / temperature)
    left = softmax(p.Temperature(temperature).warped(row))
    np.testing.assert_allclose(left, exact / exact.sum(), atol=2e-3)


def test_a_logits_processor_that_returns_infinity_is_an_error() -> None:
    processor = p.UserProcessor(lambda ids, logits: np.where(logits > 0, np.inf, logits))
    with pytest.raises(OptionError, match="returned infinity for id 1"):
        processor(TokenHistory([1]), np.array([-1, 2, 3], dtype=np.float32))
