from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

def cpu_features() -> list[str]: ...
def instruction_sets() -> list[str]: ...
def matrix_bytes(precision: str, n_out: int, n_in: int) -> int: ...
def pack(
    runtime: Runtime,
    precision: str,
    weights: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16],
    packed: NDArray[np.uint8],
) -> None: ...
def read_bandwidth(runtime: Runtime, bytes: NDArray[np.uint8], rounds: int) -> float: ...

class LogitsPasses:
    def __init__(self, instruction_set: str) -> None: ...
    def survey(self, logits: NDArray[np.float32]) -> tuple[bool, float, NDArray[np.float32]]: ...
    def largest(
        self, values: NDArray[np.float32], k: int, maxima: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]: ...

class Runtime:
    def __init__(self, instruction_set: str, threads: int) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...

class ModelConfig:
    def __init__(
        self,
        *,
        vocab_size: int,
        n_positions: int,
        n_embd: int,
        n_layer: int,
        n_head: int,
        n_inner: int,
        activation: str,
        layer_norm_epsilon: float,
        scale_attn_weights: bool,
        scale_attn_by_inverse_layer_idx: bool,
        tie_word_embeddings: bool,
    ) -> None: ...

class Slot: ...

# The protocol declares slots as Hashable, because they are opaque to callers. Anything but a `Slot` raises TypeError.
class Engine:
    def __new__(
        cls,
        runtime: Runtime,
        config: ModelConfig,
        precision: str,
        tensors: dict[str, NDArray[np.uint8]],
        capacity: int,
    ) -> Engine: ...
    @property
    def capacity(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def open_slots(self) -> int: ...
    def open(self) -> Slot: ...
    def fork(self, slot: Hashable) -> Slot: ...
    def drop(self, slot: Hashable) -> None: ...
    def truncate(self, slot: Hashable, length: int) -> None: ...
    def length(self, slot: Hashable) -> int: ...
    def step(
        self,
        slots: list[Hashable],
        tokens: list[list[int]],
        all_positions: bool,
        logits: NDArray[np.float32] | None,
        hidden: NDArray[np.float32] | None,
    ) -> None: ...
