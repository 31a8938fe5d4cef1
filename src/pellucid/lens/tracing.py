"""Making a trace: one pass of the reference model that keeps the selected activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pellucid.errors import OptionError, TraceMemoryError
from pellucid.lens.arguments import check_text
from pellucid.lens.hooks import model_in_context
from pellucid.lens.names import Names, activation_names, select, size_of, tail_of
from pellucid.lens.sites import Visit, visited
from pellucid.lens.trace import Trace
from pellucid.lens.traced_model import TracedModel
from pellucid.reference.model import GPT2LMHeadModel

# The default limit on a trace's size, in bytes.
MEMORY_LIMIT = 4 * 2**30

# What to differentiate: True for the log-probability of the likeliest next token, or a function that computes one
# number from the logits [1, seq, vocab]. False for no gradients.
Gradients = bool | Callable[[Tensor], Tensor]


def trace_pass(
    model: GPT2LMHeadModel,
    ids: Sequence[int],
    names: Names = None,
    *,
    gradients: Gradients = False,
    memory_limit: int = MEMORY_LIMIT,
) -> Trace:
    """The trace of one text in a model that has no name and no tokenizer: see `trace_texts`."""
    of = TracedModel(model.config, model)
    return trace_texts(of, [ids], names, gradients=gradients, memory_limit=memory_limit)[0]


def trace_texts(
    of: TracedModel,
    texts: Sequence[Sequence[int]],
    names: Names = None,
    *,
    gradients: Gradients = False,
    memory_limit: int = MEMORY_LIMIT,
) -> list[Trace]:
    """Run a model on each text and keep the selected activations.

    names, gradients: as for `LanguageModel.trace`. memory_limit: bytes for all traces together.

    Raises before any computation: `ActivationNameError`; `ContextLengthError`; `OptionError` for an empty text or an id
    beyond the vocabulary; `TraceMemoryError` if the traces would exceed `memory_limit`.
    """
    model = of.model
    chosen = select(names, activation_names(model.config.n_layer))
    for ids in texts:
        check_text(ids, model.config)
    nbytes = sum(trace_bytes(model, chosen, len(ids), gradients=bool(gradients)) for ids in texts)
    check_memory(nbytes, memory_limit, sum(map(len, texts)), chosen)
    return [_traced(of, ids, chosen, gradients) for ids in texts]


def _traced(of: TracedModel, ids: Sequence[int], names: Sequence[str], gradients: Gradients) -> Trace:
    model, store = of.model, ActivationStore(names)
    batch = torch.tensor([list(ids)], device=model.transformer.wte.weight.device)
    value, slopes = None, None
    if gradients:
        value, slopes = _differentiate(model, batch, store, gradients)
    else:
        watched = visited(model_in_context(model), store.visits)
        with torch.no_grad():
            watched(batch, use_cache=False)
    return Trace(store.kept_in_order(), of, ids=ids, gradients=slopes, value=value)


class ActivationStore:
    """Stores the activations that it visits. A view of a larger tensor is copied, so that the tensor can be freed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.kept: dict[str, Tensor] = {}

    @property
    def visits(self) -> dict[str, Visit]:
        return dict.fromkeys(self.names, self.keep)

    def keep(self, activation: Tensor, name: str) -> None:
        own = activation.detach()
        self.kept[name] = own.clone() if own.untyped_storage().nbytes() > own.nbytes else own

    def kept_in_order(self) -> dict[str, Tensor]:
        """The stored activations, in the order of computation."""
        return {name: self.kept[name] for name in self.names}


def _differentiate(
    model: GPT2LMHeadModel, batch: Tensor, store: ActivationStore, gradients: Gradients
) -> tuple[float, dict[str, Tensor]]:
    """Run a pass that stores activations, and return the value and its gradient with respect to each of them."""
    in_path: dict[str, Tensor] = {}

    def keep(activation: Tensor, name: str) -> Tensor | None:
        # The graph's leaves are the embeddings, so that weights get no gradient, and activations that a hook replaced
        # by a tensor without a graph.
        is_leaf = name in ("embed", "pos_embed") or not activation.requires_grad
        node = activation.detach().requires_grad_() if is_leaf else activation
        if name in store.names:
            in_path[name] = node
            store.keep(node, name)
        return node if is_leaf else None

    visits = dict.fromkeys(("embed", "pos_embed", *store.names), keep)
    watched = visited(model_in_context(model), visits, in_path=True)
    with torch.inference_mode(False), torch.enable_grad():
        logits = watched(batch, use_cache=False).logits  # [1, seq, vocab]
        value = _likeliest(logits) if gradients is True else gradients(logits)  # type: ignore[operator]
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise OptionError("gradients must return one number, a tensor that is computed from the logits it is given")
        found = torch.autograd.grad(value.sum(), list(in_path.values()), allow_unused=True)
    return float(value.detach()), {
        name: torch.zeros_like(activation) if slope is None else slope.detach()
        for (name, activation), slope in zip(in_path.items(), found, strict=True)
    }


def _likeliest(logits: Tensor) -> Tensor:
    """The log-probability (nats) of the likeliest next token."""
    return logits[0, -1].float().log_softmax(dim=-1).max()


def trace_bytes(
    model: GPT2LMHeadModel, names: Sequence[str], seq: int, *, gradients: bool = False, batch: int = 1
) -> int:
    """An upper bound of a trace's memory, in bytes.

    gradients: add each activation's gradient, and autograd's graph, which is about one copy of every activation.
    """
    itemsize = model.transformer.wte.weight.element_size()
    numbers = size_of(names, model.config, seq, batch=batch)
    if gradients:
        in_graph = [name for name in activation_names(model.config.n_layer) if tail_of(name) != "attn.result"]
        numbers += numbers + size_of(in_graph, model.config, seq, batch=batch)
    return numbers * itemsize


def check_memory(nbytes: int, limit: int, seq: int, names: Sequence[str], option: str = "memory_limit") -> None:
    """Raise `TraceMemoryError` if a trace of `nbytes` exceeds the limit."""
    if nbytes <= limit:
        return
    raise TraceMemoryError(
        f"a trace of {seq:,} tokens with {len(names):,} activations takes {_readable(nbytes)}, more than the "
        f"{option} of {_readable(limit)}: ask for fewer activations, or raise {option}"
    )


def _readable(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.2f} GB" if nbytes >= 10**8 else f"{nbytes / 1e6:,.2f} MB"
