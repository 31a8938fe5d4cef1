"""Accuracy of quantized weights, on the bundled model and with a few outlier channels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

import pellucid
from pellucid.checkpoint import open_checkpoint
from pellucid.logits import log_softmax
from pellucid.native.engine import NativeEngine, NativePrecision

from ..pairs import Pair
from .conftest import Stored, relative

# From the training texts of the bundled model, which it predicts well.
TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
    "a big red ball under a tree. She wanted to play with it, but a dog was there too. The dog was very big and "
    "Lily was scared. Then the dog wagged its tail and brought her the ball. They played together all day long, and "
    "when the sun went down Lily went home and told her mother about her new friend."
)


@pytest.mark.parametrize(
    ("precision", "loss", "divergence"), [("bfloat16", 0.002, 1e-4), ("int8", 0.01, 2e-3), ("int4", 0.08, 0.05)]
)
def test_the_bundled_model_loses_little(precision: NativePrecision, loss: float, divergence: float) -> None:
    """Perplexities of long texts are in docs/native-engine.md."""
    checkpoint = open_checkpoint("demo")
    ids = checkpoint.tokenizer().encode(TEXT)
    exact, rounded = (
        log_softmax(engine.step([engine.open()], [ids[:-1]], all_positions=True).logits)
        for engine in (NativeEngine.load(checkpoint), NativeEngine.load(checkpoint, precision=precision))
    )
    targets = (np.arange(len(ids) - 1), ids[1:])
    assert abs(float(rounded[targets].mean() - exact[targets].mean())) < loss
    assert float((np.exp(exact) * (exact - rounded)).sum(axis=1).mean()) < divergence


@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 0.01), ("int8", 0.05), ("int4", 0.15)])
def test_outlier_channels_do_not_drown_the_others(
    pair: Callable[..., Pair], stored: Stored, instruction_set: str, precision: NativePrecision, bound: float
) -> None:
    model, _ = pair(n_embd=256, n_head=4, initializer_range=0.05)
    with torch.no_grad():  # two channels of the residual stream, four hundred times the others
        model.transformer.wpe.weight[:, [19, 130]] *= 400
    checkpoint = stored(model)
    ids = [(17 * i) % 211 for i in range(40)]
    exact, rounded = (
        engine.step([engine.open()], [ids], all_positions=True).logits
        for engine in (NativeEngine.load(checkpoint), NativeEngine.load(checkpoint, precision=precision))
    )
    assert relative(rounded, exact) < bound


def test_the_bench_command_reports_speeds_and_the_limit() -> None:
    command = "from pellucid.cli import main; main()"
    arguments = ["bench", "--precision", "int8", "--rounds", "1", "--threads", "2", "--json"]
    output = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=True)
    report = json.loads(output.stdout)
    (measured,) = report["measured"]
    assert (report["model"], measured["precision"], measured["threads"]) == ("demo", "int8", 2)
    engine = NativeEngine.load(open_checkpoint("demo"), precision="int8")
    assert measured["weight_bytes"] == engine.weight_bytes - 4 * 512 * 192
    assert measured["limit"] == pytest.approx(measured["bandwidth"] / measured["weight_bytes"])
    assert measured["of_limit"] == pytest.approx(measured["tokens_per_second"] / measured["limit"])
    assert measured["prompt_tokens_per_second"] > 0


def test_the_torch_model_beside_a_rounded_engine_has_the_engines_weights() -> None:
    lm = pellucid.load("demo", precision="int4")
    ids = lm.tokenizer.encode(TEXT)
    with torch.no_grad():
        expected = lm.model(torch.tensor([ids])).logits[0].numpy()
    logits = lm.engine.step([lm.engine.open()], [ids], all_positions=True).logits
    exact = pellucid.load("demo").engine
    original = exact.step([exact.open()], [ids], all_positions=True).logits
    assert relative(logits, expected) < 0.4 * relative(logits, original)
