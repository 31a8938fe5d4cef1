"""A loaded model: its engine, its tokenizer, its form in torch, and the conversion of prompts to token ids."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pellucid.checkpoint import Checkpoint
from pellucid.config import GPT2Config
from pellucid.engine import Engine
from pellucid.engine_choice import Precision, load_reference_model
from pellucid.errors import ContextLengthError, OptionError, PicklingError
from pellucid.quoting import quoted
from pellucid.tokenizer import GPT2Tokenizer

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel

Prompt = str | Sequence[int]
Prompts = Sequence[str] | Sequence[Sequence[int]]


class LoadedModel:
    """A checkpoint with an engine that runs it.

    name: the name or path it was loaded from. config: its configuration. precision: the number type of its weights.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        model: GPT2LMHeadModel | None = None,
        *,
        precision: Precision = "float32",
    ) -> None:
        self.name = checkpoint.name
        self.config: GPT2Config = checkpoint.config
        self.precision: Precision = precision
        self._engine = engine
        self._model = model
        self._checkpoint = checkpoint
        self._tokenizer: GPT2Tokenizer | None = None
        self._lazy_lock = threading.Lock()  # for the model and the tokenizer, which are created at first use

    def __reduce__(self) -> NoReturn:
        raise PicklingError(
            "a LanguageModel cannot be pickled: its weights and cache belong to one process. Load it in every worker: "
            f"pellucid.load({self.name!r}, precision={self.precision!r})"
        )

    def __repr__(self) -> str:
        millions = self.config.parameter_count / 1e6
        return f"LanguageModel({self.name!r}, {millions:.1f}M parameters, {type(self._engine).__name__})"

    @property
    def engine(self) -> Engine:
        """The engine that `load` chose. Inside `hooks` and `ablated`, each access creates a reference engine that runs
        the hooks of the context; a call takes the engine once."""
        if self._model is None:  # there are no hooks: `hooks` and `ablated` create the model in torch
            return self._engine
        from pellucid.lens.hooks import model_in_context

        model = model_in_context(self._model)
        if model is self._model:
            return self._engine
        from pellucid.reference.engine import ReferenceEngine

        return ReferenceEngine(model)

    @property
    def model(self) -> GPT2LMHeadModel:
        """The model in torch: the torch engine's own model, or beside the native engine a float32 model with the native
        engine's (dequantized) weights, created at first use. Raises `MissingExtraError` without torch."""
        if self._model is None:
            with self._lazy_lock:
                if self._model is None:
                    self._model = load_reference_model(self._engine.weights())
        return self._model

    @property
    def tokenizer(self) -> GPT2Tokenizer:
        """The checkpoint's tokenizer. Raises `TokenizerError` if it has none."""
        if self._tokenizer is None:
            with self._lazy_lock:
                if self._tokenizer is None:
                    self._tokenizer = self._checkpoint.tokenizer()
        return self._tokenizer

    def _prompts(self, prompt: Prompt | Sequence[Prompt], slides: bool = False) -> tuple[list[list[int]], bool]:
        """The ids of one prompt or several, and whether it is a single prompt.

        slides: accept prompts that are longer than the model's context.
        """
        if isinstance(prompt, str):
            return [self._ids(prompt, slides)], True
        parts = _listed(prompt)
        if parts and all(isinstance(part, (str, list, tuple)) for part in parts):
            return [self._ids(part, slides) for part in parts], False
        return [self._ids(parts, slides)], True

    def _ids(self, prompt: Prompt, slides: bool = False) -> list[int]:
        if isinstance(prompt, str) and not slides:
            self._check_length(prompt)
        try:
            ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else [operator.index(i) for i in prompt]
        except TypeError as error:
            raise OptionError("a prompt is a string or a list of token ids (whole numbers)") from error
        if not ids and self.config.bos_token_id is not None:
            return [self.config.bos_token_id]
        if not ids:
            raise OptionError("the prompt is empty and this model has no bos token to start from")
        return ids

    def _check_length(self, text: str) -> None:
        """Raise `ContextLengthError` for a text that cannot fit, before it is encoded: that would take seconds and
        gigabytes."""
        most = self.config.n_positions + 1  # the longest text that `score` accepts; exact checks follow on the ids
        if self.tokenizer.surely_exceeds(text, most):
            raise ContextLengthError(
                f"the text has {len(text):,} characters, which are more than {most:,} tokens; the model has "
                f'{self.config.n_positions:,} positions: shorten the text, or generate with context="slide"'
            )

    @property
    def known_tokenizer(self) -> GPT2Tokenizer | None:
        """The checkpoint's tokenizer; None if it has none."""
        return self.tokenizer if self._checkpoint.has_tokenizer else None

    @property
    def _token_bytes(self) -> Callable[[int], bytes] | None:
        return self.tokenizer.token_bytes if self._checkpoint.has_tokenizer else None

    def _text(self, ids: Sequence[int]) -> str | None:
        return self.tokenizer.decode(ids) if self._checkpoint.has_tokenizer else None

    def _piece(self, token: int) -> str | None:
        """One token's text, with the bytes of incomplete characters escaped; None without a tokenizer."""
        return self.tokenizer.display_token(token) if self._checkpoint.has_tokenizer else None


def _listed(prompt: Any) -> list[Any]:
    """The items of a list, an array or an iterator. Raises `OptionError` for bytes, dicts and sets, whose items are not
    token ids."""
    if not isinstance(prompt, (bytes, bytearray, memoryview, Mapping, Set)):
        with suppress(TypeError):
            return list(prompt)
    raise OptionError(
        f"the prompt is {quoted(prompt)}; it must be a string, a list of token ids, or a list of several prompts"
    )
