"""Making a trace: one pass of the reference model, of which what was asked for is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pellucid.errors import OptionError, TraceMemoryError
from pellucid.lens.arguments import check_text
from pellucid.lens.hooks import model_here
from pellucid.lens.names import Names, activation_names, select, size_of, tail_of
from pellucid.lens.sites import Visit, visited
from pellucid.lens.trace import Trace
from pellucid.lens.traced_model import TracedModel
from pellucid.reference.model import GPT2LMHeadModel

# Bytes that a trace may take unless it is told otherwise.
MEMORY_LIMIT = 4 * 2**30

# False; True for the log-probability of the likeliest next token; or one number from the logits [1, seq, vocab].
Gradients = bool | Callable[[Tensor], Tensor]


def trace_pass(
    model: GPT2LMHeadModel,
    ids: Sequence[int],
    names: Names = None,
    *,
    gradients: Gradients = False,
    memory_limit: int = MEMORY_LIMIT,
) -> Trace:
    """The trace of one text in a model without a name or a tokenizer: see `trace_texts`."""
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
    """Run a model over the ids of each text and keep the activations that are asked for.

    names, gradients: as for `LanguageModel.trace`. memory_limit: bytes that all traces may take together.

    Raises, before any work, `ActivationNameError`, `ContextLengthError`, `OptionError` for no ids or an id that the
    model has no row for, and `TraceMemoryError` where the traces would take more than `memory_limit`.
    """
    model = of.model
    chosen = select(names, activation_names(model.config.n_layer))
    for ids in texts:
        check_text(ids, model.config)
    nbytes = sum(trace_bytes(model, chosen, len(ids), gradients=bool(gradients)) for ids in texts)
    check_memory(nbytes, memory_limit, sum(map(len, texts)), chosen)
    return [_traced(of, ids, chosen, gradients) for ids in texts]


def _traced(of: TracedModel, ids: Sequence[int], names: Sequence[str], gradients: Gradients) -> Trace:
    model, keeper = of.model, Keeper(names)
    batch = torch.tensor([list(ids)], device=model.transformer.wte.weight.device)
    value, slopes = None, None
    if gradients:
        value, slopes = _differentiate(model, batch, keeper, gradients)
    else:
        watched = visited(model_here(model), keeper.visits)
        with torch.no_grad():
            watched(batch, use_cache=False)
    return Trace(keeper.kept_in_order(), of, ids=ids, gradients=slopes, value=value)


class Keeper:
    """Visits activations and keeps them.

    Only what a visit is given is kept, not what it is a part of.
    """

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
        """What was kept, in the order of a pass."""
        return {name: self.kept[name] for name in self.names}


def _differentiate(
    model: GPT2LMHeadModel, batch: Tensor, keeper: Keeper, gradients: Gradients
) -> tuple[float, dict[str, Tensor]]:
    """Keep activations and find the gradient of a value by each of them."""
    in_path: dict[str, Tensor] = {}

    def keep(activation: Tensor, name: str) -> Tensor | None:
        # The way back ends where the pass begins, so that no gradient by a weight is taken, and where a hook put
        # something that was not computed from what came before.
        begins = name in ("embed", "pos_embed") or not activation.requires_grad
        reached = activation.detach().requires_grad_() if begins else activation
        if name in keeper.names:
            in_path[name] = reached
            keeper.keep(reached, name)
        return reached if begins else None

    visits = dict.fromkeys(("embed", "pos_embed", *keeper.names), keep)
    watched = visited(model_here(model), visits, in_path=True)
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
    """The log-probability (nats) of the likeliest token after the last position."""
    return logits[0, -1].float().log_softmax(dim=-1).max()


def trace_bytes(
    model: GPT2LMHeadModel, names: Sequence[str], seq: int, *, gradients: bool = False, batch: int = 1
) -> int:
    """The memory that a trace takes at most. With gradients: each activation's too, and what autograd holds of the
    pass, which is about every activation once."""
    itemsize = model.transformer.wte.weight.element_size()
    numbers = size_of(names, model.config, seq, batch=batch)
    if gradients:
        passed = [name for name in activation_names(model.config.n_layer) if tail_of(name) != "attn.result"]
        numbers += numbers + size_of(passed, model.config, seq, batch=batch)
    return numbers * itemsize


def check_memory(nbytes: int, limit: int, seq: int, names: Sequence[str], option: str = "memory_limit") -> None:
    """Raise `TraceMemoryError` where a trace takes more than it may."""
    if nbytes <= limit:
        return
    raise TraceMemoryError(
        f"a trace of {seq:,} tokens with {len(names):,} activations takes {_told(nbytes)}, more than the {option} of "
        f"{_told(limit)}: ask for fewer activations, or raise {option}"
    )


def _told(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.2f} GB" if nbytes >= 10**8 else f"{nbytes / 1e6:,.2f} MB"
