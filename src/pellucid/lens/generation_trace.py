"""The trace of a generation: one of each step, and all of them as one."""

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
    """The activations of a decode, of one sequence: a `Trace` for each pass that read tokens of it.

    The first read the prompt, each other one the token that was chosen before it, or several where drafts were right;
    the last token of a generation is never read. A step's `ids` are what it read and `start` is where that stands.
    Queries, and all that belongs to a position, are of those tokens alone, `attn.k` and `attn.v` too; keys are of all
    so far: scores and pattern are [1, n_head, seq, start + seq]. `logits` are those that were decoded from: of the
    step's last position, or of all where there were drafts.
    """

    def __init__(self, steps: Sequence[Trace]) -> None:
        self.steps = tuple(steps)

    @property
    def ids(self) -> list[int]:
        """Every token that was read: all but the generation's last."""
        return [token for step in self.steps for token in step.ids]

    @property
    def tokens(self) -> tuple[str | None, ...]:
        return tuple(piece for step in self.steps for piece in step.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """The activations that it holds of each step."""
        return self.steps[0].names

    @property
    def nbytes(self) -> int:
        """Bytes that the activations of all steps take."""
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
        """An activation of all steps, position after position: what one pass over all of `ids` computes, but for
        rounding. A key that comes after its query has weight 0 in a pattern, and the score -inf.

        `logits` have a row for each token chosen, not for each position, where there were no drafts.
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
        """All steps as the trace of one pass over `ids`, for what works on such a trace. Logits are left out where
        some positions have none.

        Raises `TraceError` for a part of a generation that does not begin with the prompt.
        """
        first = self.steps[0]
        if first.start:
            raise TraceError("steps that do not begin with the prompt are not the trace of a text")
        of_all = all(step["logits"].shape[1] == len(step.ids) for step in self.steps if "logits" in step)
        return Trace(
            {name: self.whole(name) for name in self.names if name != "logits" or of_all},
            first.of,
            ids=self.ids,
            tokens=self.tokens,
        )

    def __repr__(self) -> str:
        first = self.steps[0]
        of = f" of {first.model_name!r}" if first.model_name else ""
        size = f"{len(self)} steps, {len(self.ids)} tokens, {len(self.names)} activations, {self.nbytes / 1e6:,.1f} MB"
        return f"GenerationTrace{of}: {size} (reference engine, {first.precision} weights)"
