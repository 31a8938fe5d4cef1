"""The logit lens: what the model would say if it stopped after each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.errors import OptionError
from pellucid.lens.choices import check_top
from pellucid.lens.results import LogitLens

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import GPT2LMHeadModel

# So many rows of logits are held at a time: 26 MB of them with GPT-2's vocabulary.
_ROWS_AT_A_TIME = 128


def lens_names(n_layer: int) -> list[str]:
    """The activations that the lens reads."""
    return ["blocks.0.resid_pre", *(f"blocks.{layer}.resid_post" for layer in range(n_layer))]


def logit_lens(trace: Trace, token: str | int | Sequence[int] | None = None, top: int = 5) -> LogitLens:
    """Read every layer's stream through the final layer norm and the head.

    The method is nostalgebraist's ("interpreting GPT: the logit lens", 2020): the final layer norm with its weight and
    bias, its statistics taken from the stream it is given, then the head. The last row is the model's own output.

    token: the token whose logit, probability and rank are followed through the layers: one for all positions, or a
        list of ids, one a position. Unless given, what the model predicts at each position in the end.
    top: how many of the likeliest tokens are kept of each layer and position.

    Needs `blocks.0.resid_pre` and every `resid_post`. Raises `OptionError` for a bad argument, `ActivationNameError`
    where the trace lacks an activation.
    """
    model = trace.model
    check_top(top, model.config.vocab_size)
    streams = [trace.tensor(name)[0] for name in lens_names(model.config.n_layer)]  # each [position, n_embd]
    with torch.inference_mode():
        targets = _targets(trace, token) if token is not None else _predicted(model, streams[-1])
        found = [_read(model, stream, targets, top) for stream in streams]
        top_logits, top_ids, top_probabilities, entropy, logits, probabilities, ranks = (
            torch.stack(measure).cpu().numpy() for measure in zip(*found, strict=True)
        )
    target_ids = targets.cpu().numpy()
    mentioned = {*target_ids.tolist(), *top_ids.ravel().tolist()}
    return LogitLens(
        ids=tuple(trace.ids),
        tokens=tuple(trace.tokens),
        layers=("embed", *map(str, range(model.config.n_layer))),
        top_ids=top_ids,
        top_logits=top_logits,
        top_probabilities=top_probabilities,
        entropy=entropy,
        target_ids=target_ids,
        target_logits=logits,
        target_probabilities=probabilities,
        target_ranks=ranks,
        pieces={id: trace.piece(id) for id in sorted(mentioned)},
    )


def _targets(trace: Trace, token: str | int | Sequence[int]) -> Tensor:
    """The ids asked for, [position]."""
    positions = len(trace.ids)
    if isinstance(token, (str, int)):
        return torch.full((positions,), trace.token_id(token), device=trace.model.lm_head.weight.device)
    if len(token) != positions:
        raise OptionError(f"token has {len(token)} ids, but the text has {positions} tokens: give one, or one for each")
    return torch.tensor([trace.token_id(id) for id in token], device=trace.model.lm_head.weight.device)


def _predicted(model: GPT2LMHeadModel, last: Tensor) -> Tensor:
    """The likeliest next token of every position, [position], from the stream after the last block."""
    parts = torch.split(last, _ROWS_AT_A_TIME)
    return torch.cat([model.lm_head(model.transformer.ln_f(part)).argmax(-1) for part in parts])


def _read(model: GPT2LMHeadModel, stream: Tensor, targets: Tensor, top: int) -> tuple[Tensor, ...]:
    """One layer's logits at every position, in the order of `LogitLens`'s measures; each [position, ...]."""
    measured = [
        _measure(model.lm_head(model.transformer.ln_f(part)).float(), wanted, top)
        for part, wanted in zip(
            torch.split(stream, _ROWS_AT_A_TIME), torch.split(targets, _ROWS_AT_A_TIME), strict=True
        )
    ]
    return tuple(torch.cat(measure) for measure in zip(*measured, strict=True))


def _measure(logits: Tensor, targets: Tensor, top: int) -> tuple[Tensor, ...]:
    """What is kept of [position, vocab] logits."""
    logprobs = logits.log_softmax(-1)
    top_logits, top_ids = logits.topk(top)
    target_logits = logits.gather(-1, targets[:, None])
    return (
        top_logits,
        top_ids,
        logprobs.gather(-1, top_ids).exp(),
        -(logprobs.exp() * logprobs).sum(-1),
        target_logits[:, 0],
        logprobs.gather(-1, targets[:, None])[:, 0].exp(),
        (logits > target_logits).sum(-1),
    )
