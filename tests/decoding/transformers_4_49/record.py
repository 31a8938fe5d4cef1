"""Record what Transformers 4.49.0, the last oracle for three strategies, chooses for a tiny random GPT-2.

Transformers 5 has neither contrastive search, nor diverse (group) beam search, nor beam search with forced words. This
script writes the cases beside it from an environment of its own:

    python -m venv oracle
    oracle/bin/pip install transformers==4.49.0 torch==2.13.0 numpy
    oracle/bin/python tests/decoding/transformers_4_49/record.py

With --checkpoint it first draws the checkpoint anew, from a fixed seed.

Each case has "options" and "prompts" (given to Transformers padded on the left, with a mask) and either "sequences",
the new tokens of every returned sequence, prompt by prompt, up to and with the eos that ends it, and for beams
"scores", or "error", the kind of exception. eos_token_id is always there, null for none. Where pad_token_id is not,
Transformers pads with the first eos.

A case is kept only where the same tokens come from the weights in float64 and from weights with noise in their last
digits, so that none hangs on rounding.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.beam_search import BeamSearchScorer, ConstrainedBeamSearchScorer

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"
VOCAB_SIZE = 67
EOS = 0
PAD = 66  # in no prompt, and suppressed wherever the prompts' lengths differ
RELATIVE_NOISE = 3e-6

Options = dict[str, Any]
Prompts = list[list[int]]
Case = tuple[Options, Prompts]


@dataclass(frozen=True)
class Outcome:
    """What generate returned: sequences and, for beams, their scores; or the exception it raised."""

    sequences: list[list[int]]
    scores: list[float]
    error: str | None = None

    def agrees_with(self, other: Outcome) -> bool:
        """Whether the error is the same, or the tokens are, with scores as near as single precision brings them."""
        if (self.error, self.sequences) != (other.error, other.sequences):
            return False
        pairs = zip(self.scores, other.scores, strict=True)
        return all(math.isclose(one, another, rel_tol=1e-4, abs_tol=1e-3) for one, another in pairs)


def write_checkpoint() -> None:
    """Draw weights so large that every branch matters, with biases and layer norms off their neutral start."""
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
    """The checkpoint in float32, which is recorded, and its variants, which have to agree."""
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
    """Without this, the mask of a float64 model's padding is made in float32, which cannot hold it."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


@contextmanager
def recorded_scores() -> Iterator[list[float]]:
    """Collect the scores of finished hypotheses where the scorers hand them over.

    generate returns them only together with the beams' indices, which it cannot collect where a hypothesis without
    all forced words fills up the result.
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
    """The row up to and with its first eos: nothing but padding follows one, and every shorter row has one."""
    ends = [eos] if isinstance(eos, int) else eos or []
    length = next((index + 1 for index, token in enumerate(row) if token in ends), len(row))
    return row[:length]


def prompts_of(seed: int, *lengths: int) -> Prompts:
    generator = random.Random(seed)
    return [[generator.randrange(1, PAD) for _ in range(length)] for length in lengths]


def batch_options(prompts: Prompts, options: Options) -> Options:
    """Padding that no processor and no hypothesis can meet, where there is any."""
    padded = len(set(map(len, prompts))) > 1
    return {"eos_token_id": EOS, **options, **({"pad_token_id": PAD, "suppress_tokens": [PAD]} if padded else {})}


def contrastive_cases() -> Iterator[Case]:
    seeds = iter(range(1000))
    shapes = [(5,), (4, 9, 6), (1,), (12, 3, 7)]

    def case(shape: Sequence[int], **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        return batch_options(prompts, options), prompts

    for index, (alpha, top_k) in enumerate([(0.1, 4), (0.3, 2), (0.4, 6), (0.6, 4), (0.6, 8), (0.7, 3), (0.9, 5)]):
        for offset, eos in enumerate([EOS, None]):
            shape = shapes[(index + offset) % len(shapes)]
            yield case(shape, penalty_alpha=alpha, top_k=top_k, max_new_tokens=25, eos_token_id=eos)
    for shape in ((6,), (2, 8, 5)):
        yield case(shape, penalty_alpha=0.6, top_k=4, max_new_tokens=1)
        yield case(shape, penalty_alpha=0.5, top_k=5, max_new_tokens=12, eos_token_id=[0, 33, 48])
        yield case(shape, penalty_alpha=0.6, top_k=4, max_new_tokens=12, repetition_penalty=1.4)
        yield case(shape, penalty_alpha=0.3, top_k=3, max_new_tokens=25, eos_token_id=None, repetition_penalty=0.8)
        yield case(shape, penalty_alpha=0.2, top_k=4, max_new_tokens=25, eos_token_id=None, no_repeat_ngram_size=2)
        yield case(shape, penalty_alpha=0.6, top_k=6, max_new_tokens=12, bad_words_ids=[[17], [33, 22], [48, 2, 5]])
        yield case(shape, penalty_alpha=0.4, top_k=8, max_new_tokens=25, min_new_tokens=10)
        yield case(
            shape,
            penalty_alpha=0.5,
            top_k=4,
            max_new_tokens=12,
            min_new_tokens=4,
            repetition_penalty=1.2,
            no_repeat_ngram_size=3,
        )
    yield case((5,), penalty_alpha=1.0, top_k=4, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, max_new_tokens=12)
    # Few tokens are left, so that forbidden ones, of probability 0, are among the candidates.
    few = [token for token in range(VOCAB_SIZE) if token not in (17, 33, 48)]
    yield case((5,), penalty_alpha=0.8, top_k=6, max_new_tokens=12, eos_token_id=None, suppress_tokens=few)
    # The last token takes the last position of the model.
    yield case((40,), penalty_alpha=0.6, top_k=4, max_new_tokens=8, eos_token_id=None)
    yield case((5,), penalty_alpha=0.6, top_k=1, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, top_k=68, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, top_k=4, max_new_tokens=12, use_cache=False)
    yield case((5,), penalty_alpha=0.6, top_k=4, max_new_tokens=12, num_return_sequences=2)


def group_beam_cases() -> Iterator[Case]:
    seeds = iter(range(1000, 2000))

    def case(shape: Sequence[int], beams: int, groups: int, penalty: float, **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        search = {"num_beams": beams, "num_beam_groups": groups, "diversity_penalty": penalty}
        return batch_options(prompts, {**search, "pad_token_id": PAD, **options}), prompts

    shapes = [(5,), (4, 9, 6), (1, 3)]
    sizes = [(4, 2), (6, 3), (4, 4), (6, 2)]
    for index, length_penalty in enumerate([-1.0, 0.0, 1.0, 2.0]):
        for offset, early_stopping in enumerate([True, False, "never"]):
            beams, groups = sizes[(index + offset) % len(sizes)]
            yield case(
                shapes[offset],
                beams,
                groups,
                [0.2, 1.0, 2.5, 5.0][(index + 2 * offset) % 4],
                max_new_tokens=[12, 20][index % 2],
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                num_return_sequences=[1, beams, groups][offset],
            )
    for shape in shapes:
        yield case(shape, 4, 2, 0.5, max_new_tokens=1, num_return_sequences=4)
        yield case(shape, 6, 3, 0.7, max_new_tokens=15, num_return_sequences=3, eos_token_id=[0, 33, 48])
        yield case(shape, 4, 4, 1.5, max_new_tokens=15, num_return_sequences=4, eos_token_id=None)
        yield case(shape, 6, 2, 0.4, max_new_tokens=15, num_return_sequences=2, repetition_penalty=1.3)
        yield case(shape, 4, 2, 2.0, max_new_tokens=15, num_return_sequences=4, no_repeat_ngram_size=2)
        yield case(shape, 6, 3, 1.0, max_new_tokens=15, num_return_sequences=6, min_new_tokens=6)
        yield case(shape, 6, 3, 1.2, max_new_tokens=10, num_return_sequences=3, bad_words_ids=[[17], [33, 22]])
    # Hypotheses end often, so that when a group is done decides what is found.
    for length_penalty in (-1.0, 1.0, 2.0):
        for early_stopping in (False, "never"):
            for shape in ((5,), (3, 7)):
                yield case(
                    shape,
                    6,
                    2,
                    0.6,
                    max_new_tokens=25,
                    length_penalty=length_penalty,
                    early_stopping=early_stopping,
                    num_return_sequences=3,
                    eos_token_id=[0, 33, 48],
                )
    yield case((5,), 4, 2, 1.0, max_new_tokens=10, num_return_sequences=4, renormalize_logits=True)
    yield case((5,), 6, 3, 1.0, max_new_tokens=10, num_return_sequences=3, sequence_bias={(17,): -4.0, (33, 22): 3.0})
    # Without a pad of its own a finished group's padding is eos, and later groups are penalised for choosing it.
    for beams, groups, early_stopping in [(4, 2, True), (6, 3, True), (4, 4, False), (6, 2, True)]:
        options, prompts = case(
            (6,),
            beams,
            groups,
            1.0,
            max_new_tokens=20,
            early_stopping=early_stopping,
            num_return_sequences=beams,
            eos_token_id=[0, 33, 48],
        )
        del options["pad_token_id"]
        yield options, prompts
    yield case((40,), 4, 2, 1.0, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), 4, 3, 1.0, max_new_tokens=8)
    yield case((5,), 4, 2, 0.0, max_new_tokens=8)
    yield case((5,), 4, 2, -1.0, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), 4, 2, 1, max_new_tokens=8)
    yield case((5,), 4, 1, 1.0, max_new_tokens=8)
    yield case((5,), 2, 4, 1.0, max_new_tokens=8)
    yield case((5,), 4, 2, 1.0, max_new_tokens=8, num_return_sequences=5)


def constrained_cases() -> Iterator[Case]:
    seeds = iter(range(2000, 3000))

    def case(shape: Sequence[int], force_words_ids: Any, beams: int, **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        search = {"force_words_ids": force_words_ids, "num_beams": beams, "pad_token_id": PAD}
        return batch_options(prompts, {**search, **options}), prompts

    yield case((5,), [[40]], 2, max_new_tokens=10)
    yield case((5,), [[40]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((4, 9, 6), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2)
    yield case((5,), [[12], [7], [61]], 6, max_new_tokens=12, num_return_sequences=3, early_stopping=True)
    yield case((5,), [[12, 7, 61]], 3, max_new_tokens=10, num_return_sequences=3)
    yield case((2, 7), [[12, 7], [61, 30, 5]], 5, max_new_tokens=15, num_return_sequences=2)
    yield case((5,), [[12, 7], [12, 30]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((5,), [[9, 9, 21]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((5,), [[17, 17, 4]], 4, max_new_tokens=14, num_return_sequences=4)
    yield case((5,), [[33], [33]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((5,), [[33, 22], [22, 59]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((5,), [[8, 9, 10, 11], [3]], 4, max_new_tokens=14, num_return_sequences=4)
    # One of several: whole lists, lists that share a beginning, one and several tokens long.
    yield case((5,), [[[40], [52]]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((3, 8), [[[40, 3], [52, 6]], [19]], 4, max_new_tokens=12, num_return_sequences=2)
    yield case((5,), [[[12, 7, 61], [12, 30], [12, 7, 5]]], 6, max_new_tokens=12, num_return_sequences=6)
    yield case((5,), [[[12, 7], [12, 30], [12, 33], [12, 17, 48]]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((6, 3), [[[12, 7, 7], [12, 30], [44]], [[22, 59], [22, 2]]], 5, max_new_tokens=9, num_return_sequences=3)
    yield case((5,), [[[33, 17], [33, 33], [33, 48]], [[2, 48], [2, 22]]], 8, max_new_tokens=15, num_return_sequences=4)
    for index, length_penalty in enumerate([-1.0, 0.0, 1.0, 2.0]):
        for offset, early_stopping in enumerate([True, False, "never"]):
            yield case(
                [(5,), (4, 9, 6)][(index + offset) % 2],
                [[[51], [14, 3]], [29, 8]] if offset % 2 else [[51, 14]],
                [3, 4, 6][(index + offset) % 3],
                max_new_tokens=[14, 20][index % 2],
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                num_return_sequences=1 + offset,
            )
    # Hypotheses end often, so that when the search is done decides what is found.
    for length_penalty in (-1.0, 1.0, 2.0):
        for early_stopping in (True, False, "never"):
            for words in ([[[53], [17], [2], [22, 59]]], [[59]]):
                yield case(
                    (5,),
                    words,
                    3,
                    max_new_tokens=25,
                    length_penalty=length_penalty,
                    early_stopping=early_stopping,
                    num_return_sequences=3,
                    eos_token_id=[0, 33, 48],
                )
    yield case((5,), [[33, 22], [33, 48], [33, 17]], 6, max_new_tokens=15, num_return_sequences=6)
    yield case((5,), [[22, 59, 2], [22, 2], [22, 22, 17]], 8, max_new_tokens=18, num_return_sequences=4)
    yield case((4, 9, 6), [[12], [7]], 8, max_new_tokens=16, num_return_sequences=3, eos_token_id=[0, 33, 48])
    yield case((5,), [[12, 7]], 2, max_new_tokens=16, num_return_sequences=2, eos_token_id=[0, 33, 48, 22])
    yield case((4, 9), [[12, 7]], 4, max_new_tokens=12, num_return_sequences=4, eos_token_id=None)
    yield case((5,), [[12, 7]], 4, max_new_tokens=12, num_return_sequences=2, repetition_penalty=1.5)
    yield case((5,), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2, no_repeat_ngram_size=2)
    yield case((2, 6), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2, min_new_tokens=8)
    # The words barely fit, or do not.
    yield case((5,), [[12, 7, 61]], 4, max_new_tokens=3, num_return_sequences=4)
    yield case((5,), [[12], [7]], 4, max_new_tokens=2, num_return_sequences=2)
    yield case((5,), [[12, 7, 61]], 4, max_new_tokens=2, num_return_sequences=4)
    yield case((4, 7), [[12], [7], [61]], 3, max_new_tokens=1, num_return_sequences=3)
    # The prompt holds the word, all of it or its beginning.
    for prompt in ([5, 12, 7, 9], [5, 9, 12]):
        options, _ = case((4,), [[12, 7]], 4, max_new_tokens=10, num_return_sequences=4)
        yield options, [prompt]
    # Another rule forbids the word: hypotheses with it score minus infinity.
    yield case((5,), [[12]], 3, max_new_tokens=8, num_return_sequences=3, bad_words_ids=[[12]])
    yield case((40,), [[12, 7]], 4, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), [[12]], 1, max_new_tokens=8)
    yield case((5,), [], 4, max_new_tokens=8)
    yield case((5,), [[]], 4, max_new_tokens=8)
    yield case((5,), [12], 4, max_new_tokens=8)
    yield case((5,), [[-1]], 4, max_new_tokens=8)
    yield case((5,), [[VOCAB_SIZE]], 4, max_new_tokens=8)
    yield case((5,), [[[12, 7], [12]]], 4, max_new_tokens=8)
    yield case((5,), [[[12, 7], [12, 7]]], 4, max_new_tokens=8)
    yield case((5,), [[12]], 4, max_new_tokens=8, num_beam_groups=2, diversity_penalty=1.0)
    yield case((5,), [[12]], 4, max_new_tokens=8, num_return_sequences=5)


def as_json(options: Options, prompts: Prompts, outcome: Outcome) -> dict[str, Any]:
    written = {**options}
    if "sequence_bias" in written:  # JSON has no tuples for keys
        written["sequence_bias"] = [[list(ids), bias] for ids, bias in written["sequence_bias"].items()]
    case: dict[str, Any] = {"options": written, "prompts": prompts}
    if outcome.error is not None:
        return {**case, "error": outcome.error}
    return {**case, "sequences": outcome.sequences, **({"scores": outcome.scores} if outcome.scores else {})}


def write_cases(name: str, cases: Iterator[Case], models: Sequence[GPT2LMHeadModel]) -> None:
    """Run every case on all models and keep those on whose outcome they agree, one a line."""
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
    """Contrastive search one candidate at a time, which Transformers can for a single prompt, chooses the same."""
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
