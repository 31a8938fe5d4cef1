"""Sessions: look at the distribution, append, undo, fork, run; the record holds every operation."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pellucid
from pellucid.errors import ContextLengthError, OptionError, RecordError
from pellucid.language_model import LanguageModel

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def lm() -> Iterator[LanguageModel]:
    yield pellucid.load("demo")


def test_appending_the_most_likely_token_is_greedy_decoding(lm: LanguageModel) -> None:
    session = lm.session(PROMPT)
    for _ in range(6):
        session.append(session.distribution().model.top[0].id)
    expected = lm.generate(PROMPT, max_new_tokens=6)
    assert (session.text, session.new_text, session.ids) == (expected.text, expected.new_text, expected.ids)
    assert session.record.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert {step.source for step in session.record.steps} == {"steered"}


def test_a_distribution_shows_before_and_after_the_processors(lm: LanguageModel) -> None:
    session = lm.session(PROMPT, top_k=5)
    looked = session.distribution()
    assert (looked.model.kept, looked.processed.kept) == (50257, 5)
    assert len(looked.model.top) == 50
    assert looked.logits.shape == (50257,)
    assert looked.tokens[looked.model.top[0].id] == lm.predict(PROMPT)[0].token
    again = session.distribution(top_k=2, temperature=0.5, full=True)
    assert again.processed.kept == 2
    assert again.model.logprobs is not None
    first, second = (entry.logprob for entry in again.processed.top)
    assert first - second == pytest.approx(2 * (looked.model.top[0].logprob - looked.model.top[1].logprob), abs=1e-4)


def test_a_session_has_the_texts_of_its_generation(lm: LanguageModel) -> None:
    session = lm.session("")
    found = session.run(max_new_tokens=4, forced_eos_token_id=50256)
    assert found.finish_reason == "eos"
    assert (session.text, session.new_text, session.ids) == (found.text, found.new_text, found.ids)
    assert "<|endoftext|>" not in str(session.text)


def test_text_can_be_appended_and_undone(lm: LanguageModel) -> None:
    session = lm.session(PROMPT)
    before = session.distribution().logits
    session.append(" there was a dragon")
    assert session.text == PROMPT + " there was a dragon"
    assert len(session.record.steps) == 4
    assert session.record.steps[0].token == lm.tokenizer.encode(" there")[0]
    session.undo(4)
    assert session.text == PROMPT
    assert session.record.steps == ()
    np.testing.assert_allclose(session.distribution().logits, before, rtol=1e-4, atol=1e-4)


def test_a_fork_is_independent_of_its_session(lm: LanguageModel) -> None:
    session = lm.session(PROMPT).append(",")
    twin = session.fork()
    session.append(" a")
    twin.append(" the").append(" old")
    assert (session.text, twin.text) == (PROMPT + ", a", PROMPT + ", the old")
    twin.undo(3)
    assert (session.new_text, twin.new_text) == (", a", "")


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"temperature": 0.8, "seed": 4}, {"prompt_lookup_num_tokens": 4}, {"stop_strings": [" a"]}],
    ids=str,
)
def test_run_gives_the_tokens_of_generate(lm: LanguageModel, options: dict[str, object]) -> None:
    session = lm.session(PROMPT).append(" there was")
    expected = lm.generate(session.ids, max_new_tokens=9, **options)
    assert not isinstance(expected, list)
    found = session.run(max_new_tokens=9, **options)
    assert found.new_ids == expected.new_ids
    assert found.new_text == expected.new_text
    assert session.new_ids == lm.tokenizer.encode(" there was") + expected.new_ids
    assert [step.step for step in session.record.steps] == list(range(len(session.new_ids)))
    follow = lm.generate(session.ids, max_new_tokens=3)
    assert session.run(max_new_tokens=3).new_ids == follow.new_ids  # type: ignore[union-attr]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.one_of(st.integers(0, 50256), st.sampled_from(["undo", "fork", "run", "look"])), max_size=9))
def test_any_operations_leave_the_logits_of_the_text(lm: LanguageModel, moves: list[int | str]) -> None:
    session = lm.session(PROMPT)
    expected: list[int] = lm.tokenizer.encode(PROMPT)
    prompt_length = len(expected)
    for move in moves:
        if isinstance(move, int):
            session.append(move)
            expected.append(move)
        elif move == "undo" and len(expected) > prompt_length:
            session.undo()
            expected.pop()
        elif move == "fork":
            session = session.fork()
        elif move == "run":
            expected += session.run(max_new_tokens=2).new_ids
        elif move == "look":
            session.distribution(top_p=0.9)
    assert session.ids == expected
    assert [step.token for step in session.record.steps] == expected[prompt_length:]
    best = lm.predict(expected, top=1)[0]
    found = session.distribution().model.top[0]
    assert found.probability == pytest.approx(best.probability, abs=1e-4)


@pytest.mark.needs("torch")
def test_a_session_frees_its_slot_when_closed_or_forgotten() -> None:
    lm = pellucid.load("demo", engine="torch")
    gc.collect()
    before = lm.engine.open_slots
    with lm.session(PROMPT) as session:
        twin = session.fork().append(" there")
        assert lm.engine.open_slots == before + 2
    assert lm.engine.open_slots == before + 1
    del twin, session
    gc.collect()
    assert lm.engine.open_slots == before


def test_a_session_ends_at_the_last_position(lm: LanguageModel) -> None:
    positions = lm.config.n_positions
    session = lm.session([262] * (positions - 2))
    assert len(session.run(max_new_tokens=40).new_ids) == 2
    with pytest.raises(ContextLengthError, match=f"all of the model's {positions} positions"):
        session.run()
    with pytest.raises(ContextLengthError):
        session.append(" no")
    assert len(session.ids) == positions
    with pytest.raises(ContextLengthError, match=f"{positions + 1} tokens"):
        lm.session([262] * (positions + 1))


def test_invalid_operations_of_a_session_are_errors(lm: LanguageModel) -> None:
    session = lm.session(PROMPT)
    for wrong, said in (
        (lambda: session.undo(1), "there are 0 new tokens"),
        (lambda: session.append(99999), "id 99999"),
        (lambda: session.append(-1), "id -1"),
        (lambda: session.run(num_return_sequences=2, do_sample=True), "num_return_sequences"),
        (lambda: session.run(context="slide"), "does not slide"),
        (lambda: session.distribution(top_p=7), "top_p is 7"),
        (lambda: lm.session(PROMPT, temprature=1), "did you mean temperature"),
        (lambda: lm.session([PROMPT, PROMPT]), "one prompt"),
    ):
        with pytest.raises(OptionError, match=said):
            wrong()  # type: ignore[no-untyped-call]
    assert session.text == PROMPT
    with pytest.raises(RecordError, match="chosen by hand"):
        lm.replay(session.append(" the").record)
