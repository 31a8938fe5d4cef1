"""Recording changes no token, a record holds what happened, and its replay gives the same tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pellucid.decoding import decode, finish, prepare, start
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import Recorder
from pellucid.decoding.records.replay import replay_task
from pellucid.decoding.records.values import TOP
from pellucid.decoding.result_building import generations, stream_record
from pellucid.errors import ContextLengthError, DecodingError, OptionError, RecordError
from pellucid.logits import log_softmax
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair

PROMPTS = [[5, 6, 7], [11, 12]]


@pytest.fixture(scope="module")
def engine(pair: Callable[..., Pair]) -> ReferenceEngine:
    return ReferenceEngine(pair()[0])


def recorded(engine: ReferenceEngine, prompts: list[list[int]], options: dict[str, Any], **also: Any) -> list[Record]:
    """Records of a call, each written to JSON and read back."""
    settled = GenerationOptions.from_kwargs(options, eos_token_id=(0,))
    task = prepare(engine, prompts, settled, recorder=Recorder(**also))
    found = generations(task, finish(start(task)), None, "a model")
    records = [generation.record for generation in found]
    return [Record.from_json(record.to_json()) for record in records if record is not None]


def replayed(engine: ReferenceEngine, record: Record, **also: Any) -> list[int]:
    task, rank = replay_task(engine, record, functions=also.pop("functions", {}), **also)
    return finish(start(task))[rank].new_ids


shared = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 9)},
    optional={
        "repetition_penalty": st.floats(0.5, 2),
        "no_repeat_ngram_size": st.integers(1, 3),
        "bad_words_ids": st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=2), min_size=1, max_size=3),
        "sequence_bias": st.just([[[3, 4], 2.5], [[9], -math.inf]]),
        "frequency_penalty": st.floats(-1, 1),
        "min_new_tokens": st.integers(0, 1),
        "suppress_tokens": st.lists(st.integers(1, 200), max_size=3),
        "renormalize_logits": st.booleans(),
    },
)
sampling = st.fixed_dictionaries(
    {"do_sample": st.just(True)},
    optional={
        "temperature": st.floats(0.2, 3),
        "top_k": st.integers(1, 60),
        "top_p": st.floats(0.05, 1),
        "min_p": st.floats(0, 0.5),
        "typical_p": st.floats(0.1, 1),
        "seed": st.integers(0, 2**63),
        "num_return_sequences": st.integers(1, 3),
    },
)
beams = st.fixed_dictionaries(
    {"num_beams": st.integers(2, 4)},
    optional={
        "num_return_sequences": st.integers(1, 2),
        "length_penalty": st.floats(-1, 2),
        "early_stopping": st.sampled_from([True, False, "never"]),
    },
)
lookup = st.fixed_dictionaries({"prompt_lookup_num_tokens": st.integers(1, 5)})
beam_sampling = st.fixed_dictionaries(
    {
        "num_beams": st.integers(2, 3),
        "do_sample": st.just(True),
        "top_k": st.integers(4, 40),
        "seed": st.integers(0, 99),
    }
)
ways = st.one_of(st.just({}), sampling, beams, lookup, beam_sampling)
options = st.tuples(shared, ways).map(lambda both: {**both[0], **both[1]})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=options)
def test_a_record_replays_to_the_same_tokens_and_recording_changes_none(
    engine: ReferenceEngine, options: dict[str, Any]
) -> None:
    records = recorded(engine, PROMPTS, options)
    for record in records:
        assert replayed(engine, record) == list(record.new_ids)
    if "seed" in options or not options.get("do_sample"):
        plain = decode(engine, PROMPTS, GenerationOptions.from_kwargs(options, eos_token_id=(0,)))
        assert [result.new_ids for result in plain] == [list(record.new_ids) for record in records]
    assert engine.open_slots == 0


def test_a_step_records_the_distribution_of_the_model_and_after_each_processor(engine: ReferenceEngine) -> None:
    options = {"temperature": 0.7, "top_k": 9, "top_p": 0.8, "repetition_penalty": 1.2, "seed": 1, "max_new_tokens": 6}
    (record,) = recorded(engine, PROMPTS[:1], options, full=True)
    assert record.strategy == "sample"
    assert [step.step for step in record.steps] == list(range(6))
    assert record.logprob == pytest.approx(sum(step.logprob for step in record.steps))
    for number, step in enumerate(record.steps):
        before = PROMPTS[0] + list(record.new_ids[:number])
        expected = logprobs_after(engine, before)
        model = step.expansion.model
        np.testing.assert_allclose(model.logprobs, expected, atol=1e-5)
        assert [entry.id for entry in model.top] == np.argsort(-expected, kind="stable")[:TOP].tolist()
        assert model.entropy == pytest.approx(-(np.exp(expected) * expected).sum(), abs=1e-4)
        assert step.rank == int((expected > expected[step.token]).sum())
        assert step.logprob == pytest.approx(expected[step.token], abs=1e-5)
        labels = [effect.label for effect in step.expansion.processors]
        assert labels == ["repetition_penalty 1.2", "temperature 0.7", "top_k 9", "top_p 0.8"]
        kept = [effect.after.kept for effect in step.expansion.processors]
        assert kept[:3] == [211, 211, 9]
        assert 1 <= kept[3] <= 9
        last = step.expansion.chosen_from
        assert last.logprobs is not None
        assert np.exp(last.logprobs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
        assert step.probability == pytest.approx(math.exp(last.logprob(step.token) or -math.inf), abs=1e-5)


def logprobs_after(engine: ReferenceEngine, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    slot = engine.open()
    logits = engine.step([slot], [ids]).logits[0]
    engine.drop(slot)
    return log_softmax(logits)


def test_a_draw_can_be_reproduced_from_the_record(engine: ReferenceEngine) -> None:
    """Inverse transform sampling, in order of id, with the recorded number in [0, 1) gives the token."""
    (record,) = recorded(engine, PROMPTS[:1], {"top_k": 20, "seed": 5, "max_new_tokens": 12}, full=True)
    for step in record.steps:
        logprobs = step.expansion.chosen_from.logprobs
        assert logprobs is not None
        assert step.uniform is not None
        cumulative = np.exp(logprobs.astype(np.float64)).cumsum()
        below = cumulative[step.token - 1] if step.token else 0.0
        assert below - 1e-5 <= step.uniform <= cumulative[step.token] + 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 8},
        {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 8, "eos_token_id": list(range(0, 211, 9))},
        {"num_beams": 2, "early_stopping": True, "max_new_tokens": 9, "eos_token_id": list(range(0, 211, 5))},
        {"num_beams": 3, "do_sample": True, "top_k": 20, "seed": 2, "max_new_tokens": 7},
    ],
    ids=str,
)
def test_a_tree_holds_every_hypothesis_and_its_outcome(engine: ReferenceEngine, options: dict[str, Any]) -> None:
    records = recorded(engine, PROMPTS, options)
    for record in records:
        best = record.tree[record.returned or 0]
        assert (best.fate, best.finish_reason) == ("returned", record.finish_reason)
        assert [node.token for node in record.path()[1:]] == list(record.new_ids)
        parents = {node.parent for node in record.tree}
        for node in record.tree:
            assert (node.fate == "extended") == (node.id in parents)
            assert node.fate != "running"
            assert (node.ended is None) == (node.fate == "extended")
            assert (node.final_score is not None) == (node.fate in ("finished", "displaced", "returned"))
            if node.parent is not None:
                assert node.length == record.tree[node.parent].length + 1
            if node.fate in ("extended", "cut") and node.ended != node.length - 1:
                assert node.expansion is not None
        # At most num_beams hypotheses of a step continued or were cut in the next step.
        for length in range(1, options["max_new_tokens"]):
            on_a_beam = [n for n in record.tree if n.length == length and n.fate in ("extended", "cut")]
            assert len(on_a_beam) <= options["num_beams"]
    ranks = [record.tree[record.returned or 0].rank for record in records]
    assert ranks == [*range(options.get("num_return_sequences", 1))] * len(PROMPTS)
    scores = [record.tree[record.returned or 0].final_score for record in records]
    results = decode(engine, PROMPTS, GenerationOptions.from_kwargs(options))
    assert scores == pytest.approx([result.score for result in results])


def test_a_record_streams_step_by_step(engine: ReferenceEngine) -> None:
    for options in ({"max_new_tokens": 5}, {"max_new_tokens": 5, "num_beams": 3}):
        settled = GenerationOptions.from_kwargs(options)
        task = prepare(engine, PROMPTS[:1], settled, recorder=Recorder())
        *parts, whole = stream_record(task, None, None)
        assert len(parts) == 5
        sizes = [len(part.tree) or len(part.steps) for part in parts]
        assert sizes == sorted(set(sizes))
        assert whole.new_ids == tuple(decode(engine, PROMPTS[:1], settled)[0].new_ids)
        assert whole.finish_reason == "length"
    stopped = stream_record(prepare(engine, PROMPTS[:1], settled, recorder=Recorder()), None, None)
    next(stopped)
    del stopped
    assert engine.open_slots == 0


def test_functions_are_named_and_must_be_given_again(engine: ReferenceEngine) -> None:
    def shy(ids: Any, logits: Any) -> Any:
        logits[ids[-1]] = -np.inf
        return logits

    (record,) = recorded(engine, PROMPTS[:1], {"logits_processor": shy, "max_new_tokens": 7})
    assert record.options["logits_processor"] == ["shy"]
    assert record.steps[0].expansion.processors[-1].label == "logits_processor shy"
    with pytest.raises(RecordError, match=r"logits_processor=\['shy'\].*give it again"):
        replayed(engine, record)
    assert replayed(engine, record, functions={"logits_processor": shy}) == list(record.new_ids)


def test_an_assistant_that_drew_must_be_given_again(engine: ReferenceEngine, pair: Callable[..., Pair]) -> None:
    assistant = ReferenceEngine(pair(seed=8, n_layer=1)[0])
    settled = GenerationOptions(do_sample=True, top_k=5, seed=3, max_new_tokens=12)
    task = prepare(engine, PROMPTS[:1], settled, recorder=Recorder(), assistant=assistant)
    record = generations(task, finish(start(task)), None, None)[0].record
    assert record is not None
    with pytest.raises(RecordError, match="assistant_model"):
        replayed(engine, record)
    assert replayed(engine, record, assistant=assistant) == list(record.new_ids)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}), st.just([[]]),
    st.sampled_from([2**31, 2**63, 2**64, 10**400, "inf", "\ud800", [1, 2], [[1, 2]], ["x"], [None], [[1, "inf"]]]),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([field.name for field in dataclasses.fields(GenerationOptions)]), odd=ODD)
@example(name="eos_token_id", odd=None)
@example(name="num_beams", odd=2**31)
@example(name="sequence_bias", odd=1e308)
@example(name="vocab_limit", odd=[1, 2])
@example(name="stop_strings", odd="\ud800")
def test_a_record_of_unusual_options_replays_or_is_an_error(engine: ReferenceEngine, name: str, odd: Any) -> None:
    (record,) = recorded(engine, PROMPTS[:1], {"max_new_tokens": 3, "do_sample": True, "seed": 1})
    plain = record.to_dict()
    plain["options"][name] = odd
    try:
        task, rank = replay_task(engine, Record.from_dict(plain), functions={}, token_bytes=lambda token: b"x")
        finish(start(task))[rank]
    except (RecordError, OptionError, ContextLengthError, DecodingError):
        assert engine.open_slots == 0


def test_a_record_that_contradicts_itself_is_an_error(engine: ReferenceEngine) -> None:
    (sampled,) = recorded(engine, PROMPTS[:1], {"max_new_tokens": 2, "do_sample": True, "seed": 1})
    (searched,) = recorded(engine, PROMPTS[:1], {"max_new_tokens": 2, "num_beams": 2})
    returned = searched.tree[searched.returned or 0]
    odd_rank = dataclasses.replace(returned, rank=7)
    tree = tuple(odd_rank if node is returned else node for node in searched.tree)
    for record, said in (
        (dataclasses.replace(sampled, strategy="greedy"), "strategy is greedy, and its options ask for sample"),
        (dataclasses.replace(sampled, draw_key=None), "lacks the draw_key"),
        (dataclasses.replace(searched, tree=tree), "result 7 of 1"),
        ("a record", "not 'a record'"),
    ):
        with pytest.raises(RecordError, match=said):
            replayed(engine, record)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="it has no temperature"):
        replayed(engine, sampled, functions={"temperature": 1})


def test_a_record_of_damaged_options_is_an_error(engine: ReferenceEngine) -> None:
    (record,) = recorded(engine, PROMPTS[:1], {"max_new_tokens": 2})
    damaged = Record.from_json(record.to_json().replace('"max_new_tokens"', '"max_old_tokens"'))
    with pytest.raises(RecordError, match="max_old_tokens"):
        replayed(engine, damaged)
    with pytest.raises(OptionError, match="max_new_tokens is -2"):
        replayed(engine, Record.from_json(record.to_json().replace('"max_new_tokens": 2', '"max_new_tokens": -2')))
