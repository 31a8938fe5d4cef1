"""Evaluate a model on text: the mean loss over the whole vocabulary.

python -m pellucid.training.evaluate MODEL FILE...
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.checkpoint import open_checkpoint
from pellucid.errors import PellucidError
from pellucid.reference.load import load_model
from pellucid.reference.model import GPT2LMHeadModel
from pellucid.training.corpus import encode_documents, read_text, split_documents

TINIEST = torch.finfo(torch.float32).tiny  # probabilities are clamped to this before the logarithm


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy, nats per token. outside: mean total probability of a set of ids. tokens: predicted."""

    loss: float
    outside: float
    tokens: int


def windows_of(ids: NDArray[np.uint16], length: int, limit: int | None = None) -> list[NDArray[np.uint16]]:
    """Consecutive windows of `length` predictions, [length + 1] ids each, so that every token except the first of the
    stream is predicted once. limit: the most windows, evenly spaced; default: all."""
    starts = np.arange(0, len(ids) - 1, length)
    if limit is not None and len(starts) > limit:
        starts = starts[np.linspace(0, len(starts) - 2, limit).astype(int)]
    return [ids[start : start + length + 1] for start in starts]


@torch.no_grad()
def evaluate(
    model: GPT2LMHeadModel,
    ids: NDArray[np.uint16],
    outside_ids: NDArray[np.int64] | None = None,
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Evaluation:
    """Mean loss over all ids of the vocabulary on a stream of tokens, in windows of the model's full context.

    outside_ids: ids whose summed probability is averaged into `outside`.
    limit: the most windows; default: all. dtype: bfloat16 for quick estimates, float32 for results to report.
    """
    is_outside = torch.zeros(model.config.vocab_size)
    if outside_ids is not None:
        is_outside[torch.from_numpy(outside_ids)] = 1.0
    was_training = model.training
    model.eval()
    lost, outside, tokens = 0.0, 0.0, 0
    for window in windows_of(ids, model.config.n_positions, limit):
        row = torch.from_numpy(window.astype(np.int64))[None]  # [1, seq + 1]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits: Tensor = model(row[:, :-1], use_cache=False).logits[0]  # [seq, vocab]
        probabilities = logits.float().softmax(dim=-1)
        lost -= float(probabilities.gather(1, row[0, 1:, None]).clamp_min(TINIEST).log().sum())
        outside += float((probabilities @ is_outside).sum())
        tokens += row.size(1) - 1
    model.train(was_training)
    return Evaluation(lost / tokens, outside / tokens, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="name of a model or folder, such as demo")
    parser.add_argument("files", nargs="+", type=Path, help="text files, with documents separated by <|endoftext|>")
    arguments = parser.parse_args()
    try:
        checkpoint = open_checkpoint(arguments.model)
        model, tokenizer = load_model(checkpoint, GPT2LMHeadModel), checkpoint.tokenizer()
        for path in arguments.files:
            tokens = encode_documents(split_documents(read_text(path)), tokenizer)
            result = evaluate(model, tokens.ids)
            perplexity = math.exp(result.loss)
            print(f"{path.name}: {result.loss:.4f} nats per token, perplexity {perplexity:.2f}, {result.tokens} tokens")
    except (PellucidError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
