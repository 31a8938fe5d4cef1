"""The extension checks its arguments: invalid ones raise errors, and refused arrays are not written to."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import OptionError, PellucidError
from pellucid.native import instruction_sets
from pellucid.native._native import Engine, LogitsPasses, ModelConfig, Runtime, matrix_bytes, pack, read_bandwidth

SIZES = {"vocab_size": 5, "n_positions": 8, "n_embd": 4, "n_layer": 1, "n_head": 2, "n_inner": 3}
REFUSALS = (ValueError, TypeError, OverflowError, KeyError, PellucidError, MemoryError)


def config(**changes: Any) -> ModelConfig:
    rest = {
        "activation": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
    }
    return ModelConfig(**{**SIZES, **rest, **changes})


def tensors() -> dict[str, Any]:
    """Tensors of zeros for `config()`, packed as float32."""
    embd, inner, vocab = SIZES["n_embd"], SIZES["n_inner"], SIZES["vocab_size"]
    counts = {"wpe.weight": SIZES["n_positions"] * embd}
    for norm in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        counts |= {f"{norm}.weight": embd, f"{norm}.bias": embd}
    matrices = {"wte.weight": (vocab, embd)}
    for name, n_out, n_in in (
        ("h.0.attn.c_attn", 3 * embd, embd),
        ("h.0.attn.c_proj", embd, embd),
        ("h.0.mlp.c_fc", inner, embd),
        ("h.0.mlp.c_proj", embd, inner),
    ):
        matrices[f"{name}.weight"] = (n_out, n_in)
        counts[f"{name}.bias"] = n_out
    arrays = {name: np.zeros(4 * count, np.uint8) for name, count in counts.items()}
    return arrays | {name: np.zeros(matrix_bytes("float32", *sizes), np.uint8) for name, sizes in matrices.items()}


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("", 1)


@pytest.fixture
def engine(runtime: Runtime) -> Engine:
    return Engine(runtime, config(), "float32", tensors(), 16)


@pytest.mark.parametrize(
    "changes",
    [
        *({name: value} for name in SIZES for value in (0, 2**40, 2**64 - 1)),
        {"n_head": 3},
        {"layer_norm_epsilon": float("nan")},
        {"layer_norm_epsilon": float("inf")},
        {"layer_norm_epsilon": -1.0},
    ],
    ids=str,
)
def test_sizes_that_no_model_has_are_refused_by_name(runtime: Runtime, changes: dict[str, Any]) -> None:
    name = "n_embd" if changes == {"n_head": 3} else next(iter(changes))
    with pytest.raises(ValueError, match=name):
        Engine(runtime, config(**changes), "float32", tensors(), 16)


def test_a_cache_larger_than_any_address_space_is_refused(runtime: Runtime) -> None:
    for capacity in (2**64 - 1, 2**63, 2**60):
        with pytest.raises(OptionError, match="smaller capacity"):
            Engine(runtime, config(), "float32", tensors(), capacity)
    with pytest.raises(ValueError, match="at least 1 token"):
        Engine(runtime, config(), "float32", tensors(), 0)
    with pytest.raises(TypeError):
        Engine(runtime, config(), "float32", tensors(), -1)


@pytest.mark.parametrize(
    "tensor",
    [np.zeros(16, np.float32), [0] * 16, np.zeros(32, np.uint8)[::2], np.zeros((4, 4), np.uint8), None, "text"],
    ids=lambda tensor: type(tensor).__name__,
)
def test_a_tensor_that_is_not_a_plain_array_of_bytes_is_refused(runtime: Runtime, tensor: Any) -> None:
    with pytest.raises(TypeError, match="contiguous uint8"):
        Engine(runtime, config(), "float32", tensors() | {"ln_f.bias": tensor}, 16)


def test_tensors_of_a_wrong_size_or_alignment_are_refused_by_name(runtime: Runtime) -> None:
    for tensor, wrong in ((np.zeros(15, np.uint8), "15 bytes"), (np.zeros(17, np.uint8)[1:], "aligned")):
        with pytest.raises(ValueError, match=f"ln_f.bias .*{wrong}"):
            Engine(runtime, config(), "float32", tensors() | {"ln_f.bias": tensor}, 16)
    given = tensors()
    del given["ln_f.bias"]
    with pytest.raises(ValueError, match="no tensor ln_f.bias"):
        Engine(runtime, config(), "float32", given, 16)


def misaligned(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Zeros at an odd address."""
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape)


def test_arrays_at_an_odd_address_are_refused(runtime: Runtime, engine: Engine) -> None:
    passes, slot = LogitsPasses(""), engine.open()
    target = np.zeros(matrix_bytes("float32", 2, 3) + 1, np.uint8)
    for call in (
        lambda: passes.survey(misaligned(5)),
        lambda: passes.largest(misaligned(5), 1),
        lambda: pack(runtime, "float32", misaligned(2, 3), target[:-1]),
        lambda: pack(runtime, "float32", np.zeros((2, 3), np.float32), target[1:]),
        lambda: engine.step([slot], [[1]], False, misaligned(1, 5), None),
        lambda: engine.step([slot], [[1]], False, np.zeros((1, 5), np.float32), misaligned(1, 4)),
    ):
        with pytest.raises(ValueError, match="aligned"):
            call()
    assert engine.length(slot) == 0


def test_the_engine_holds_the_arrays_and_not_their_dict(runtime: Runtime) -> None:
    given = tensors()
    engine = Engine(runtime, config(), "float32", given, 16)
    slot, logits = engine.open(), np.ones((1, 5), np.float32)
    given.clear()
    gc.collect()
    rubbish = [np.full(4096, 255, np.uint8) for _ in range(100)]
    engine.step([slot], [[1]], False, logits, None)
    assert not logits.any() and len(rubbish) == 100


@pytest.mark.parametrize(
    ("logits", "hidden"),
    [
        (np.ones((1, 5), np.float32), None),  # too few rows
        (np.ones((2, 4), np.float32), None),
        (np.ones((5, 2), np.float32), None),
        (np.ones((2, 5), np.float64), None),
        (np.ones((2, 10), np.float32)[:, ::2], None),
        (np.ones(10, np.float32), None),
        (None, None),
        (np.ones((2, 5), np.float32), np.ones((1, 4), np.float32)),
        (np.ones((2, 5), np.float32), np.ones((2, 5), np.float32)),
        (np.ones((2, 5), np.float32), np.ones((2, 4), np.int32)),
    ],
    ids=lambda array: "none" if array is None else f"{array.dtype}{array.shape}",
)
def test_outputs_that_a_step_cannot_fill_are_refused_and_nothing_is_appended(
    engine: Engine, logits: Any, hidden: Any
) -> None:
    slots = [engine.open(), engine.open()]
    with pytest.raises((ValueError, TypeError)):
        engine.step([*slots], [[1], [2]], False, logits, hidden)
    assert [engine.length(slot) for slot in slots] == [0, 0]
    assert all(array is None or (array == 1).all() for array in (logits, hidden))


def test_read_only_outputs_are_refused(engine: Engine) -> None:
    logits = np.ones((1, 5), np.float32)
    logits.flags.writeable = False
    with pytest.raises(TypeError):
        engine.step([engine.open()], [[1]], False, logits, None)
    packed = np.zeros(matrix_bytes("float32", 16, 4), np.uint8)
    packed.flags.writeable = False
    with pytest.raises(TypeError):
        pack(Runtime("", 1), "float32", np.zeros((16, 4), np.float32), packed)


def test_matrices_that_cannot_be_packed_are_refused(runtime: Runtime) -> None:
    for n_out, n_in in ((0, 4), (4, 0), (2**62, 2**20), (4, 2**63)):
        with pytest.raises(ValueError, match="cannot be packed"):
            matrix_bytes("float32", n_out, n_in)
    for weights in (np.zeros((16, 4), np.float64), np.zeros((16, 4), np.int8), np.zeros(64, np.float32)):
        with pytest.raises((ValueError, TypeError)):
            pack(runtime, "float32", weights, np.zeros(matrix_bytes("float32", 16, 4), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="take 256 bytes, not 255"):
        pack(runtime, "float32", np.zeros((16, 4), np.float32), np.zeros(255, np.uint8))
    repeated = np.broadcast_to(np.float32(0), (2**31 - 1, 2**24))  # few bytes in memory
    with pytest.raises(ValueError, match="bytes, not 64"):
        pack(runtime, "float32", repeated, np.zeros(64, np.uint8))
    with pytest.raises(ValueError, match="rounds is 0"):
        read_bandwidth(runtime, np.zeros(64, np.uint8), 0)


@pytest.mark.parametrize("name", instruction_sets())
def test_maxima_that_are_not_the_rows_do_no_harm(name: str) -> None:
    passes = LogitsPasses(name)
    values = np.arange(2000, dtype=np.float32)
    _, _, maxima = passes.survey(values)
    for wrong in (np.full_like(maxima, np.nan), np.full_like(maxima, np.inf), maxima[1:]):
        with pytest.raises(ValueError, match="not the row's maxima"):
            passes.largest(values, 3, wrong)
    assert passes.largest(values, 3, np.full_like(maxima, -1e30)).tolist() == [1997, 1998, 1999]
    with pytest.raises(ValueError, match="NaN"):
        passes.largest(np.full(100, np.nan, np.float32), 3)
    for k in (0, 2001):
        with pytest.raises(ValueError, match="no such place"):
            passes.largest(values, k)
    with pytest.raises(TypeError):
        passes.survey(values.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        passes.survey(values[::2])


numbers = st.one_of(st.integers(-2, 30), st.sampled_from([2**31, 2**32, 2**63, 2**64 - 1, 2**64, -(2**63)]))
arrays = st.builds(
    lambda dtype, rows, columns, step, filling: np.full((rows, columns * step), filling).astype(dtype)[:, ::step],
    st.sampled_from([np.float32, np.float32, np.float16, np.uint16, np.float64, np.uint8]),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(1, 2),
    st.sampled_from([0.0, 1.0, 200.0]),
)
things = st.one_of(numbers, arrays, arrays.map(lambda array: array.reshape(-1)), st.none(), st.text(max_size=3))


@settings(max_examples=150)
@given(data=st.data())
def test_calls_with_random_arguments_succeed_or_raise(data: st.DataObject) -> None:
    runtime = Runtime("", 1)
    engine = Engine(runtime, config(), "float32", tensors(), 32)
    slots: list[Any] = [engine.open(), engine.open(), Engine(runtime, config(), "float32", tensors(), 16).open(), 3]
    ids = st.lists(st.one_of(st.integers(0, 4), numbers), max_size=10)
    passes = LogitsPasses("")
    precisions = st.sampled_from(["float32", "bfloat16", "int8", "int4", "int3"])

    def step() -> object:
        chosen = data.draw(st.lists(st.sampled_from(slots), max_size=3))
        tokens = data.draw(st.lists(ids, max_size=3))
        return engine.step(chosen, tokens, data.draw(st.booleans()), data.draw(things), data.draw(things))

    calls: list[Callable[[], object]] = [
        step,
        lambda: slots.append(engine.fork(data.draw(st.sampled_from(slots)))),
        lambda: engine.drop(data.draw(st.sampled_from(slots))),
        lambda: engine.length(data.draw(st.sampled_from(slots))),
        lambda: engine.truncate(data.draw(st.sampled_from(slots)), data.draw(numbers)),
        lambda: passes.survey(data.draw(things)),
        lambda: passes.largest(data.draw(things), data.draw(numbers), data.draw(things)),
        lambda: pack(runtime, data.draw(precisions), data.draw(things), data.draw(things)),
        lambda: matrix_bytes(data.draw(precisions), data.draw(numbers), data.draw(numbers)),
        lambda: Engine(
            runtime,
            config(**{name: data.draw(numbers) for name in data.draw(st.sets(st.sampled_from(list(SIZES))))}),
            data.draw(precisions),
            tensors(),
            data.draw(numbers),
        ),
    ]
    for _ in range(data.draw(st.integers(1, 8))):
        call = data.draw(st.sampled_from(calls))
        with contextlib.suppress(*REFUSALS):
            call()
    output = np.empty((1, 5), np.float32)
    engine.step([engine.open()], [[1]], False, output, None)
    assert not output.any()
