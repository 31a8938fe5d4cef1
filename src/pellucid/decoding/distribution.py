"""Softmax and its logarithm on rows of logits."""

from __future__ import annotations

import numpy as np

from pellucid.engine import FloatArray


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities, along the last axis; -inf logits stay -inf."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64))
    log_probabilities: FloatArray = shifted - normaliser.astype(np.float32)
    return log_probabilities


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities, along the last axis; -inf logits get 0."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True, dtype=np.float64).astype(
        np.float32
    )
    return probabilities


def draw(logits: FloatArray, generator: np.random.Generator) -> int:
    """One index of a row, with the probability its softmax gives it; takes one number from the generator."""
    candidates = np.flatnonzero(logits > -np.inf)
    weights = np.exp((logits[candidates] - logits[candidates].max()).astype(np.float64))
    cumulative = weights.cumsum()
    position = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
    return int(candidates[min(int(position), len(candidates) - 1)])
