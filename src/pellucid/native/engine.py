"""The native engine's Python side: loading, and the calls of the engine protocol."""

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

# The cache holds this many sequences of full length unless told otherwise.
_FULL_SEQUENCES = 16


class NativeEngine:
    """Fulfils `pellucid.engine.Engine` with the compiled forward pass.

    A step reads the weights once, however many slots it extends. A sequence's logits are the same bits alone and in
    any batch, with its prompt in one piece or in several, on any number of threads. Calls from several threads
    follow one another; Python runs on meanwhile.
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
        tensors: as `pack_weights` makes them. capacity: tokens that the cache holds over all slots, 16 sequences
        of full length unless given; memory is taken when it is used.
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
        """Pack a checkpoint's weights, or map them where they are packed already, and make an engine of them.

        precision: what the checkpoint was packed as, or float32, unless given.
        threads: by default as many as there are cores for this process; a `RuntimeWarning` says where the system made
            fewer.
        map: False copies weights that are packed already into memory of the process's own.

        Raises `CheckpointError` for a tensor that is not finite and for weights the precision cannot hold, and
        `OptionError` for an instruction set in the environment variable PELLUCID_ISA that this build or this processor
        does not have, and for a capacity that the system has no address space for.
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
        """Which kernels it uses: "avx2", "avx512_vnni", "portable", ..."""
        return self._engine.instruction_set

    def weights(self) -> UnpackedWeights:
        """The weights as the engine multiplies with them, for the reference model beside it."""
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
        """How many tokens the cache holds over all slots. A slot takes whole pages of 16 positions; slots that
        begin with the same tokens, by `fork`, share the pages of those."""
        return self._engine.capacity

    @property
    def open_slots(self) -> int:
        """How many slots are open."""
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
        """As the protocol says; raises `CacheFullError` as well, before anything is appended."""
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
    """Kernels and threads, as the environment and the machine have them."""
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
