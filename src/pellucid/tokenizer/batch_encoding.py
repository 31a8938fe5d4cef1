"""What calling a tokenizer returns: ids and mask by name, as lists, numpy arrays or torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pellucid.errors import MissingExtraError, TokenizerError

Side = Literal["left", "right"]
TensorKind = Literal["np", "pt"]


class BatchEncoding(dict[str, Any]):
    """`out["input_ids"]` and `out.input_ids` are the same; `**out` and printing work as for a dict.

    input_ids: [batch, seq], 0 <= id < len(tokenizer); attention_mask: [batch, seq], 1 for a token, 0 for padding.
    For a single text without `return_tensors` both are flat lists.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this encoding has no {name!r}, only {', '.join(self) or 'nothing'}") from None

    def to(self, device: Any, *, non_blocking: bool = False) -> Self:
        """Move the torch tensors to a device, in place as Transformers does, and return self."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(device=device, non_blocking=non_blocking)
        return self


def check_side(name: str, side: object) -> Side:
    """`side` where it is one. Raises `TokenizerError` with the setting's name where it is not."""
    if side == "left":
        return "left"
    if side == "right":
        return "right"
    raise TokenizerError(f"{name} is {side!r}; it must be 'left' or 'right'")


def pad_rows(rows: Sequence[list[int]], length: int, filler: int, side: Side) -> list[list[int]]:
    """Each row filled up to `length` on one side; longer rows stay as they are."""
    if side == "left":
        return [[filler] * (length - len(row)) + row for row in rows]
    return [row + [filler] * (length - len(row)) for row in rows]


def to_tensor(rows: Sequence[list[int]], kind: TensorKind) -> Any:
    """An int64 array (`"np"`) or tensor (`"pt"`), [batch, seq]. Raises `TokenizerError` when rows differ in length."""
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise TokenizerError(
            f"the texts have {min(lengths)} to {max(lengths)} tokens and cannot be one tensor: "
            "pass padding=True (and truncation=True with max_length to shorten)"
        )
    shape = (len(rows), lengths.pop() if lengths else 0)
    # Imported where they are used: most of what a tokenizer does needs neither, and both take their time.
    if kind == "np":
        import numpy as np

        return np.array(rows, dtype=np.int64).reshape(shape)
    try:
        import torch
    except ImportError:
        raise MissingExtraError('return_tensors="pt"', "torch") from None
    return torch.tensor(rows, dtype=torch.int64).reshape(shape)
