"""The reference engine over a model in half precision, and at the exit of the interpreter."""

from __future__ import annotations

import subprocess
import sys
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


def test_an_exit_during_a_daemon_threads_steps_is_an_exit() -> None:
    program = """
import threading, time
from pellucid import GPT2Config, GPT2LMHeadModel
from pellucid.reference.engine import ReferenceEngine

config = GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=4)
engine = ReferenceEngine(GPT2LMHeadModel(config).eval())
def decode():
    while True:
        slot = engine.open()
        for token in range(50):
            engine.step([slot], [[token]])
for _ in range(4):
    threading.Thread(target=decode, daemon=True).start()
time.sleep(0.1)
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
