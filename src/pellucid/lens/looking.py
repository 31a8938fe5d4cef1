"""The half of `LanguageModel` that looks inside: traces and hooks. torch is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pellucid.lens.names import Names

if TYPE_CHECKING:
    from pellucid.lens.hooks import Hook
    from pellucid.lens.trace import Trace
    from pellucid.lens.tracing import Gradients
    from pellucid.lens.tracing_engine import TracingEngine
    from pellucid.reference.model import GPT2LMHeadModel
    from pellucid.tokenizer import GPT2Tokenizer

Prompt = str | Sequence[int]


class LooksInside:
    """What a `LanguageModel` does with the reference model, of the weights that its engine multiplies with."""

    name: str
    precision: Any

    if TYPE_CHECKING:

        @property
        def model(self) -> GPT2LMHeadModel: ...
        def _prompts(self, prompt: Prompt | Sequence[Prompt]) -> tuple[list[list[int]], bool]: ...
        @property
        def _known_tokenizer(self) -> GPT2Tokenizer | None: ...

    def trace(
        self,
        text: Prompt | Sequence[Prompt],
        names: Names = None,
        *,
        gradients: Gradients = False,
        memory_limit: int | None = None,
    ) -> Trace | list[Trace]:
        """Every activation of a pass over a text, or those asked for, by name; several texts give a list.

        names: exact names, globs ("blocks.*.attn.pattern"), or what follows the block ("resid_post"), for all blocks;
            everything unless given. Nothing else is kept.
        gradients: also the gradient, by each activation kept, of the log-probability of the likeliest next token
            (True), or of the number that a function makes of the logits [1, seq, vocab].
        memory_limit: bytes that the traces may take together, 4 GiB unless given.

        The reference engine computes it, with the weights that the engine in use multiplies with. Raises, before any
        work, `ActivationNameError`, `ContextLengthError`, `OptionError`, `TraceMemoryError` or `MissingExtraError`.
        """
        model = self.model  # an error of its own where torch is missing
        from pellucid.lens.tracing import trace_texts

        texts, single = self._prompts(text)
        traces = trace_texts(
            model,
            texts,
            names,
            gradients,
            memory_limit,
            model_name=self.name,
            precision=self.precision,
            tokenizer=self._known_tokenizer,
        )
        return traces[0] if single else traces

    def _tracing_engine(self, names: bool | Names, memory_limit: int | None) -> TracingEngine | None:
        """What decodes where a trace of it is asked for."""
        if names is False or names is None:
            return None
        model = self.model  # an error of its own where torch is missing
        from pellucid.lens.tracing_engine import TracingEngine

        return TracingEngine(
            model,
            None if names is True else names,
            memory_limit,
            model_name=self.name,
            precision=self.precision,
            tokenizer=self._known_tokenizer,
        )

    @contextmanager
    def hooks(self, hooks: Mapping[str, Hook]) -> Iterator[None]:
        """Read or replace activations in every call that this context begins, until the block ends.

        hooks: functions of (activation, name) by name or pattern, as in `trace`. What a function returns, or changes
            in place, replaces the activation; None keeps it. Shapes: `pellucid.lens.names.shape_of`; in a step of a
            decode, of the tokens that it reads.

        Inside the block the reference engine runs, with the weights of the engine in use. Other threads and asyncio
        tasks do not run the hooks. A stream or session that begins inside keeps its hooks after the block.

        Raises `ActivationNameError`, `HookError` or `MissingExtraError`.
        """
        model = self.model  # an error of its own where torch is missing
        from pellucid.lens.hooks import hooked

        with hooked(model, hooks):
            yield
