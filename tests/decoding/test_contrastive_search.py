"""Contrastive search chooses the tokens of Transformers 4.49, records its candidates, and closes its slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pellucid
from pellucid.decoding import GenerationOptions, decode, prepare, start
from pellucid.decoding.records.recording import Recorder
from pellucid.errors import ContextLengthError, DecodingError, OptionError
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair
from .recorded import (
    FOLDER,
    RecordedCase,
    failing,
    generated,
    random_prompts,
    recorded_cases,
    recorded_engine,
    recorded_model,
    succeeding,
)

CASES = recorded_cases("contrastive.json")
PROMPTS = random_prompts(7, 6, 1, 11)


def leaves_fewer_than_top_k(case: RecordedCase) -> bool:
    return 67 - len(case.options.get("suppress_tokens", [])) < case.options.get("top_k", 50)


def options(**changes: Any) -> GenerationOptions:
    return GenerationOptions(**{"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 8, **changes})


@pytest.mark.parametrize("case", [case for case in succeeding(CASES) if not leaves_fewer_than_top_k(case)], ids=str)
def test_it_chooses_the_tokens_of_transformers(case: RecordedCase) -> None:
    new_ids, _ = generated(case)
    assert new_ids == list(case.sequences)


def test_excluded_tokens_are_never_candidates() -> None:
    # Transformers 4.49 adds excluded tokens to the candidates in this case, and can choose them.
    [case] = [case for case in CASES if leaves_fewer_than_top_k(case) and case.error is None]
    allowed = set(range(67)) - set(case.options["suppress_tokens"])
    assert not set(case.sequences[0]) <= allowed
    [new_ids], _ = generated(case)
    assert set(new_ids) <= allowed
    recorder = Recorder()
    decode(recorded_engine(), PROMPTS[:1], options(suppress_tokens=tuple(set(range(67)) - {5, 6})), recorder=recorder)
    assert {candidate.id for step in recorder.rows[0].steps for candidate in step.candidates} == {5, 6}
    with pytest.raises(DecodingError, match="exclude every one"):
        decode(recorded_engine(), PROMPTS[:1], options(suppress_tokens=tuple(range(67))))


def test_impossible_options_are_named() -> None:
    too_many, uncached, several = failing(CASES)
    with pytest.raises(OptionError, match="top_k is 68, but this model has only 67 ids"):
        generated(too_many)
    with pytest.raises(OptionError, match="num_return_sequences is more than 1"):
        generated(several)
    # Transformers refuses use_cache=False with contrastive search. Pellucid ignores it: the KV cache changes no token.
    with_cache = {name: value for name, value in uncached.options.items() if name != "use_cache"}
    assert generated(uncached) == generated(RecordedCase(with_cache, uncached.prompts))


def test_each_choice_is_the_best_by_the_formula_after_a_long_prompt(pair: Callable[..., Pair]) -> None:
    ours, theirs = pair(n_positions=320)
    prompts = np.random.default_rng(0).integers(1, 211, size=300).tolist()
    chosen = decode(ReferenceEngine(ours), [prompts, prompts[:5]], options(max_new_tokens=6, top_k=5))
    for prompt, result in zip([prompts, prompts[:5]], chosen, strict=True):
        ids = list(prompt)
        for token in result.new_ids:
            assert token == best_by_the_formula(theirs, ids, alpha=0.6, top_k=5)
            ids.append(token)


@torch.no_grad()
def best_by_the_formula(model: Any, ids: list[int], alpha: float, top_k: int) -> int:
    """The best candidate, computed by a full forward pass for each candidate."""
    probabilities, candidates = model(torch.tensor([ids])).logits[0, -1].softmax(-1).topk(top_k)
    texts = torch.tensor([[*ids, token] for token in candidates.tolist()])
    states = model(texts, output_hidden_states=True).hidden_states[-1]  # [top_k, seq + 1, n_embd]
    unit = states / states.norm(dim=-1, keepdim=True)
    likeness = (unit[:, :-1] @ unit[:, -1:].transpose(1, 2)).amax(dim=(1, 2))
    return int(candidates[((1 - alpha) * probabilities - alpha * likeness).argmax()])


def test_with_penalty_alpha_0_it_is_greedy() -> None:
    greedy = decode(recorded_engine(), PROMPTS, GenerationOptions(max_new_tokens=12))
    slight = decode(recorded_engine(), PROMPTS, options(penalty_alpha=1e-7, max_new_tokens=12))
    assert [result.new_ids for result in slight] == [result.new_ids for result in greedy]
    assert [result.logprob for result in slight] == pytest.approx([result.logprob for result in greedy], rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"eos_token_id": (0, 33, 48)}, {"top_k": 2, "repetition_penalty": 1.5}], ids=str
)
def test_a_prompt_gives_in_a_batch_what_it_gives_alone(changes: dict[str, Any]) -> None:
    together = decode(recorded_engine(), PROMPTS, options(max_new_tokens=15, **changes))
    alone = [decode(recorded_engine(), [prompt], options(max_new_tokens=15, **changes))[0] for prompt in PROMPTS]
    assert [result.new_ids for result in together] == [result.new_ids for result in alone]
    assert [result.finish_reason for result in together] == [result.finish_reason for result in alone]
    assert [result.prompt for result in together] == [0, 1, 2]


def test_no_slot_is_left_behind() -> None:
    engine = recorded_engine()
    decode(engine, PROMPTS, options(eos_token_id=(0, 33, 48)))
    assert engine.open_slots == 0
    steps = start(prepare(engine, PROMPTS, options()))
    next(steps)
    assert engine.open_slots == len(PROMPTS)
    steps.close()
    assert engine.open_slots == 0


def test_all_slots_are_closed_after_an_engine_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = recorded_engine()
    steps = start(prepare(engine, PROMPTS, options()))
    next(steps)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "step", fail)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert engine.open_slots == 0


def test_a_step_is_one_engine_call_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = recorded_engine()
    steps = start(prepare(engine, PROMPTS, options()))
    next(steps)
    asked: list[int] = []
    step = engine.step

    def counted(slots: Any, tokens: Any, **kwargs: Any) -> Any:
        asked.append(len(slots))
        return step(slots, tokens, **kwargs)

    monkeypatch.setattr(engine, "step", counted)
    assert [token.row for token in next(steps)] == [0, 1, 2]
    assert asked == [4 * len(PROMPTS)]
    steps.close()


def test_the_record_has_every_candidate_and_the_best_is_chosen() -> None:
    recorder = Recorder()
    results = decode(recorded_engine(), PROMPTS, options(suppress_tokens=(2,)), recorder=recorder)
    for number, result in enumerate(results):
        steps = recorder.rows[number].steps
        assert [step.token for step in steps] == result.new_ids
        assert sum(step.logprob for step in steps) == pytest.approx(result.logprob)
        for step in steps:
            assert step.source == "contrastive"
            assert len(step.candidates) == 4
            best = max(step.candidates, key=lambda candidate: candidate.score)
            assert step.token == best.id
            assert step.probability == pytest.approx(best.probability, rel=1e-5)
            assert [one.probability for one in step.candidates] == sorted(
                (one.probability for one in step.candidates), reverse=True
            )
            for one in step.candidates:
                assert -1.0001 <= one.likeness <= 1.0001
                assert one.score == pytest.approx(0.4 * one.probability - 0.6 * one.likeness, abs=1e-6)
                assert step.expansion.chosen_from.logprob(one.id) == pytest.approx(np.log(one.probability), abs=1e-4)


def test_the_candidates_of_the_last_token_need_positions_too() -> None:
    [prompt] = random_prompts(3, 40)  # of 48 positions
    assert len(decode(recorded_engine(), [prompt], options(max_new_tokens=8))[0].new_ids) == 8
    engine = recorded_engine()
    with pytest.raises(ContextLengthError, match="49 positions with penalty_alpha.*has 48"):
        start(prepare(engine, [prompt], options(max_new_tokens=9)))
    assert engine.open_slots == 0


def test_stop_strings_criteria_and_time_end_it() -> None:
    def token_bytes(token: int) -> bytes:
        return bytes([token + 32])

    free = decode(recorded_engine(), PROMPTS[:1], options())[0].new_ids
    string = (token_bytes(free[2]) + token_bytes(free[3])).decode()
    ended = decode(recorded_engine(), PROMPTS[:1], options(stop_strings=(string,)), token_bytes=token_bytes)[0]
    assert (ended.new_ids, ended.finish_reason) == (free[:4], "stop")
    ended = decode(recorded_engine(), PROMPTS[:1], options(stopping_criteria=(lambda ids, logits: len(ids) == 8,)))[0]
    assert (ended.new_ids, ended.finish_reason) == (free[:2], "stop")
    ended = decode(recorded_engine(), PROMPTS[:1], options(max_time=1e-9))[0]
    assert (ended.new_ids, ended.finish_reason) == (free[:1], "length")


def test_a_session_continues_with_contrastive_search() -> None:
    lm = pellucid.load(FOLDER / "checkpoint")
    asked = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 5, "eos_token_id": 66}
    with lm.session(PROMPTS[0]) as session:
        session.append(17).append(40)
        whole = session.ids
        assert session.run(**asked).new_ids == lm.generate(whole, **asked).new_ids
        assert session.record.steps[-1].source == "contrastive"


def test_a_streamer_receives_every_token() -> None:
    told: list[list[int]] = []

    class Listener:
        def put(self, value: torch.Tensor) -> None:
            told.append(value.flatten().tolist())

        def end(self) -> None: ...

    output = recorded_model().generate(
        torch.tensor(PROMPTS[:1]), penalty_alpha=0.6, top_k=4, max_new_tokens=5, streamer=Listener(), eos_token_id=-1
    )
    assert [token for part in told for token in part] == output[0].tolist()
