"""The model behind a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.config import GPT2Config
from pellucid.errors import TraceError

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel
    from pellucid.tokenizer import GPT2Tokenizer


@dataclass(frozen=True, eq=False)
class TracedModel:
    """The model that a trace was made with.

    config: its configuration. known_model: the model in torch; None for a trace that was loaded without a model. name:
    the name it was loaded by. precision: how its weights are stored. tokenizer: None if there is none.
    """

    config: GPT2Config
    known_model: GPT2LMHeadModel | None = None
    name: str | None = None
    precision: str = "float32"
    tokenizer: GPT2Tokenizer | None = None

    @property
    def model(self) -> GPT2LMHeadModel:
        """The model in torch. Raises `TraceError` if there is none."""
        if self.known_model is None:
            raise TraceError("this trace was loaded without its model: Trace.load(path, model=pellucid.load(...))")
        return self.known_model
