"""The Python side of the native engine: loading, and the methods of the engine protocol."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pellucid.checkpoint import Checkpoint
from pellucid.checkpoint.packed_layout import matrix_precision
from pellucid.config import ACTIVATIONS, GPT2Config
from pellucid.engine import FloatArray, Slot, StepOutput
from pellucid.errors import OptionError
from pellucid.native import ISA_VARIABLE
from pellucid.native._native import Engine, ModelConfig, Runtime
from pellucid.native.cores import usable_cores
from pellucid.native.packing import PackedTensors, check_finite, pack_weights
from pellucid.native.weights import UnpackedWeights

NativePrecision = Literal["float32", "bfloat16", "int8", "int4"]
PRECISIONS: tuple[NativePrecision, ...] = ("float32", "bfloat16", "int8", "int4")

# The default capacity of the cache, in sequences of full length.
_FULL_SEQUENCES = 16


class NativeEngine:
    """Implements `pellucid.engine.Engine` with the C++ forward pass.

    A step reads the weights once for all slots. A sequence's logits are bit-identical alone and in any batch, with its
    prompt in one step or in several, on any number of threads. The engine is thread-safe: it serializes calls, and
    releases the GIL during them.
    """

    def __init__(
        self,
        config: GPT2Config,
        tensors: PackedTensors,
        precision: NativePrecision,
        runtime: Runtime,
        *,
        capacity: int | None = None,
    ) -> None:
        """
        tensors: packed weights, from `pack_weights`. capacity: the number of tokens that fit in the cache over all
        slots; the default is 16 sequences of full length. Memory is allocated when it is first used.
        """
        if capacity is not None and capacity < 1:
            raise OptionError(f"capacity is {capacity}; a cache holds at least 1 token")
        self.config = config
        self.precision: NativePrecision = precision
        self.weight_bytes = sum(tensor.nbytes for tensor in tensors.values())
        self._tensors = tensors
        tokens = _FULL_SEQUENCES * config.n_positions if capacity is None else min(capacity, sys.maxsize)
        try:
            self._engine = Engine(runtime, _model_config(config), precision, tensors, tokens)
        except OptionError as error:  # no address space for the cache
            if capacity is not None:
                raise
            raise MemoryError(str(error)) from error

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        precision: NativePrecision | None = None,
        threads: int | None = None,
        capacity: int | None = None,
        map: bool = True,
    ) -> NativeEngine:
        """Make an engine from a checkpoint. Weights are packed, or mapped if the checkpoint is packed already.

        precision: the default is that of a packed checkpoint, otherwise float32.
        threads: the default is the number of cores that this process may use. If the system creates fewer threads, the
            engine uses those and issues a `RuntimeWarning`.
        map: False copies packed weights to private memory instead of mapping the file.

        Raises `CheckpointError` for a tensor that is not finite and for weights that the precision cannot represent.
        Raises `OptionError` if this build or this processor does not have the instruction set in the environment
        variable PELLUCID_ISA, and if the system has no address space for `capacity`; for the default capacity, that is
        a `MemoryError`.
        """
        packed = checkpoint.packed
        chosen: NativePrecision = precision or (packed.precision if packed else "float32")  # type: ignore[assignment]
        runtime = make_runtime(threads)
        if packed and packed.precision == chosen:
            tensors = packed.map() if map else packed.read()
            for name, tensor in tensors.items():
                if matrix_precision(name, chosen) is None:
                    check_finite(packed.path, name, tensor.view(np.float32))
        else:
            if packed and chosen in ("int8", "int4"):
                raise OptionError(
                    f"{checkpoint.path} is packed as {packed.precision}; to have it as {chosen}, quantize the original"
                )
            tensors = pack_weights(checkpoint, chosen, runtime)
        return cls(checkpoint.config, tensors, chosen, runtime, capacity=capacity)

    @property
    def instruction_set(self) -> str:
        """The instruction set of the kernels: "avx2", "avx512_vnni", "portable", ..."""
        return self._engine.instruction_set

    def weights(self) -> UnpackedWeights:
        """The weights, dequantized, as the reference model loads them."""
        return UnpackedWeights(self.config, self._tensors, self.precision)

    @property
    def threads(self) -> int:
        return self._engine.threads

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def n_positions(self) -> int:
        return self.config.n_positions

    @property
    def capacity(self) -> int:
        """The number of tokens that fit in the cache over all slots. A slot uses whole pages of 16 positions. Forked
        slots share the pages of their common prefix."""
        return self._engine.capacity

    @property
    def open_slots(self) -> int:
        """The number of open slots."""
        return self._engine.open_slots

    def open(self) -> Slot:
        return self._engine.open()

    def step(
        self,
        slots: Sequence[Slot],
        tokens: Sequence[Sequence[int]],
        *,
        all_positions: bool = False,
        hidden: bool = False,
    ) -> StepOutput:
        appended = [list(ids) for ids in tokens]
        rows = sum(map(len, appended)) if all_positions else len(appended)
        logits: FloatArray = np.empty((rows, self.vocab_size), np.float32)
        states: FloatArray | None = np.empty((rows, self.config.n_embd), np.float32) if hidden else None
        self._engine.step(list(slots), appended, all_positions, logits, states)
        return StepOutput(logits, states)

    def length(self, slot: Slot) -> int:
        return self._engine.length(slot)

    def truncate(self, slot: Slot, length: int) -> None:
        if length < 0:
            raise ValueError(f"{slot} cannot be cut to {length} tokens")
        self._engine.truncate(slot, length)

    def fork(self, slot: Slot) -> Slot:
        return self._engine.fork(slot)

    def drop(self, slot: Slot) -> None:
        self._engine.drop(slot)


def make_runtime(threads: int | None = None) -> Runtime:
    """Make a runtime: kernels for PELLUCID_ISA or the best instruction set, and a thread pool.

    threads: the default is the number of cores that this process may use.
    """
    wanted = os.environ.get(ISA_VARIABLE, "")
    count = usable_cores() if threads is None else threads
    try:
        runtime = Runtime(wanted, count)
    except ValueError as error:
        raise OptionError(f"{ISA_VARIABLE} is {wanted!r}: {error}") from error
    if runtime.threads < count:
        warnings.warn(
            f"the system made {runtime.threads} threads of the {count} asked for; the engine runs with those",
            RuntimeWarning,
            stacklevel=2,
        )
    return runtime


def _model_config(config: GPT2Config) -> ModelConfig:
    return ModelConfig(
        vocab_size=config.vocab_size,
        n_positions=config.n_positions,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_inner=config.inner_size,
        activation=ACTIVATIONS[config.activation_function],
        layer_norm_epsilon=config.layer_norm_epsilon,
        scale_attn_weights=config.scale_attn_weights,
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        tie_word_embeddings=config.tie_word_embeddings,
    )
