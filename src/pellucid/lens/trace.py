"""A trace: the activations of one pass, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pellucid.config import GPT2Config
from pellucid.display import Displayed
from pellucid.engine import FloatArray
from pellucid.errors import ActivationNameError, TraceError
from pellucid.lens.choices import token_id
from pellucid.lens.instruments.of_traces import TraceInstruments
from pellucid.lens.names import Names, canonical, layer_of, select, tail_of

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.reference.model import GPT2LMHeadModel
    from pellucid.tokenizer import GPT2Tokenizer


class Trace(TraceInstruments, Displayed, Mapping[str, FloatArray]):
    """The activations of one pass over one text: a mapping from their names to arrays, in the order of the pass.

    `trace["blocks.0.attn.pattern"]` is a float32 array that cannot be written to, with a batch axis of 1 in front;
    TransformerLens's spellings of names are understood.

    ids, tokens: what the pass read, in ids and in pieces of text (None without a tokenizer). start: the position of the
    first of them. model_name, config, precision, tokenizer: of the model; the reference engine computed in float32,
    or in the torch engine's own type, with the weights as they are stored in this precision. value: what gradients
    are of.
    """

    def __init__(
        self,
        activations: Mapping[str, Tensor | FloatArray],
        *,
        ids: Sequence[int],
        config: GPT2Config,
        start: int = 0,
        model_name: str | None = None,
        precision: str = "float32",
        model: GPT2LMHeadModel | None = None,
        tokens: Sequence[str | None] | None = None,
        tokenizer: GPT2Tokenizer | None = None,
        gradients: Mapping[str, Tensor | FloatArray] | None = None,
        value: float | None = None,
    ) -> None:
        self.ids = list(ids)
        self.tokenizer = tokenizer
        self.tokens = tuple(map(self.piece, ids)) if tokens is None else tuple(tokens)
        self.config = config
        self.start = start
        self.model_name = model_name
        self.precision = precision
        self.value = value
        self._activations = dict(activations)
        self._gradients = dict(gradients or {})
        self._model = model

    @property
    def names(self) -> tuple[str, ...]:
        """The activations it holds, in the order of the pass."""
        return tuple(self._activations)

    @property
    def model(self) -> GPT2LMHeadModel:
        """The model that was traced. Raises `TraceError` for a trace that was loaded without one."""
        if self._model is None:
            raise TraceError("this trace was loaded without its model: Trace.load(path, model=pellucid.load(...))")
        return self._model

    @property
    def known_model(self) -> GPT2LMHeadModel | None:
        """The model that was traced, where it is at hand."""
        return self._model

    def piece(self, token: int) -> str | None:
        """An id's text, bytes that are only part of a character written out; None without a tokenizer."""
        return None if self.tokenizer is None else self.tokenizer.display_token(token)

    def token_id(self, token: str | int) -> int:
        """A token's id, from its text or itself. Raises `OptionError` for a text that is not one token, or no id."""
        return token_id(token, self.config.vocab_size, self.tokenizer)

    @property
    def nbytes(self) -> int:
        """Bytes that its activations and gradients take."""
        return sum(int(held.nbytes) for part in (self._activations, self._gradients) for held in part.values())

    def __getitem__(self, name: str) -> FloatArray:
        return _array(self._held(self._activations, name))

    def tensor(self, name: str) -> Tensor:
        """An activation in torch: of the model's own number type and on its device, or on the CPU once loaded."""
        return _tensor(self._held(self._activations, name))

    def gradient(self, name: str) -> FloatArray:
        """The gradient of `value` by an activation, in the activation's shape; float32.

        Raises `TraceError` for a trace that was made without gradients.
        """
        if self.value is None:
            raise TraceError("this trace has no gradients: make it with gradients=True, or a function of the logits")
        return _array(self._held(self._gradients, name))

    def stack(self, tail: str) -> FloatArray:
        """One activation of all blocks that the trace holds it of, in one array: `stack("attn.pattern")` is
        [layers, batch, n_head, seq, total]."""
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

    # A trace is itself and no other: comparing arrays by their numbers is the caller's to ask for.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        of = f"Trace of {self.model_name!r}" if self.model_name else "Trace"
        size = f"{len(self.ids)} tokens, {len(self)} activations, {self.nbytes / 1e6:,.1f} MB"
        gradients = "" if self.value is None else f", gradients of {self.value:.4g}"
        return f"{of}: {size}{gradients} (reference engine, {self.precision} weights)"

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file, as float32; a write that fails leaves the file as it was.

        Raises `TraceError` where the file cannot be written.
        """
        from pellucid.lens.trace_file import write_trace

        write_trace(Path(path), self)

    @classmethod
    def load(cls, path: str | Path, model: Any = None, *, names: Names = None) -> Self:
        """Read what `save` wrote.

        model: the `LanguageModel` or `GPT2LMHeadModel` that was traced, for what needs its weights. names: which
            activations to read.

        Raises `TraceError` for a file that is not whole, is no trace, or is not of this model.
        """
        from pellucid.lens.trace_file import read_trace

        return read_trace(cls, Path(path), model, names)

    def _held(self, part: Mapping[str, Tensor | FloatArray], name: str) -> Tensor | FloatArray:
        try:
            return part[canonical(name)]
        except KeyError:
            pass
        select(name, self._known_to_model)  # says so where no model has it
        holds = ", ".join(self.names[:3]) + (", ..." if len(self) > 3 else "")
        raise ActivationNameError(
            f"this trace does not hold {name!r}: ask for it in names (it holds {holds or 'nothing'})"
        )

    @property
    def _known_to_model(self) -> tuple[str, ...]:
        from pellucid.lens.names import activation_names

        return activation_names(self.config.n_layer)


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
