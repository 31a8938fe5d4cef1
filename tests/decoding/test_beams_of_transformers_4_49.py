"""What group and constrained beam search have in common: the results of Transformers 4.49, batches, slots, records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import pellucid
from pellucid.decoding import GenerationOptions, decode, prepare, start

from .beam_trees import check_tree
from .recorded import (
    FOLDER,
    RecordedCase,
    generated,
    random_prompts,
    recorded_cases,
    recorded_engine,
    succeeding,
    with_first_eos,
)


@dataclass(frozen=True)
class Kind:
    """A kind of beam search. results: how many each prompt gets where hypotheses end early."""

    strategy: str
    cases: tuple[RecordedCase, ...]
    options: dict[str, Any]
    beams: int
    results: int
    longest: int

    def __str__(self) -> str:
        return self.strategy

    def asked(self, changes: dict[str, Any]) -> GenerationOptions:
        return GenerationOptions(**{**self.options, **changes})

    @property
    def ending(self) -> dict[str, Any]:
        return {"eos_token_id": (0, 33, 48), "num_return_sequences": self.results, "max_new_tokens": self.longest}


GROUPS = Kind(
    "group_beam_search",
    # Penalties below 0 are an error here.
    tuple(case for case in succeeding(recorded_cases("group_beams.json")) if case.options["diversity_penalty"] >= 0),
    {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.8, "max_new_tokens": 8},
    beams=6,
    results=6,
    longest=12,
)
CONSTRAINED = Kind(
    "constrained_beam_search",
    # Forced words that another option excludes are not written here.
    tuple(case for case in succeeding(recorded_cases("constrained_beams.json")) if "bad_words_ids" not in case.options),
    {"num_beams": 4, "force_words_ids": [[12, 7], [[61], [30, 5]]], "max_new_tokens": 10},
    beams=4,
    results=4,
    longest=14,
)
KINDS = pytest.mark.parametrize("kind", [GROUPS, CONSTRAINED], ids=str)
PROMPTS = random_prompts(8, 6, 1, 11)


@pytest.mark.parametrize("case", [*GROUPS.cases, *CONSTRAINED.cases], ids=str)
def test_it_finds_the_sequences_of_transformers(case: RecordedCase) -> None:
    new_ids, scores = generated(case)
    assert [with_first_eos(ids, case) for ids in new_ids] == list(case.sequences)
    assert scores == pytest.approx(case.scores, rel=1e-4, abs=1e-4)


@KINDS
@pytest.mark.parametrize("early_stopping", [None, False, True])
def test_a_prompt_gives_in_a_batch_what_it_gives_alone(kind: Kind, early_stopping: bool | None) -> None:
    options = kind.asked({} if early_stopping is None else {**kind.ending, "early_stopping": early_stopping})
    together = decode(recorded_engine(), PROMPTS, options)
    alone = [result for prompt in PROMPTS for result in decode(recorded_engine(), [prompt], options)]
    assert [result.new_ids for result in together] == [result.new_ids for result in alone]
    assert [result.score for result in together] == pytest.approx([result.score for result in alone], rel=1e-4)


@KINDS
@pytest.mark.parametrize("early_stopping", [None, False, True])
def test_the_record_is_a_consistent_tree(kind: Kind, early_stopping: bool | None) -> None:
    several = {"num_return_sequences": 4}
    options = kind.asked(several if early_stopping is None else {**kind.ending, "early_stopping": early_stopping})
    lm = pellucid.load(FOLDER / "checkpoint")
    found = lm.generate(PROMPTS, record=True, **{"eos_token_id": 66, **options.given()})
    assert len(found) == len(PROMPTS) * options.num_return_sequences
    for generation in found:
        assert generation.record is not None
        assert generation.record.strategy == kind.strategy
        check_tree(generation.record, beams=kind.beams)
        assert {node.group for node in generation.record.tree} == set(range(options.num_beam_groups))
        assert type(generation.record).from_json(generation.record.to_json()) == generation.record


@KINDS
@pytest.mark.parametrize("ending", [False, True], ids=["by length", "by eos"])
def test_no_slot_is_left_behind(kind: Kind, ending: bool) -> None:
    options, engine = kind.asked(kind.ending if ending else {}), recorded_engine()
    decode(engine, PROMPTS, options)
    assert engine.open_slots == 0
    steps = start(prepare(engine, PROMPTS, options))
    next(steps)
    next(steps)
    assert engine.open_slots > 0
    steps.close()
    assert engine.open_slots == 0
