"""Recorded results of TransformerLens and Captum; see `transformer_lens/record.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import pellucid
from pellucid import LanguageModel

FOLDER = Path(__file__).parent / "transformer_lens"
ROOT = Path(__file__).parents[2]
RECORDED = json.loads((FOLDER / "recorded.json").read_text())
MODELS = tuple(RECORDED["cases"])

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Case:
    """A model, the recorded texts as ids, and every recorded array by key."""

    lm: LanguageModel
    clean: list[int]
    corrupted: list[int]
    repetitive: list[int]
    answer: int
    other: int
    baseline: int
    steps: int
    every_id: int
    arrays: dict[str, Array]

    @classmethod
    def of(cls, name: str) -> Case:
        told = dict(RECORDED["cases"][name])
        lm = pellucid.load(ROOT / told.pop("checkpoint"), engine="torch")
        small = lm.config.vocab_size < 1000
        return cls(
            lm, **told, every_id=1 if small else RECORDED["every_id"], arrays=load_file(FOLDER / f"{name}.safetensors")
        )

    def __getitem__(self, key: str) -> Array:
        return self.arrays[key]

    def under(self, prefix: str) -> dict[str, Array]:
        """Arrays whose keys have the prefix, by the rest of the key."""
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def relative_difference(ours: Array, theirs: Array) -> float:
    """Largest absolute difference divided by the largest absolute value. Checks that shapes are equal."""
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
