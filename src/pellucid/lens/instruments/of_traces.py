"""The instruments that read a trace, as its methods. torch is imported when one needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.lens.results import (
        AttentionPatterns,
        HeadNorms,
        HeadScores,
        LogitAttribution,
        LogitLens,
        NeuronView,
        ResidualNorms,
    )
    from pellucid.lens.trace import Trace


class TraceInstruments:
    """What a `Trace` can be asked. Each instrument needs certain activations, and says so where the trace lacks one;
    those that go through weights need the model."""

    @property
    def _itself(self) -> Trace:
        return self  # type: ignore[return-value]  # Trace inherits from this class, and nothing else does

    def logit_lens(self, token: str | int | Sequence[int] | None = None, top: int = 5) -> LogitLens:
        """What each layer's stream says, read through the final layer norm and the head (nostalgebraist, 2020).

        token: the token to follow through the layers, or ids, one a position; what the model predicts unless given.
        top: how many of the likeliest tokens to keep. See `pellucid.lens.instruments.logit_lens.logit_lens`.
        """
        from pellucid.lens.instruments.logit_lens import logit_lens

        return logit_lens(self._itself, token, top)

    def logit_attribution(
        self, token: str | int | None = None, position: int = -1, against: str | int | None = None
    ) -> LogitAttribution:
        """A logit, or the difference of two, as the sum of what embeddings, heads, MLPs and biases add to it directly
        (Elhage et al., 2021).

        token: whose logit; the likeliest next one unless given. position: where. against: the token whose logit is
        subtracted. See `pellucid.lens.instruments.logit_attribution.logit_attribution`.
        """
        from pellucid.lens.instruments.logit_attribution import logit_attribution

        return logit_attribution(self._itself, token, position, against)

    def attention(
        self, layer: int | Sequence[int] | None = None, head: int | Sequence[int] | None = None
    ) -> AttentionPatterns:
        """The attention patterns of all layers and heads or those asked for, [layers, heads, query, key]."""
        from pellucid.lens.instruments.attention import attention

        return attention(self._itself, layer, head)

    def head_norms(self) -> HeadNorms:
        """How much each head writes at each position, [layer, head, position]: the L2 norm of its `attn.result`."""
        from pellucid.lens.instruments.attention import head_norms

        return head_norms(self._itself)

    def residual_norms(self) -> ResidualNorms:
        """How long the stream is along the layers, and what attention and MLPs add to it; L2 norms at each position."""
        from pellucid.lens.instruments.attention import residual_norms

        return residual_norms(self._itself)

    def induction_scores(self) -> HeadScores:
        """How much each head looks at what followed the current token before, [layer, head] (Olsson et al., 2022).

        Raises `OptionError` where no token repeats. See `pellucid.lens.instruments.head_scores.induction_scores`.
        """
        from pellucid.lens.instruments.head_scores import induction_scores

        return induction_scores(self._itself)

    def previous_token_scores(self) -> HeadScores:
        """How much each head looks at the token before the current one, [layer, head] (Elhage et al., 2021)."""
        from pellucid.lens.instruments.head_scores import previous_token_scores

        return previous_token_scores(self._itself)

    def duplicate_token_scores(self) -> HeadScores:
        """How much each head looks at earlier places of the current token, [layer, head] (Wang et al., 2022).

        Raises `OptionError` where no token repeats.
        """
        from pellucid.lens.instruments.head_scores import duplicate_token_scores

        return duplicate_token_scores(self._itself)

    def neuron(self, layer: int, index: int, top: int = 10) -> NeuronView:
        """What an MLP's neuron says and where in the text it speaks (Geva et al., 2021).

        Needs `mlp.post` of its layer. See `pellucid.lens.instruments.neurons.neuron`.
        """
        from pellucid.lens.choices import check_neuron
        from pellucid.lens.instruments.neurons import neuron

        trace = self._itself
        check_neuron(layer, index, trace.config)
        return neuron(
            trace.model,
            layer,
            index,
            ids=trace.ids,
            tokens=trace.tokens,
            activations=trace[f"blocks.{layer}.mlp.post"][0, :, index].copy(),
            top=top,
            piece=trace.piece,
        )
