"""Writing a checkpoint's packed weights, so that the next load only maps them."""

from __future__ import annotations

from pathlib import Path

from pellucid.checkpoint import Checkpoint, write_packed_checkpoint
from pellucid.errors import OptionError
from pellucid.native.engine import PRECISIONS, Precision, make_runtime
from pellucid.native.packing import pack_each


def quantize(
    checkpoint: Checkpoint, folder: str | Path, precision: Precision = "int8", *, threads: int | None = None
) -> None:
    """Pack a checkpoint's weights into a folder that `pellucid.load` maps, configuration and tokenizer beside them.

    No more than one tensor is held at a time. Raises `CheckpointError` for weights the precision cannot hold,
    `OptionError` for a checkpoint that is packed already.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if checkpoint.packed is not None:
        raise OptionError(f"{checkpoint.path} is packed already, as {checkpoint.packed.precision}")
    write_packed_checkpoint(
        folder,
        checkpoint.config,
        precision,
        pack_each(checkpoint, precision, make_runtime(threads)),
        tokenizer=checkpoint.tokenizer() if checkpoint.has_tokenizer else None,
        generation_config=checkpoint.generation_config,
    )
