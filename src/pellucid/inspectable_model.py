"""A loaded model with traces, hooks, and the instruments that run the model.

All methods run on the reference model, with the (dequantized) weights of the engine in use. torch is imported when a
method is called.
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
        """The activations of a pass over a text, by name; several texts give a list.

        names: exact names, globs ("blocks.*.attn.pattern"), or names within a block, which select it in all blocks
            ("resid_post"); default: all. Only the selected activations are stored.
        gradients: also store the gradient with respect to each activation: of the log-probability of the likeliest next
            token (True), or of the number that a function computes from the logits [1, seq, vocab].
        memory_limit: bytes for all traces together; default: 4 GiB.

        The reference engine computes the trace, with the weights of the engine in use. Raises before any computation:
        `ActivationNameError`, `ContextLengthError`, `OptionError`, `TraceMemoryError` or `MissingExtraError`.
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
        """The engine for a traced decode; None if there is nothing to trace."""
        if names is False or names is None:
            return None
        of = self._traced_model  # raises its own error without torch, so before any import of it
        from pellucid.lens.tracing import MEMORY_LIMIT
        from pellucid.lens.tracing_engine import TracingEngine

        limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        return TracingEngine(of, None if names is True else names, limit)

    @contextmanager
    def hooks(self, hooks: Mapping[str, Hook]) -> Iterator[None]:
        """Read or replace activations in every call inside the `with` block.

        hooks: functions of (activation, name) by name or pattern, as in `trace`. A function returns a replacement, or
            changes the activation in place; if it does neither, the activation is kept. Shapes are those of
            `pellucid.lens.names.shape_of`; a step of a decode has only the tokens that it reads.

        Inside the block the reference engine runs, with the weights of the engine in use. Other threads and asyncio
        tasks do not run the hooks. A stream or session that begins inside the block keeps its hooks after it.

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
        """Activation patching: replace one activation of the corrupted run by the clean run's, at each layer and
        position or head, and measure the effect on a metric (Meng et al., 2022; Wang et al., 2022).

        clean, corrupted: texts of equal length in tokens.
        metric: a token, for its logit; two tokens, for the first logit minus the second; or a function of the logits
            [rows, seq, vocab] that returns [rows] numbers. Default: the logit of the likeliest token after the clean
            text minus that of the likeliest after the corrupted one.
        component: the activation to replace: "resid_pre", "attn.out" or "mlp.out" at one position, or "head" for one
            head (`pellucid.lens.instruments.patching.patch` lists more). by_position: patch a head at one position at a
            time.
        position: where the logits are read. layers, indices: the layers, and the positions or heads, to patch;
            default: all.
        batch_size: patched runs per forward pass.
        progress: True shows a progress bar on stderr, False none; None shows it if stderr is a terminal and the
            computation takes more than a second.

        Raises `OptionError` or `ContextLengthError` before any computation.
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
        """Ablate components of the model in every call inside the `with` block.

        components: heads ("L3H5", (3, 5), "blocks.3.attn.head.5"), attention layers ("blocks.3.attn") or MLPs
            ("blocks.3.mlp"); one or several.
        method: what replaces their output: "zero", or "mean" for the mean over the reference.
        reference: one text or several, for "mean".

        Inside the block the reference engine runs. Other threads and asyncio tasks are not affected. Raises
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
        """A text's loss, and the likeliest next tokens, with and without some components of the model.

        components, method: as for `ablated`. reference: the texts for "mean"; default: the text itself. top: how many
        of the likeliest tokens to keep. Raises `OptionError` or `ContextLengthError`. See
        `pellucid.lens.instruments.ablation.ablate`.
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
        """The contribution of each token of a text to the model's output at a position.

        token: the token whose logit is attributed; default: the likeliest next token.
        method: "integrated_gradients" (Sundararajan et al., 2017), or "rollout", which follows attention only and takes
            no token (Abnar & Zuidema, 2020).
        position: where the logit is read. steps: points of the quadrature. baseline: a token whose embedding is the
            baseline; default: the zero vector. progress: as for `patch`.

        Raises `OptionError` or `ContextLengthError` before any computation. See
        `pellucid.lens.instruments.token_attribution`.
        """
        from pellucid.lens.instruments.token_attribution import integrated_gradients, rollout

        ids = self._ids(text)
        if method == "rollout":
            if token is not None or baseline is not None:
                raise OptionError("rollout depends on attention only: it takes no token and no baseline")
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
        """The induction score of each head, [layer, head], on repeated random tokens (Olsson et al., 2022).

        seq_len: tokens in the repeated sequence. repeats: its occurrences. rows: number of texts. seed: of the random
        tokens. tokens: the ids to draw from; default: the whole vocabulary. See
        `pellucid.lens.instruments.head_scores.scores_on_repeated_tokens`.
        """
        from pellucid.lens.instruments.head_scores import scores_on_repeated_tokens

        return scores_on_repeated_tokens(
            self.model, "induction", seq_len=seq_len, repeats=repeats, rows=rows, seed=seed, tokens=tokens
        )

    def previous_token_scores(
        self, *, seq_len: int = 50, repeats: int = 2, rows: int = 4, seed: int = 0, tokens: Sequence[int] | None = None
    ) -> HeadScores:
        """Each head's mean attention to the previous token, [layer, head], on the texts of `induction_scores`."""
        from pellucid.lens.instruments.head_scores import scores_on_repeated_tokens

        return scores_on_repeated_tokens(
            self.model, "previous_token", seq_len=seq_len, repeats=repeats, rows=rows, seed=seed, tokens=tokens
        )

    def neuron(self, layer: int, index: int, text: Prompt | None = None, *, top: int = 10) -> NeuronView:
        """The tokens that an MLP neuron promotes and suppresses, and its activations in a text (Geva et al., 2021).

        top: how many tokens to keep in each direction. Raises `OptionError` for a neuron that does not exist. See
        `pellucid.lens.instruments.neurons.neuron`.
        """
        from pellucid.lens.arguments import check_neuron
        from pellucid.lens.instruments.neurons import neuron

        check_neuron(layer, index, self.config)
        if text is None:
            return neuron(self.model, layer, index, top=top, piece=self._piece)
        (trace,) = self._traces([self._ids(text)], f"blocks.{layer}.mlp.post")
        return trace.neuron(layer, index, top)

    def token_id(self, token: str | int) -> int:
        """The id of a token that is given as text or as an id.

        Raises `OptionError` for a text that is not exactly one token and for an id beyond the vocabulary.
        """
        from pellucid.lens.arguments import token_id

        return token_id(token, self.config.vocab_size, self.known_tokenizer)

    def _token_metric(
        self,
        asked: str | int | tuple[str | int, str | int] | None,
        position: int,
        clean: Sequence[int],
        corrupted: Sequence[int],
    ) -> TokenMetric:
        """The metric for `patch`'s argument of one token, two tokens or None."""
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
