"""Fixtures for tests of the native engine: models, and each set of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pellucid import native
from pellucid.checkpoint import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from pellucid import GPT2LMHeadModel

collect_ignore_glob = [] if native.is_built() else ["test_*.py"]

# Type of a function that writes a model as a checkpoint.
Stored = Callable[["GPT2LMHeadModel"], Checkpoint]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Returns a function that writes a model as a checkpoint and opens it."""

    def store(model: GPT2LMHeadModel) -> Checkpoint:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        model.save_pretrained(folder)
        return open_checkpoint(folder)

    return store


@pytest.fixture(params=native.instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each set of kernels that this processor can run."""
    monkeypatch.setenv("PELLUCID_ISA", request.param)
    yield request.param


def whole_logits(model: GPT2LMHeadModel, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of the reference model at all positions, [tokens, vocab]."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def relative(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """Largest absolute difference divided by the largest absolute value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
