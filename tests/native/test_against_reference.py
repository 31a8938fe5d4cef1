"""float32 logits equal those of the reference model, for every configuration option and set of kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pellucid
from pellucid.checkpoint import open_checkpoint
from pellucid.config import ACTIVATIONS
from pellucid.native.engine import NativeEngine

from ..pairs import Pair
from ..slots import opened
from .conftest import Stored, relative, whole_logits

VARIANTS: list[dict[str, Any]] = [
    {},
    *({"activation_function": name} for name in ACTIVATIONS),
    {"scale_attn_weights": False, "initializer_range": 0.05},
    {"scale_attn_by_inverse_layer_idx": True},
    {"reorder_and_upcast_attn": True},
    {"tie_word_embeddings": False},
    {"layer_norm_epsilon": 0.1},
    {"n_inner": 7},
    {"n_inner": 33},
    {"n_embd": 36, "n_head": 36, "n_inner": 1},
    {"n_embd": 30, "n_head": 2, "vocab_size": 3},
    {"n_embd": 1, "n_head": 1, "vocab_size": 2},
    {"n_embd": 80, "n_head": 1, "n_layer": 1},
    {"n_embd": 136, "n_head": 2, "vocab_size": 17},
]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_logits_equal_the_references(
    pair: Callable[..., Pair], stored: Stored, instruction_set: str, fields: dict[str, Any]
) -> None:
    model, _ = pair(**fields)
    engine = NativeEngine.load(stored(model), threads=2)
    assert engine.instruction_set == instruction_set
    ids = [token % model.config.vocab_size for token in range(1, 60, 3)]
    logits = engine.step([engine.open()], [ids], all_positions=True).logits
    assert (logits.dtype, logits.shape) == (np.float32, (len(ids), model.config.vocab_size))
    assert relative(logits, whole_logits(model, ids)) < 2e-5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_logits_of_a_model_of_any_size_equal_the_references(
    pair: Callable[..., Pair], stored: Stored, data: st.DataObject
) -> None:
    n_head = data.draw(st.integers(1, 5), "n_head")
    fields = {
        "n_head": n_head,
        "n_embd": n_head * data.draw(st.integers(1, 40), "head_dim"),
        "n_layer": data.draw(st.integers(1, 3), "n_layer"),
        "n_inner": data.draw(st.integers(1, 150), "n_inner"),
        "vocab_size": data.draw(st.integers(1, 70), "vocab_size"),
        "n_positions": data.draw(st.integers(20, 50), "n_positions"),
    }
    model, _ = pair(**fields)
    engine = NativeEngine.load(stored(model), threads=data.draw(st.integers(1, 3), "threads"))
    count = data.draw(st.integers(1, fields["n_positions"]), "tokens")
    ids = data.draw(st.lists(st.integers(0, fields["vocab_size"] - 1), min_size=count, max_size=count))
    output = engine.step([engine.open()], [ids], all_positions=True, hidden=True)
    assert np.abs(output.logits - whole_logits(model, ids)).max() < 1e-4 * max(1, np.abs(output.logits).max())


def test_the_hidden_state_is_the_one_behind_the_logits(pair: Callable[..., Pair], stored: Stored) -> None:
    model, _ = pair()
    engine = NativeEngine.load(stored(model))
    output = engine.step([opened(engine, [5])], [[1, 2, 3]], all_positions=True, hidden=True)
    assert output.hidden is not None
    assert output.hidden.shape == (3, model.config.n_embd)
    head = model.lm_head.weight.detach().numpy()
    assert relative(output.hidden @ head.T, output.logits) < 1e-5


def test_the_bundled_model_gives_the_references_logits_and_tokens(instruction_set: str) -> None:
    reference = pellucid.load("demo", engine="torch")
    engine = NativeEngine.load(open_checkpoint("demo"), threads=2)
    ids = reference.tokenizer.encode("Once upon a time there was a fox who lived in a wood. " * 6)
    expected = reference.engine.step([reference.engine.open()], [ids], all_positions=True).logits
    logits = engine.step([engine.open()], [ids], all_positions=True).logits
    assert relative(logits, expected) < 1e-5
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_weights_of_other_types_and_formats_are_read_as_they_are(pair: Callable[..., Pair], tmp_path: Path) -> None:
    model, _ = pair()
    half = model.half().float()
    half.half().save_pretrained(tmp_path)
    engine = NativeEngine.load(open_checkpoint(tmp_path))
    ids = [1, 2, 3]
    logits = engine.step([engine.open()], [ids], all_positions=True).logits
    assert relative(logits, whole_logits(half.float(), ids)) < 1e-5
