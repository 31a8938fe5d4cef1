"""Random sets of options for `generate`, and prompts to use them on.

Transformers' n-gram, bias and bad-word processors treat padding as text. To make left-padded batches comparable, the
pad id occurs in no prompt and no option, and is suppressed; n-grams have at least two tokens, and every prompt has at
least as many tokens as the longest n-gram.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..pairs import left_padded

VOCAB, PAD = 211, 210


def random_prompts(generator: np.random.Generator) -> dict[str, Any]:
    """input_ids, attention_mask and pad_token_id of one to three prompts of unequal length."""
    lengths = generator.integers(3, 9, size=int(generator.integers(1, 4)))
    # Few different ids, so that n-grams repeat.
    ids, mask = left_padded([generator.integers(1, 12, size=length).tolist() for length in lengths], pad=PAD)
    return {"input_ids": ids, "attention_mask": mask, "pad_token_id": PAD}


def some_ids(generator: np.random.Generator, count: int) -> list[int]:
    return generator.choice(np.arange(1, PAD), size=count, replace=False).tolist()  # type: ignore[no-any-return]


def allow_two_thirds(prompt: int, ids: torch.Tensor) -> list[int]:
    """Allowed tokens depend on the last id only, which padding does not change. When several sequences per prompt are
    sampled, Transformers counts those in `prompt` too."""
    return [token for token in range(VOCAB) if (token + int(ids[-1])) % 3]


def processor_options(generator: np.random.Generator) -> dict[str, Any]:
    """Each option has probability 1/3. There are enough eos ids for rows to end at different steps."""
    pairs = [(tuple(some_ids(generator, int(length))), float(bias)) for length, bias in
             zip(generator.integers(1, 3, size=6), generator.normal(scale=6, size=6), strict=True)]  # fmt: skip
    everything: dict[str, Any] = {
        "sequence_bias": dict(pairs),
        "repetition_penalty": float(generator.uniform(0.6, 2)),
        "no_repeat_ngram_size": int(generator.integers(2, 4)),
        "bad_words_ids": [some_ids(generator, int(length)) for length in generator.integers(1, 3, size=20)],
        "min_length": int(generator.integers(1, 16)),
        "min_new_tokens": int(generator.integers(1, 9)),
        "prefix_allowed_tokens_fn": allow_two_thirds,
        "forced_eos_token_id": some_ids(generator, 1),  # one id: with two, torch.topk may return either first
        "remove_invalid_values": True,
        "exponential_decay_length_penalty": (int(generator.integers(0, 5)), float(generator.uniform(1, 2))),
        "begin_suppress_tokens": some_ids(generator, 60),
        "renormalize_logits": True,
    }
    chosen = {name: value for name, value in everything.items() if generator.random() < 1 / 3}
    if "exponential_decay_length_penalty" in chosen:
        # An excluded eos that became the smallest float32 would grow to infinity.
        chosen.pop("remove_invalid_values", None)
    suppressed = some_ids(generator, 40) if generator.random() < 1 / 3 else []
    suppressed = [token for token in suppressed if token not in chosen.get("forced_eos_token_id", [])]
    return {
        **chosen,
        "suppress_tokens": [PAD, *suppressed],
        "eos_token_id": some_ids(generator, int(generator.integers(1, 25))),
        "max_new_tokens": int(generator.integers(9, 15)),
    }


def beam_options(generator: np.random.Generator) -> dict[str, Any]:
    beams = int(generator.integers(2, 5))
    return {
        "num_beams": beams,
        "num_return_sequences": int(generator.integers(1, beams + 1)),
        "length_penalty": float(generator.choice([-1.0, 0.0, 0.5, 1.0, 2.0])),
        "early_stopping": [False, True, "never"][generator.integers(3)],
    }


def sampling_options(generator: np.random.Generator) -> dict[str, Any]:
    everything: dict[str, Any] = {
        "temperature": float(generator.uniform(0.5, 3)),
        "top_k": int(generator.integers(5, 120)),
        "top_p": float(generator.uniform(0.3, 0.99)),
        "min_p": float(generator.uniform(0, 0.1)),
        "typical_p": float(generator.uniform(0.3, 0.99)),
        "epsilon_cutoff": float(generator.uniform(0.0001, 0.01)),
        "eta_cutoff": float(generator.uniform(0.0001, 0.01)),
    }
    chosen = {name: value for name, value in everything.items() if generator.random() < 0.4}
    return {"do_sample": True, "top_k": 0, **chosen}
