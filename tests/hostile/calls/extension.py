"""Runs programs of calls to the extension itself, which a trial draws; between the calls it checks the surroundings of
every array that was passed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The sanitizers' build of the extension stands for the installed one where it is given.
if os.environ.get("PELLUCID_SANITIZED") and "asan" in os.environ.get("LD_PRELOAD", ""):
    import importlib.util
    import sys

    _spec = importlib.util.spec_from_file_location("pellucid.native._native", os.environ["PELLUCID_SANITIZED"])
    assert _spec is not None and _spec.loader is not None
    sys.modules["pellucid.native._native"] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)

from pellucid.checkpoint import open_checkpoint
from pellucid.errors import PellucidError
from pellucid.native import _native
from pellucid.native.packing import pack_weights

CONFIG = {
    "vocab_size": 330,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 128,
    "activation": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}

# What a call may raise that is given nonsense.
_REFUSALS = (PellucidError, TypeError, ValueError, KeyError, IndexError, OverflowError, MemoryError, BufferError)

_GUARD = 256  # bytes on both sides of an array that nobody may write
_GUARD_BYTE = 0xA5

Spec = Mapping[str, Any]


class Machine:
    """What a program has made so far: runtimes, engines, slots."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.runtime = _native.Runtime("", 2)
        self.engines: list[Any] = []
        self.slots: list[Any] = []
        self.tensors: dict[str, dict[str, Any]] = {}
        self.rooms: list[tuple[np.ndarray[Any, Any], int]] = []

    def packed(self, precision: str) -> dict[str, Any]:
        """Tensors that fit the configuration, made once and copied."""
        if precision not in self.tensors:
            self.tensors[precision] = pack_weights(open_checkpoint(self.model), precision, self.runtime)
        return {name: array.copy() for name, array in self.tensors[precision].items()}

    def array(self, spec: Any) -> Any:
        """An array as the program asks for it, between guards; other values as they are."""
        if not isinstance(spec, dict):
            return spec
        dtype, shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        room = np.full(size + 2 * _GUARD, _GUARD_BYTE, np.uint8)
        self.rooms.append((room, size))
        array = room[_GUARD : _GUARD + size].view(dtype).reshape(shape)
        _fill(array, spec["fill"])
        return _LAYOUTS[spec["layout"]](array)

    def check_guards(self) -> None:
        for room, size in self.rooms:
            if (room[:_GUARD] != _GUARD_BYTE).any() or (room[_GUARD + size :] != _GUARD_BYTE).any():
                raise AssertionError("a call wrote outside of the array that it was given")
        self.rooms.clear()

    def engine(self, index: int) -> Any:
        if not self.engines:
            self.engines.append(self.make_engine("float32", {}, 128, ""))
        return self.engines[index % len(self.engines)]

    def slot(self, index: Any) -> Any:
        if not isinstance(index, int) or not self.slots:
            return index
        return self.slots[index % len(self.slots)]

    def make_engine(self, precision: str, config: Spec, capacity: Any, spoiled: str) -> Any:
        """An engine of tensors of which one may be missing, short, of another type, or taken away afterwards."""
        tensors: dict[str, Any] = self.packed(
            precision if precision in ("float32", "bfloat16", "int8", "int4") else "int8"
        )
        name = sorted(tensors)[len(precision) % len(tensors)]
        if spoiled == "missing":
            del tensors[name]
        elif spoiled == "short":
            tensors[name] = tensors[name][:-4].copy()
        elif spoiled == "empty":
            tensors[name] = tensors[name][:0].copy()
        elif spoiled == "type":
            tensors[name] = tensors[name].astype(np.float64)
        elif spoiled == "none":
            tensors[name] = None
        elif spoiled == "strided":
            tensors[name] = np.repeat(tensors[name], 2)[::2]
        engine = _native.Engine(self.runtime, _native.ModelConfig(**{**CONFIG, **config}), precision, tensors, capacity)
        if spoiled == "cleared":
            tensors.clear()
            gc.collect()
        return engine


def _fill(array: np.ndarray[Any, Any], fill: str) -> None:
    values = {"zeros": 0.0, "ones": 1.0, "nan": np.nan, "infinity": np.inf, "huge": 3e38}
    with np.errstate(all="ignore"):
        if array.dtype.kind in "fc" and fill in values:
            array[...] = values[fill]
        else:
            array[...] = np.random.default_rng(0).integers(0, 2, array.shape)


_LAYOUTS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "C": lambda array: array,
    "transposed": lambda array: array.T,
    "reversed": lambda array: array[::-1] if array.ndim else array,
    "every second": lambda array: array[::2] if array.ndim else array,
    "broadcast": lambda array: np.broadcast_to(array, (3, *array.shape)),
    "misaligned": lambda array: (
        array.view(np.uint8).reshape(-1)[1 : 1 + max(0, array.nbytes - array.itemsize)].view(array.dtype)
        if array.flags.c_contiguous and array.nbytes > array.itemsize
        else array
    ),
    "read-only": lambda array: _frozen(array),
}


def _frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


def _step(machine: Machine, engine: int, slots: Any, tokens: Any, all_positions: Any, logits: Any, hidden: Any) -> None:
    """One step; "fits" asks for outputs of the right size, which must then be written whole."""
    asked = [machine.slot(index) for index in slots] if isinstance(slots, list) else slots
    outputs: list[Any] = []
    for spec, width in ((logits, CONFIG["vocab_size"]), (hidden, CONFIG["n_embd"])):
        if spec == "fits" and isinstance(tokens, list):
            rows = sum(map(len, tokens)) if all_positions else len(tokens)
            outputs.append(np.full((rows, width), np.nan, np.float32))
        else:
            outputs.append(machine.array(spec))
    machine.engine(engine).step(asked, tokens, all_positions, *outputs)
    for spec, output in zip((logits, hidden), outputs, strict=True):
        if spec == "fits" and np.isnan(output).any():
            raise AssertionError("a step returned without having written its output")


def _largest(machine: Machine, values: Any, k: Any, maxima: Any) -> None:
    passes, row = _native.LogitsPasses(""), machine.array(values)
    given = passes.survey(row)[2] if maxima == "fits" else machine.array(maxima)
    found = passes.largest(row, k, given)
    if len(found) < k or (np.diff(found) <= 0).any() or found.max() >= len(row) or found.min() < 0:
        raise AssertionError("largest returned places that are not in the row")


def _pack(machine: Machine, precision: Any, weights: Any, packed: Any) -> None:
    source = machine.array(weights)
    if packed == "fits":
        if getattr(source, "ndim", 0) != 2:
            raise ValueError("nothing fits what is no matrix")
        packed = {
            "dtype": "u1", "shape": [_native.matrix_bytes(precision, *source.shape)], "layout": "C", "fill": "zeros"
        }  # fmt: skip
    _native.pack(machine.runtime, precision, source, machine.array(packed))


def _keep(kept: list[Any], made: Any) -> None:
    kept.append(made)


_CALLS: dict[str, Callable[..., object]] = {
    "engine": lambda m, **spec: _keep(m.engines, m.make_engine(**spec)),
    "runtime": lambda m, isa, threads: _native.Runtime(isa, threads).threads,
    "open": lambda m, engine: _keep(m.slots, m.engine(engine).open()),
    "fork": lambda m, engine, slot: _keep(m.slots, m.engine(engine).fork(m.slot(slot))),
    "drop": lambda m, engine, slot: m.engine(engine).drop(m.slot(slot)),
    "length": lambda m, engine, slot: m.engine(engine).length(m.slot(slot)),
    "truncate": lambda m, engine, slot, length: m.engine(engine).truncate(m.slot(slot), length),
    "step": _step,
    "forget engine": lambda m, engine: m.engines and m.engines.pop(engine % len(m.engines)),
    "forget slot": lambda m, slot: m.slots and m.slots.pop(slot % len(m.slots)),
    "survey": lambda m, logits: _native.LogitsPasses("").survey(m.array(logits)),
    "largest": _largest,
    "matrix_bytes": lambda m, precision, n_out, n_in: _native.matrix_bytes(precision, n_out, n_in),
    "pack": _pack,
    "read_bandwidth": lambda m, data, rounds: _native.read_bandwidth(m.runtime, m.array(data), rounds),
}


def run(model: str, program: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Run a program's calls, each a name and its arguments; returns how many were done and how many refused."""
    machine, counts = Machine(Path(model)), {"done": 0, "refused": 0}
    for name, arguments in program:
        try:
            _CALLS[name](machine, **arguments)
            counts["done"] += 1
        except _REFUSALS:
            counts["refused"] += 1
        machine.check_guards()
    return counts
