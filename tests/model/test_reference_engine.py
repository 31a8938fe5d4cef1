"""The reference engine over a model in half precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair
from ..slots import opened


def test_half_precision_logits_come_out_as_float32(pair: Callable[..., Pair]) -> None:
    model, _ = pair(initializer_range=0.05)
    exact = ReferenceEngine(model)
    expected = exact.step([opened(exact, [3])], [[4, 5]]).logits
    engine = ReferenceEngine(model.to(torch.bfloat16))
    logits = engine.step([opened(engine, [3])], [[4, 5]]).logits
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())
