"""Writing packed weights to a folder, which later loads only map."""

from __future__ import annotations

import os
from pathlib import Path

from pellucid.checkpoint import Checkpoint, write_packed_checkpoint
from pellucid.errors import CheckpointError, OptionError
from pellucid.native.engine import PRECISIONS, NativePrecision, make_runtime
from pellucid.native.packing import pack_each


def quantize(
    checkpoint: Checkpoint,
    folder: str | Path,
    precision: NativePrecision = "int8",
    *,
    overwrite: bool = False,
    threads: int | None = None,
) -> None:
    """Write a checkpoint's packed weights, configuration and tokenizer to a folder that `pellucid.load` can load.

    Only one tensor at a time is in memory. overwrite: replace a packed model in `folder`; by default the folder must
    be new or empty. Nothing is deleted, and the checkpoint's own folder is never written to.

    Raises `CheckpointError` for weights that the precision cannot represent and for a folder that may not be written
    to, `OptionError` for a checkpoint that is packed already.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if checkpoint.packed is not None:
        raise OptionError(f"{checkpoint.path} is packed already, as {checkpoint.packed.precision}")
    source = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if os.path.exists(folder) and os.path.samefile(folder, source):
        raise CheckpointError(f"{folder} holds the weights that are packed: choose another folder")
    write_packed_checkpoint(
        folder,
        checkpoint.config,
        precision,
        pack_each(checkpoint, precision, make_runtime(threads)),
        tokenizer=checkpoint.tokenizer() if checkpoint.has_tokenizer else None,
        generation_config=checkpoint.generation_config,
        overwrite=overwrite,
    )
