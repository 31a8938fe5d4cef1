"""The result of calling a tokenizer: ids and mask by name; truncation, padding and conversion to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pellucid.errors import MissingExtraError, TokenizerError

Padding = bool | Literal["longest", "max_length", "do_not_pad"]
Side = Literal["left", "right"]
TensorKind = Literal["np", "pt"]
Truncation = bool | Literal["longest_first", "only_first", "do_not_truncate"]

# Transformers writes NO_LENGTH_LIMIT where a model's limit is not known, and takes any number above
# LARGEST_LENGTH_LIMIT for that.
NO_LENGTH_LIMIT = int(1e30)
LARGEST_LENGTH_LIMIT = int(1e20)


class BatchEncoding(dict[str, Any]):
    """A dict whose values are attributes too: `out["input_ids"]` and `out.input_ids` are the same.

    input_ids: [batch, seq], 0 <= id < len(tokenizer). attention_mask: [batch, seq], 1 for a token, 0 for padding.
    token_type_ids, where asked for: [batch, seq], all 0. For a single text without `return_tensors` these are flat
    lists.
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
    """The side as it is. Raises `TokenizerError` with the setting's name for anything but "left" and "right"."""
    if side == "left":
        return "left"
    if side == "right":
        return "right"
    raise TokenizerError(f"{name} is {side!r}; it must be 'left' or 'right'")


def truncation_limit(truncation: Truncation | None, max_length: int | None, model_max_length: int) -> int | None:
    """The most ids that a text may have; None for any number."""
    if max_length is not None and (isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 0):
        raise TokenizerError(f"max_length is {max_length!r}; it must be a number of tokens")
    if truncation in (False, None, "do_not_truncate"):
        return None
    if truncation not in (True, "longest_first", "only_first"):
        raise TokenizerError(f"truncation is {truncation!r}; it must be True, False or 'longest_first'")
    limit = model_max_length if max_length is None else max_length
    return limit if limit <= LARGEST_LENGTH_LIMIT else None


def padded_length(
    padding: Padding, longest: int, max_length: int | None, model_max_length: int, multiple: int | None
) -> int | None:
    """The number of ids to pad rows to, of which the longest has `longest`; None for no padding."""
    if padding is False or padding == "do_not_pad":
        return None
    if padding in (True, "longest"):
        length = longest
    elif padding == "max_length":
        length = model_max_length if max_length is None else max_length
        if length > LARGEST_LENGTH_LIMIT:
            raise TokenizerError("padding='max_length' needs max_length: this tokenizer has no model_max_length")
    else:
        raise TokenizerError(f"padding is {padding!r}; it must be True, False, 'longest' or 'max_length'")
    if multiple is None:
        return length
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise TokenizerError(f"pad_to_multiple_of is {multiple!r}; it must be a number of tokens from 1")
    return -(-length // multiple) * multiple


def pad_rows(rows: Sequence[list[int]], length: int, filler: int, side: Side) -> list[list[int]]:
    """Each row padded to `length` on one side; longer rows stay as they are."""
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
    # Imported here because most calls need neither, and both are slow to import.
    if kind == "np":
        import numpy as np

        return np.array(rows, dtype=np.int64).reshape(shape)
    try:
        import torch
    except ImportError:
        raise MissingExtraError('return_tensors="pt"', "torch") from None
    return torch.tensor(rows, dtype=torch.int64).reshape(shape)
