"""Recorded results of Transformers 4.49; see `transformers_4_49/record.py`."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid import GPT2LMHeadModel
from pellucid.decoding import GeneratedSequence, GenerationOptions, decode
from pellucid.decoding.records.recording import Recorder
from pellucid.reference.engine import ReferenceEngine

from ..pairs import left_padded

FOLDER = Path(__file__).parent / "transformers_4_49"
PAD = 66  # occurs in no prompt, and is suppressed if prompts differ in length


@dataclass(frozen=True)
class RecordedCase:
    """options, prompts: arguments for Transformers. sequences, scores: the new tokens and beam scores that it returned,
    prompt by prompt. error: the type of the exception that it raised instead."""

    options: dict[str, Any]
    prompts: list[list[int]]
    sequences: tuple[list[int], ...] = ()
    scores: tuple[float, ...] = ()
    error: str | None = None

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        eos = self.options["eos_token_id"]
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)

    def __str__(self) -> str:
        shown = {name: value for name, value in self.options.items() if name not in ("pad_token_id", "suppress_tokens")}
        return f"{[len(prompt) for prompt in self.prompts]} {shown}"


def recorded_cases(name: str) -> list[RecordedCase]:
    """All cases of a file."""
    return [RecordedCase(**case) for case in json.loads((FOLDER / name).read_text())]


def succeeding(cases: Sequence[RecordedCase]) -> list[RecordedCase]:
    return [case for case in cases if case.error is None]


def failing(cases: Sequence[RecordedCase]) -> list[RecordedCase]:
    return [case for case in cases if case.error is not None]


@functools.cache
def recorded_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(FOLDER / "checkpoint")


def recorded_engine() -> ReferenceEngine:
    """A new engine, on which no other test has open slots."""
    return ReferenceEngine(recorded_model())


def generated(case: RecordedCase) -> tuple[list[list[int]], list[float]]:
    """Result of the compatible `generate` for a case: new tokens, up to and with the first eos, and beam scores."""
    ids, mask = left_padded(case.prompts, case.options.get("pad_token_id", 0))
    # `generate` takes None as "not given" and uses the model's eos; -1 means no eos.
    options = {**case.options, "eos_token_id": list(case.eos_token_ids) or -1}
    beams = case.options.get("num_beams", 1) > 1
    output = recorded_model().generate(
        ids, mask, do_sample=False, return_dict_in_generate=True, output_scores=beams, **options
    )
    rows = output.sequences[:, ids.size(1) :].tolist()
    scores = output.sequences_scores.tolist() if beams else []
    return [_until_eos(row, case.eos_token_ids) for row in rows], scores


def decoded(case: RecordedCase, recorder: Recorder | None = None, **changes: Any) -> list[GeneratedSequence]:
    """Result of `decode` for a case, with some options changed."""
    options = {**case.options, "eos_token_id": case.eos_token_ids, **changes}
    return decode(recorded_engine(), case.prompts, GenerationOptions(**options), recorder=recorder)


def _until_eos(row: list[int], eos_token_ids: Sequence[int]) -> list[int]:
    ends = [place for place, token in enumerate(row) if token in eos_token_ids]
    return row[: ends[0] + 1] if ends else row


def with_first_eos(new_ids: list[int], case: RecordedCase) -> list[int]:
    """Tokens as the beam searches of Transformers 4.49 return them: any eos is replaced by the first eos of the
    options."""
    if new_ids[-1] in case.eos_token_ids:
        return [*new_ids[:-1], case.eos_token_ids[0]]
    return new_ids


def random_prompts(seed: int, *lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, PAD, (length,), generator=generator).tolist() for length in lengths]
