"""Accuracy of quantized weights: perplexity, mean KL divergence and top-1 agreement against float32.

    python benchmarks/quantization.py TEXT [TEXT ...] [--model demo] [--tokens 40000] [--outliers]

Each text is cut into windows as long as the model's context, and each window is scored on its own. `--outliers` reads
no texts: it builds a random model of the 124M's width in which a few channels are hundreds of times larger than the
rest, as in GPT-2's residual stream, and compares logits on random tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pellucid.checkpoint import Checkpoint, expected_shapes, open_checkpoint, write_checkpoint
from pellucid.config import GPT2Config
from pellucid.engine import FloatArray
from pellucid.logits import log_softmax
from pellucid.native.engine import PRECISIONS, NativeEngine

# Residual stream channels that are reported to be far larger than the rest in the 124M model.
OUTLIER_CHANNELS = (138, 378, 447)
OUTLIER_SIZE = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=40_000, help="highest number of tokens per text (default: 40000)")
    parser.add_argument("--outliers", action="store_true")
    arguments = parser.parse_args()
    print(f"{'text':12} {'precision':9} {'perplexity':>10} {'change':>8} {'mean KL':>9} {'top-1':>7}")
    if arguments.outliers:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = outlier_checkpoint(Path(folder))
            ids = np.random.default_rng(1).integers(0, checkpoint.config.vocab_size, 256).tolist()
            compare("outliers", checkpoint, [ids])
        return
    checkpoint = open_checkpoint(arguments.model)
    for text in arguments.texts:
        ids = checkpoint.tokenizer().encode(text.read_text(encoding="utf-8"))[: arguments.tokens]
        length = checkpoint.config.n_positions
        compare(text.stem, checkpoint, [ids[i : i + length] for i in range(0, len(ids) - 1, length)])


def compare(name: str, checkpoint: Checkpoint, windows: list[list[int]]) -> None:
    """Print one row per precision, all on the same windows."""
    exact = NativeEngine.load(checkpoint)
    others = {precision: NativeEngine.load(checkpoint, precision=precision) for precision in PRECISIONS}
    loss = dict.fromkeys(PRECISIONS, 0.0)
    divergence, agreement = dict(loss), dict(loss)
    predicted = 0
    for window in windows:
        expected = log_probabilities(exact, window)
        targets = np.array(window[1:])
        predicted += len(targets)
        for precision, engine in others.items():
            found = log_probabilities(engine, window)
            loss[precision] -= float(found[np.arange(len(targets)), targets].sum(dtype=np.float64))
            divergence[precision] += float((np.exp(expected) * (expected - found)).sum(dtype=np.float64))
            agreement[precision] += float((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    reference = np.exp(loss["float32"] / predicted)
    for precision in PRECISIONS:
        perplexity = np.exp(loss[precision] / predicted)
        print(
            f"{name:12} {precision:9} {perplexity:10.3f} {perplexity / reference - 1:+8.2%} "
            f"{divergence[precision] / predicted:9.5f} {agreement[precision] / predicted:7.2%}"
        )


def log_probabilities(engine: NativeEngine, ids: list[int]) -> FloatArray:
    """Log-probabilities of each next token, [len(ids) - 1, vocab]."""
    slot = engine.open()
    try:
        return log_softmax(engine.step([slot], [ids[:-1]], all_positions=True).logits)
    finally:
        engine.drop(slot)


def outlier_checkpoint(folder: Path) -> Checkpoint:
    """A random model of the 124M's width with 4 layers, and outlier channels in its position embedding."""
    config = GPT2Config(n_layer=4, n_positions=256)

    def tensors() -> Iterator[tuple[str, FloatArray]]:
        generator = np.random.default_rng(0)
        for name, shape in expected_shapes(config).items():
            if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
                yield name, np.ones(shape, np.float32)
                continue
            tensor = generator.standard_normal(shape, dtype=np.float32) * (0.02 if len(shape) == 2 else 0.01)
            if name == "wpe.weight":
                tensor[:, OUTLIER_CHANNELS] *= OUTLIER_SIZE
            yield name, tensor

    write_checkpoint(folder, config, tensors())
    return open_checkpoint(folder)


if __name__ == "__main__":
    main()
