"""The trace of a generation: a trace of each step, and their concatenation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.errors import TraceError
from pellucid.lens.names import canonical, tail_of
from pellucid.lens.trace import Trace


class GenerationTrace(Displayed, Sequence[Trace]):
    """The activations of one sequence's decode: a `Trace` for each step.

    The first step reads the prompt. Every later step reads the token that was chosen before it, or several tokens if
    drafts were accepted. The last token of a generation is never read.

    A step's `ids` are the tokens that it reads, and `start` is the position of the first of them. Its activations are
    of these tokens only, `attn.k` and `attn.v` included. Attention covers all keys so far: `attn.scores` and
    `attn.pattern` are [1, n_head, seq, start + seq]. `logits` are of the step's last position, or of all its positions
    if there were drafts.
    """

    def __init__(self, steps: Sequence[Trace]) -> None:
        self.steps = tuple(steps)

    @property
    def ids(self) -> list[int]:
        """The tokens of all steps: all but the generation's last token."""
        return [token for step in self.steps for token in step.ids]

    @property
    def tokens(self) -> tuple[str | None, ...]:
        return tuple(piece for step in self.steps for piece in step.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the activations of each step."""
        return self.steps[0].names

    @property
    def nbytes(self) -> int:
        """The size of all steps' activations in bytes."""
        return sum(step.nbytes for step in self.steps)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> GenerationTrace: ...
    def __getitem__(self, index: int | slice) -> Trace | GenerationTrace:
        return GenerationTrace(self.steps[index]) if isinstance(index, slice) else self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.steps)

    def whole(self, name: str) -> FloatArray:
        """An activation of all steps, concatenated along the positions.

        Up to rounding, it equals the activation of one pass over all of `ids`. Keys after a query have weight 0 in
        `attn.pattern` and -inf in `attn.scores`. `logits` have one row per step if there were no drafts, not one per
        position.
        """
        parts = [step[name] for step in self.steps]
        kind = tail_of(canonical(name))
        if kind not in ("attn.scores", "attn.pattern"):
            return np.concatenate(parts, axis=1)
        total = parts[-1].shape[-1]
        unseen = 0.0 if kind == "attn.pattern" else -np.inf
        wide = [
            np.pad(part, [(0, 0)] * 3 + [(0, total - part.shape[-1])], constant_values=unseen) for part in parts
        ]  # each [1, n_head, seq, total]
        return np.concatenate(wide, axis=2)

    def joined(self) -> Trace:
        """All steps as one trace of a pass over `ids`, which instruments accept. `logits` are left out if some
        positions have none.

        Raises `TraceError` for a slice of a generation's trace that does not begin with the prompt.
        """
        first = self.steps[0]
        if first.start:
            raise TraceError("steps that do not begin with the prompt are not the trace of a text")
        has_all_logits = all(step["logits"].shape[1] == len(step.ids) for step in self.steps if "logits" in step)
        return Trace(
            {name: self.whole(name) for name in self.names if name != "logits" or has_all_logits},
            first.of,
            ids=self.ids,
            tokens=self.tokens,
        )

    def __repr__(self) -> str:
        first = self.steps[0]
        of = f" of {first.model_name!r}" if first.model_name else ""
        size = f"{len(self)} steps, {len(self.ids)} tokens, {len(self.names)} activations, {self.nbytes / 1e6:,.1f} MB"
        return f"GenerationTrace{of}: {size} (reference engine, {first.precision} weights)"
