"""A trace: the activations of one forward pass, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.errors import ActivationNameError, TraceError
from pellucid.lens.arguments import token_id
from pellucid.lens.names import Names, activation_names, canonical, layer_of, select, tail_of
from pellucid.lens.traced_model import TracedModel

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.lens.results import (
        AttentionPatterns,
        HeadNorms,
        HeadScores,
        LogitAttribution,
        LogitLens,
        NeuronView,
        ResidualNorms,
    )
    from pellucid.reference.model import GPT2LMHeadModel


class Trace(Displayed, Mapping[str, FloatArray]):
    """The activations of one forward pass over one text: a mapping from names to arrays, in the order of computation.

    `trace["blocks.0.attn.pattern"]` is a read-only float32 array with a batch axis of size 1 in front.
    TransformerLens's spellings of names are accepted.

    of: the traced model. `config`, `model_name`, `precision` and `tokenizer` are taken from it. The reference engine
    computes in float32, or in the torch engine's precision, with weights rounded to `precision`.
    ids, tokens: the tokens of the pass, as ids and as pieces of text (None without a tokenizer). start: the position of
    the first token. value: the number that was differentiated; None without gradients.
    """

    def __init__(
        self,
        activations: Mapping[str, Tensor | FloatArray],
        of: TracedModel,
        *,
        ids: Sequence[int],
        start: int = 0,
        tokens: Sequence[str | None] | None = None,
        gradients: Mapping[str, Tensor | FloatArray] | None = None,
        value: float | None = None,
    ) -> None:
        self.of = of
        self.config, self.model_name, self.precision, self.tokenizer = of.config, of.name, of.precision, of.tokenizer
        self.ids = list(ids)
        self.tokens = tuple(map(self.piece, ids)) if tokens is None else tuple(tokens)
        self.start = start
        self.value = value
        self._activations = dict(activations)
        self._gradients = dict(gradients or {})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the activations, in the order of computation."""
        return tuple(self._activations)

    @property
    def model(self) -> GPT2LMHeadModel:
        """The model that was traced. Raises `TraceError` for a trace that was loaded without one."""
        return self.of.model

    def piece(self, token: int) -> str | None:
        """A token's text, with the bytes of incomplete characters escaped; None without a tokenizer."""
        return None if self.tokenizer is None else self.tokenizer.display_token(token)

    def token_id(self, token: str | int) -> int:
        """The id of a token that is given as text or as an id.

        Raises `OptionError` for a text that is not exactly one token and for an id beyond the vocabulary.
        """
        return token_id(token, self.config.vocab_size, self.tokenizer)

    @property
    def nbytes(self) -> int:
        """The size of the activations and gradients in bytes."""
        return sum(int(held.nbytes) for part in (self._activations, self._gradients) for held in part.values())

    def __getitem__(self, name: str) -> FloatArray:
        return _array(self._held(self._activations, name))

    def tensor(self, name: str) -> Tensor:
        """An activation as a torch tensor, in the model's dtype and on its device.

        A trace that was loaded from a file gives float32 tensors on the CPU.
        """
        return _tensor(self._held(self._activations, name))

    def gradient(self, name: str) -> FloatArray:
        """The gradient of `value` with respect to an activation: float32, in the activation's shape.

        Raises `TraceError` for a trace that was made without gradients.
        """
        if self.value is None:
            raise TraceError("this trace has no gradients: make it with gradients=True, or a function of the logits")
        return _array(self._held(self._gradients, name))

    def stack(self, tail: str) -> FloatArray:
        """One activation of every block in the trace, stacked: `stack("attn.pattern")` is [layers, batch, n_head, seq,
        total]."""
        names = [name for name in select(tail, self.names) if layer_of(name) is not None]
        kinds = {tail_of(name) for name in names}
        if len(kinds) != 1:
            raise ActivationNameError(f'stack takes one activation of all blocks, as "resid_post"; {tail!r} is not one')
        return np.stack([self[name] for name in names])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self._activations

    def __iter__(self) -> Iterator[str]:
        return iter(self._activations)

    def __len__(self) -> int:
        return len(self._activations)

    # Traces compare by identity: `Mapping` would compare arrays, whose == gives an array.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        of = f"Trace of {self.model_name!r}" if self.model_name else "Trace"
        size = f"{len(self.ids)} tokens, {len(self)} activations, {self.nbytes / 1e6:,.1f} MB"
        gradients = "" if self.value is None else f", gradients of {self.value:.4g}"
        return f"{of}: {size}{gradients} (reference engine, {self.precision} weights)"

    def save(self, path: str | Path) -> None:
        """Write the trace to a safetensors file, as float32. The write is atomic: a failure leaves an existing file
        unchanged.

        Raises `PellucidError` if the file cannot be written.
        """
        from pellucid.lens.trace_file import write_trace

        write_trace(Path(path), self)

    @classmethod
    def load(cls, path: str | Path, model: Any = None, *, names: Names = None) -> Self:
        """Read a trace that `save` wrote.

        model: the `LanguageModel` or `GPT2LMHeadModel` that was traced; instruments that need weights use it. names:
            the activations to read; default: all.

        Raises `TraceError` for a file that is damaged or not a trace, and for a model of another configuration.
        """
        from pellucid.lens.trace_file import read_trace

        return read_trace(cls, Path(path), model, names)

    def logit_lens(self, token: str | int | Sequence[int] | None = None, top: int = 5) -> LogitLens:
        """The logit lens: the final layer norm and the head applied to the residual stream after each block
        (nostalgebraist, 2020).

        token: the token to follow through the layers, or one id per position; default: the model's prediction at each
            position.
        top: how many of the likeliest tokens to keep.

        See `pellucid.lens.instruments.logit_lens.logit_lens`.
        """
        from pellucid.lens.instruments.logit_lens import logit_lens

        return logit_lens(self, token, top)

    def logit_attribution(
        self, token: str | int | None = None, position: int = -1, against: str | int | None = None
    ) -> LogitAttribution:
        """Direct logit attribution: a logit, or the difference of two, as the sum of the contributions of embeddings,
        heads, MLPs and biases (Elhage et al., 2021).

        token: the token whose logit is decomposed; default: the likeliest next token. position: where the logit is
            read. against: a token whose logit is subtracted.

        See `pellucid.lens.instruments.logit_attribution.logit_attribution`.
        """
        from pellucid.lens.instruments.logit_attribution import logit_attribution

        return logit_attribution(self, token, position, against)

    def attention(
        self, layer: int | Sequence[int] | None = None, head: int | Sequence[int] | None = None
    ) -> AttentionPatterns:
        """The attention patterns, [layers, heads, query, key]. layer, head: default: all."""
        from pellucid.lens.instruments.attention import attention

        return attention(self, layer, head)

    def head_norms(self) -> HeadNorms:
        """The L2 norm of each head's `attn.result` at each position, [layer, head, position]."""
        from pellucid.lens.instruments.attention import head_norms

        return head_norms(self)

    def residual_norms(self) -> ResidualNorms:
        """The L2 norms, at each position, of the residual stream along the layers and of the outputs of attention and
        MLPs."""
        from pellucid.lens.instruments.attention import residual_norms

        return residual_norms(self)

    def induction_scores(self) -> HeadScores:
        """Each head's mean attention to the token after an earlier occurrence of the current token, [layer, head]
        (Olsson et al., 2022).

        Raises `OptionError` if no token repeats. See `pellucid.lens.instruments.head_scores.induction_scores`.
        """
        from pellucid.lens.instruments.head_scores import induction_scores

        return induction_scores(self)

    def previous_token_scores(self) -> HeadScores:
        """Each head's mean attention to the previous token, [layer, head] (Elhage et al., 2021)."""
        from pellucid.lens.instruments.head_scores import previous_token_scores

        return previous_token_scores(self)

    def duplicate_token_scores(self) -> HeadScores:
        """Each head's mean attention to earlier occurrences of the current token, [layer, head] (Wang et al., 2022).

        Raises `OptionError` if no token repeats.
        """
        from pellucid.lens.instruments.head_scores import duplicate_token_scores

        return duplicate_token_scores(self)

    def neuron(self, layer: int, index: int, top: int = 10) -> NeuronView:
        """The tokens that an MLP neuron promotes and suppresses, and its activations in the text (Geva et al., 2021).

        Needs `mlp.post` of the layer. See `pellucid.lens.instruments.neurons.neuron`.
        """
        from pellucid.lens.arguments import check_neuron
        from pellucid.lens.instruments.neurons import neuron

        check_neuron(layer, index, self.config)
        return neuron(
            self.model,
            layer,
            index,
            ids=self.ids,
            tokens=self.tokens,
            activations=self[f"blocks.{layer}.mlp.post"][0, :, index].copy(),
            top=top,
            piece=self.piece,
        )

    def _held(self, part: Mapping[str, Tensor | FloatArray], name: str) -> Tensor | FloatArray:
        try:
            return part[canonical(name)]
        except KeyError:
            pass
        select(name, activation_names(self.config.n_layer))  # raises for a name that the model does not have
        holds = ", ".join(self.names[:3]) + (", ..." if len(self) > 3 else "")
        raise ActivationNameError(
            f"this trace does not hold {name!r}: ask for it in names (it holds {holds or 'nothing'})"
        )


def _array(held: Tensor | FloatArray) -> FloatArray:
    array: FloatArray = held if isinstance(held, np.ndarray) else held.detach().float().cpu().numpy()
    view = array.view()
    view.flags.writeable = False
    return view


def _tensor(held: Tensor | FloatArray) -> Tensor:
    if not isinstance(held, np.ndarray):
        return held
    from pellucid.extras import require

    require("torch", "Trace.tensor()")
    import torch

    return torch.from_numpy(held)
