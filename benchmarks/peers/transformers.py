"""Transformers on torch: `generate` as documented."""

from __future__ import annotations

import time

import torch
import transformers
from transformers import GPT2LMHeadModel, StoppingCriteria, StoppingCriteriaList

from peers.protocol import Assignment, Generated, serve


class Clock(StoppingCriteria):
    """Records the time of the first token. Never stops the generation."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        self.first = self.first or time.perf_counter() - self.began
        return torch.zeros(len(input_ids), dtype=torch.bool)


class Transformers:
    def __init__(self, assignment: Assignment) -> None:
        torch.set_num_threads(assignment.threads)
        dtype = getattr(torch, assignment.precision)
        self._model = GPT2LMHeadModel.from_pretrained(assignment.checkpoint, dtype=dtype).eval()
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], new_tokens: int, beams: int) -> Generated:
        ids = torch.tensor(prompts)
        clock = Clock()
        found = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            num_beams=beams,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        last = time.perf_counter() - clock.began
        return Generated(found[:, ids.shape[1] :].tolist(), clock.first, last)


if __name__ == "__main__":
    serve(Transformers)
