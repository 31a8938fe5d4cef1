"""Record what Transformers 4.49.0, the last oracle for three strategies, chooses for a tiny random GPT-2.

Transformers 5 has neither contrastive search, nor diverse (group) beam search, nor constrained beam search. This script
runs all cases of `cases.py` on Transformers 4.49.0, in a separate environment, and writes the results beside itself:

    python -m venv oracle
    oracle/bin/pip install transformers==4.49.0 torch==2.13.0 numpy
    oracle/bin/python tests/decoding/transformers_4_49/record.py

With --checkpoint it first writes the checkpoint again, from a fixed seed.

Each case has "options" and "prompts" (padded on the left for Transformers, with a mask). It has either "sequences" and,
for beams, "scores", or "error", the type of the exception. "sequences" holds the new tokens of every returned sequence,
prompt by prompt, up to and with the eos that ends it. eos_token_id is always given; null means none. Without a
pad_token_id, Transformers pads with the first eos.

A case is kept only if weights in float64, and weights with noise in their last digits, give the same tokens, so that no
case depends on rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from cases import EOS, VOCAB_SIZE, Case, Options, Prompts, constrained_cases, contrastive_cases, group_beam_cases
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.beam_search import BeamSearchScorer, ConstrainedBeamSearchScorer

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"
RELATIVE_NOISE = 3e-6


@dataclass(frozen=True)
class Outcome:
    """Result of `generate`: sequences and, for beams, their scores; or the exception it raised."""

    sequences: list[list[int]]
    scores: list[float]
    error: str | None = None

    def agrees_with(self, other: Outcome) -> bool:
        """True if both have the same error, or the same tokens and scores equal to single precision."""
        if (self.error, self.sequences) != (other.error, other.sequences):
            return False
        pairs = zip(self.scores, other.scores, strict=True)
        return all(math.isclose(one, another, rel_tol=1e-4, abs_tol=1e-3) for one, another in pairs)


def write_checkpoint() -> None:
    """Write random weights, large enough for every sublayer to matter; biases and layer norms are not 0 and 1."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=48,
        n_embd=24,
        n_layer=2,
        n_head=3,
        bos_token_id=EOS,
        eos_token_id=EOS,
        initializer_range=0.35,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(CHECKPOINT)
    (CHECKPOINT / "generation_config.json").unlink()


def load_models() -> list[GPT2LMHeadModel]:
    """The checkpoint in float32, whose results are recorded, and variants that must agree with it."""
    model = GPT2LMHeadModel.from_pretrained(CHECKPOINT).eval()
    return [model, deepcopy(model).double(), *(with_noise(model, seed) for seed in range(4))]


def with_noise(model: GPT2LMHeadModel, seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    noisy = deepcopy(model)
    with torch.no_grad():
        for parameter in noisy.parameters():
            parameter.mul_(1 + RELATIVE_NOISE * torch.randn_like(parameter))
    return noisy


def generate(model: GPT2LMHeadModel, options: Options, prompts: Prompts) -> Outcome:
    width = max(map(len, prompts))
    pad = options.get("pad_token_id", EOS)
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with recorded_scores() as scores, default_dtype(model.dtype):
        try:
            rows = model.generate(ids, attention_mask=mask, do_sample=False, **options)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            return Outcome([], [], type(error).__name__)
    new_ids = [until_eos(row, options["eos_token_id"]) for row in rows[:, width:].tolist()]
    return Outcome(new_ids, [round(score, 6) for score in scores])


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """For a float64 model, Transformers builds the padding mask in the default dtype; float32 cannot represent it."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


@contextmanager
def recorded_scores() -> Iterator[list[float]]:
    """Collect the scores of finished hypotheses from the beam scorers.

    `generate` returns scores only together with beam indices, and fails to collect these if a hypothesis without all
    forced words completes the result.
    """
    scores: list[float] = []
    originals = {scorer: scorer.finalize for scorer in (BeamSearchScorer, ConstrainedBeamSearchScorer)}

    def recording(finalize: Callable[..., Any]) -> Callable[..., Any]:
        def finalize_and_record(*args: Any, **kwargs: Any) -> Any:
            result = finalize(*args, **kwargs)
            scores.extend(result["sequence_scores"].tolist())
            return result

        return finalize_and_record

    for scorer, finalize in originals.items():
        scorer.finalize = recording(finalize)
    try:
        yield scores
    finally:
        for scorer, finalize in originals.items():
            scorer.finalize = finalize


def until_eos(row: list[int], eos: int | list[int] | None) -> list[int]:
    """The row up to and with its first eos. Only padding follows an eos, and every shorter row has one."""
    ends = [eos] if isinstance(eos, int) else eos or []
    length = next((index + 1 for index, token in enumerate(row) if token in ends), len(row))
    return row[:length]


def as_json(options: Options, prompts: Prompts, outcome: Outcome) -> dict[str, Any]:
    written = {**options}
    if "sequence_bias" in written:  # JSON keys cannot be tuples
        written["sequence_bias"] = [[list(ids), bias] for ids, bias in written["sequence_bias"].items()]
    case: dict[str, Any] = {"options": written, "prompts": prompts}
    if outcome.error is not None:
        return {**case, "error": outcome.error}
    return {**case, "sequences": outcome.sequences, **({"scores": outcome.scores} if outcome.scores else {})}


def write_cases(name: str, cases: Iterator[Case], models: Sequence[GPT2LMHeadModel]) -> None:
    """Run every case on all models and write the cases on which they agree, one per line."""
    kept = []
    for options, prompts in cases:
        outcome, *others = [generate(model, options, prompts) for model in models]
        if all(outcome.agrees_with(other) for other in others):
            kept.append(json.dumps(as_json(options, prompts, outcome)))
        else:
            print(f"{name}: left out, as it hangs on rounding: {options}")
    (FOLDER / name).write_text("[\n" + ",\n".join(kept) + "\n]\n")
    print(f"{name}: {len(kept)} cases")


def check_low_memory(model: GPT2LMHeadModel) -> None:
    """Check that contrastive search one candidate at a time (for a single prompt) chooses the same tokens."""
    for options, prompts in contrastive_cases():
        usual = generate(model, options, prompts)
        if usual.error is None and len(prompts) == 1:
            assert usual == generate(model, {**options, "low_memory": True}, prompts), options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", action="store_true", help="draw the checkpoint anew")
    arguments = parser.parse_args()
    assert transformers.__version__ == "4.49.0", f"this is Transformers {transformers.__version__}, not 4.49.0"
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    if arguments.checkpoint:
        write_checkpoint()
    models = load_models()
    check_low_memory(models[0])
    write_cases("contrastive.json", contrastive_cases(), models)
    write_cases("group_beams.json", group_beam_cases(), models)
    write_cases("constrained_beams.json", constrained_cases(), models)


if __name__ == "__main__":
    main()
