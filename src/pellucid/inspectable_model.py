"""A loaded model that can be looked into: traces, hooks, and the instruments that run the model.

Everything here runs on the reference model, with the weights that the engine in use multiplies with. torch is imported
when a method is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from pellucid.display import Results
from pellucid.errors import OptionError
from pellucid.lens.traced_model import TracedModel
from pellucid.loaded_model import LoadedModel, Prompt, Prompts

if TYPE_CHECKING:
    from pellucid.lens.hooks import Hook
    from pellucid.lens.instruments.patching import LogitsMetric, TokenMetric
    from pellucid.lens.names import Names
    from pellucid.lens.results import (
        Ablation,
        AblationMethod,
        AttributionMethod,
        HeadScores,
        NeuronView,
        PatchingSweep,
        TokenAttribution,
        Tokens,
    )
    from pellucid.lens.trace import Trace
    from pellucid.lens.tracing import Gradients
    from pellucid.lens.tracing_engine import TracingEngine


class InspectableModel(LoadedModel):
    """A loaded model with traces, hooks and instruments."""

    @overload
    def trace(  # type: ignore[overload-overlap]  # a string is a sequence of strings too
        self,
        text: Prompt,
        names: Names = None,
        *,
        gradients: Gradients = False,
        memory_limit: int | None = None,
    ) -> Trace: ...

    @overload
    def trace(
        self,
        text: Prompts,
        names: Names = None,
        *,
        gradients: Gradients = False,
        memory_limit: int | None = None,
    ) -> list[Trace]: ...

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
        texts, single = self._prompts(text)
        traces = self._traces(texts, names, gradients, memory_limit)
        return traces[0] if single else Results(traces)

    def _traces(
        self,
        texts: Sequence[Sequence[int]],
        names: Names,
        gradients: Gradients = False,
        memory_limit: int | None = None,
    ) -> list[Trace]:
        of = self._traced_model  # raises its own error without torch, so before any import of it
        from pellucid.lens.tracing import MEMORY_LIMIT, trace_texts

        limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        return trace_texts(of, texts, names, gradients=gradients, memory_limit=limit)

    @property
    def _traced_model(self) -> TracedModel:
        return TracedModel(self.config, self.model, self.name, self.precision, self.known_tokenizer)

    def _tracing_engine(self, names: bool | Names, memory_limit: int | None) -> TracingEngine | None:
        """The engine for a decode that is to be traced, or None."""
        if names is False or names is None:
            return None
        of = self._traced_model  # raises its own error without torch, so before any import of it
        from pellucid.lens.tracing import MEMORY_LIMIT
        from pellucid.lens.tracing_engine import TracingEngine

        limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        return TracingEngine(of, None if names is True else names, limit)

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
        model = self.model  # raises its own error without torch, so before any import of it
        from pellucid.lens.hooks import hooked

        with hooked(model, hooks):
            yield

    def patch(
        self,
        clean: Prompt,
        corrupted: Prompt,
        metric: str | int | tuple[str | int, str | int] | LogitsMetric | None = None,
        component: str = "resid_pre",
        *,
        by_position: bool = False,
        position: int = -1,
        layers: int | Sequence[int] | None = None,
        indices: int | Sequence[int] | None = None,
        batch_size: int = 16,
        progress: bool | None = None,
    ) -> PatchingSweep:
        """Which activation of the clean run, put into the corrupted one, brings the clean answer back (Meng et al.,
        2022; Wang et al., 2022).

        clean, corrupted: texts of the same number of tokens. metric: a token, whose logit is the answer's; two, for
            the first one's logit less the second's; a function of the logits [rows, seq, vocab] that gives [rows]
            numbers; unless given, the likeliest token after the clean text less the likeliest after the corrupted one.
        component: what is replaced, "resid_pre", "attn.out" or "mlp.out" at one position, or "head" for a whole head
            (more in `pellucid.lens.instruments.patching.patch`). by_position: of a head, at one position at a time.
        position: where the logits are read. layers, indices: the layers, and the positions or heads, to try.
        batch_size: runs that go through at once.
        progress: a bar on stderr, True or False; None where it is a terminal and takes over a second.

        Raises `OptionError` or `ContextLengthError` before any work.
        """
        from pellucid.lens.instruments.patching import patch

        clean_ids, corrupted_ids = self._ids(clean), self._ids(corrupted)
        return patch(
            self.model,
            clean_ids,
            corrupted_ids,
            metric if callable(metric) else self._token_metric(metric, position, clean_ids, corrupted_ids),
            component,
            by_position=by_position,
            layers=layers,
            indices=indices,
            batch_size=batch_size,
            progress=progress,
            tokens=(self._pieces(clean_ids), self._pieces(corrupted_ids)),
        )

    @contextmanager
    def ablated(
        self,
        components: Any,
        method: AblationMethod = "zero",
        reference: Prompt | Sequence[Prompt] | None = None,
    ) -> Iterator[None]:
        """Silence parts of the model in every call that this context begins, until the block ends.

        components: heads ("L3H5", (3, 5), "blocks.3.attn.head.5"), attention layers ("blocks.3.attn") or MLPs
            ("blocks.3.mlp"); one or several.

        method: "zero", or "mean" for the mean of what they write over the reference, one text or several.

        Inside the block the reference engine runs; other threads and asyncio tasks are not affected. Raises
        `OptionError`. See `pellucid.lens.instruments.ablation.ablated`.
        """
        from pellucid.lens.instruments.ablation import ablated

        texts = None if reference is None else self._prompts(reference)[0]
        with ablated(self.model, components, method, texts):
            yield

    def ablate(
        self,
        text: Prompt,
        components: Any,
        method: AblationMethod = "zero",
        reference: Prompt | Sequence[Prompt] | None = None,
        *,
        top: int = 5,
    ) -> Ablation:
        """A text's loss, and the likeliest tokens after it, with and without parts of the model.

        components, method: as for `ablated`. reference: the texts that "mean" is over, the text itself unless given.
        Raises `OptionError` or `ContextLengthError`. See `pellucid.lens.instruments.ablation.ablate`.
        """
        from pellucid.lens.instruments.ablation import ablate

        ids = self._ids(text)
        texts = None if reference is None else self._prompts(reference)[0]
        return ablate(self.model, ids, components, method, texts, top=top, tokens=self._pieces(ids), piece=self._piece)

    def attribute(
        self,
        text: Prompt,
        token: str | int | None = None,
        method: AttributionMethod = "integrated_gradients",
        *,
        position: int = -1,
        steps: int = 50,
        baseline: str | int | None = None,
        progress: bool | None = None,
    ) -> TokenAttribution:
        """How much each token of a text counts for what the model says.

        method: "integrated_gradients" for the logit of a token, the likeliest next one unless given (Sundararajan et
            al., 2017), or "rollout" for attention only, whatever the token (Abnar & Zuidema, 2020).
        position: where it says it. steps: points of the integral. baseline: a token that stands for "nothing"; the
            zero vector unless given. See `pellucid.lens.instruments.token_attribution`.

        Raises `OptionError` or `ContextLengthError` before any work.
        """
        from pellucid.lens.instruments.token_attribution import integrated_gradients, rollout

        ids = self._ids(text)
        if method == "rollout":
            if token is not None or baseline is not None:
                raise OptionError("rollout follows attention, whatever is predicted: it takes no token and no baseline")
            return rollout(self.model, ids, position, tokens=self._pieces(ids))
        if method != "integrated_gradients":
            raise OptionError(f"method is {method!r}; it must be 'integrated_gradients' or 'rollout'")
        return integrated_gradients(
            self.model,
            ids,
            None if token is None else self.token_id(token),
            position,
            steps=steps,
            baseline=None if baseline is None else self.token_id(baseline),
            progress=progress,
            tokens=self._pieces(ids),
            piece=self._piece,
        )

    def induction_scores(
        self, *, seq_len: int = 50, repeats: int = 2, rows: int = 4, seed: int = 0, tokens: Sequence[int] | None = None
    ) -> HeadScores:
        """How much each head is an induction head, [layer, head], on random tokens that repeat (Olsson et al., 2022).

        seq_len: tokens that are repeated. tokens: the ids they are drawn from, all unless given. See
        `pellucid.lens.instruments.head_scores.scores_on_repeated_tokens`.
        """
        from pellucid.lens.instruments.head_scores import scores_on_repeated_tokens

        return scores_on_repeated_tokens(
            self.model, "induction", seq_len=seq_len, repeats=repeats, rows=rows, seed=seed, tokens=tokens
        )

    def previous_token_scores(
        self, *, seq_len: int = 50, repeats: int = 2, rows: int = 4, seed: int = 0, tokens: Sequence[int] | None = None
    ) -> HeadScores:
        """How much each head looks at the previous token, [layer, head], on the same texts as `induction_scores`."""
        from pellucid.lens.instruments.head_scores import scores_on_repeated_tokens

        return scores_on_repeated_tokens(
            self.model, "previous_token", seq_len=seq_len, repeats=repeats, rows=rows, seed=seed, tokens=tokens
        )

    def neuron(self, layer: int, index: int, text: Prompt | None = None, *, top: int = 10) -> NeuronView:
        """The tokens that an MLP's neuron raises and lowers most, and where in a text it is active (Geva et al., 2021).

        Raises `OptionError` for a neuron that is not there. See `pellucid.lens.instruments.neurons.neuron`.
        """
        from pellucid.lens.arguments import check_neuron
        from pellucid.lens.instruments.neurons import neuron

        check_neuron(layer, index, self.config)
        if text is None:
            return neuron(self.model, layer, index, top=top, piece=self._piece)
        (trace,) = self._traces([self._ids(text)], f"blocks.{layer}.mlp.post")
        return trace.neuron(layer, index, top)

    def token_id(self, token: str | int) -> int:
        """A token's id, from its text or itself. Raises `OptionError` for a text that is not one token, or no id."""
        from pellucid.lens.arguments import token_id

        return token_id(token, self.config.vocab_size, self.known_tokenizer)

    def _token_metric(
        self,
        asked: str | int | tuple[str | int, str | int] | None,
        position: int,
        clean: Sequence[int],
        corrupted: Sequence[int],
    ) -> TokenMetric:
        """A metric of tokens from how it was asked for."""
        from pellucid.lens.instruments.patching import likeliest_tokens, token_metric

        if asked is None:
            token, against = likeliest_tokens(self.model, clean, corrupted, position)
        elif isinstance(asked, (str, int)):
            token, against = self.token_id(asked), None
        else:
            if len(asked) != 2:
                raise OptionError(f"metric has {len(asked)} tokens; give one, two, or a function of the logits")
            token, against = self.token_id(asked[0]), self.token_id(asked[1])
        return token_metric(position, len(clean), token, against, self._piece)

    def _pieces(self, ids: Sequence[int]) -> Tokens:
        return tuple(map(self._piece, ids))
