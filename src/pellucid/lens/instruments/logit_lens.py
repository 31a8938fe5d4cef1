"""The logit lens: the final layer norm and the head applied to the residual stream at each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.errors import OptionError
from pellucid.lens.arguments import check_top
from pellucid.lens.results import LogitLens

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import GPT2LMHeadModel

# Rows of logits per batch: 26 MB with GPT-2's vocabulary, and the same for log-probabilities and for probabilities.
_ROWS_AT_A_TIME = 128


def lens_names(n_layer: int) -> list[str]:
    """The activations that the lens reads."""
    return ["blocks.0.resid_pre", *(f"blocks.{layer}.resid_post" for layer in range(n_layer))]


def logit_lens(
    trace: Trace,
    token: str | int | Sequence[int] | None = None,
    top: int = 5,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LogitLens:
    """Apply the final layer norm and the head to every layer's residual stream.

    The method is nostalgebraist's ("interpreting GPT: the logit lens", 2020). The layer norm uses its weight and bias,
    and the statistics of the given stream. The last row is the model's own output.

    token: the token whose logit, probability and rank are followed through the layers: one token for all positions, or
        one id per position; default: the model's prediction at each position.
    top: how many of the likeliest tokens to keep at each layer and position.
    progress: a callback with the number of parts of the text that are done, and of all parts.

    Needs `blocks.0.resid_pre` and every `resid_post`. Raises `OptionError` for an invalid argument,
    `ActivationNameError` if the trace lacks an activation.
    """
    model = trace.model
    check_top(top, model.config.vocab_size)
    streams = torch.stack([trace.tensor(name)[0] for name in lens_names(model.config.n_layer)])  # [layers, position, .]
    asked = None if token is None else _targets(trace, token)
    parts = range(0, streams.size(1), _ROWS_AT_A_TIME)
    buffer = torch.empty(2, min(_ROWS_AT_A_TIME, streams.size(1)), model.config.vocab_size, device=streams.device)
    found = []
    with torch.inference_mode():
        for done, start in enumerate(parts, start=1):
            some = slice(start, start + _ROWS_AT_A_TIME)
            found.append(_read(model, streams[:, some], None if asked is None else asked[some], top, buffer))
            progress(done, len(parts))
        targets = torch.cat([targets for targets, _ in found])  # [position]
        top_logits, top_ids, top_probabilities, entropy, logits, probabilities, ranks = (
            torch.cat(pieces, dim=1).cpu().numpy() for pieces in zip(*(measures for _, measures in found), strict=True)
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
    """The ids of the `token` argument, [position]."""
    positions = len(trace.ids)
    if isinstance(token, (str, int)):
        return torch.full((positions,), trace.token_id(token), device=trace.model.lm_head.weight.device)
    if len(token) != positions:
        raise OptionError(f"token has {len(token)} ids, but the text has {positions} tokens: give one, or one for each")
    return torch.tensor([trace.token_id(id) for id in token], device=trace.model.lm_head.weight.device)


def _read(
    model: GPT2LMHeadModel, streams: Tensor, asked: Tensor | None, top: int, buffer: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The targets [position] and the measures of some positions, in the order of `LogitLens`'s fields, each [layers,
    position, ...].

    streams: [layers, position, n_embd]. asked: the targets; default: the last layer's predictions.
    """

    def logits_of(stream: Tensor) -> Tensor:
        logits: Tensor = model.lm_head(model.transformer.ln_f(stream))
        return logits.float()

    last = logits_of(streams[-1])  # [position, vocab]
    targets = last.argmax(-1) if asked is None else asked
    last_measures = _measure(last, targets, top, buffer)
    del last
    measured = [*(_measure(logits_of(stream), targets, top, buffer) for stream in streams[:-1]), last_measures]
    return targets, [torch.stack(measure) for measure in zip(*measured, strict=True)]


def _measure(logits: Tensor, targets: Tensor, top: int, buffer: Tensor) -> tuple[Tensor, ...]:
    """The measures of logits [position, vocab].

    buffer: [2, at least position, vocab], reused by every call: page faults on new memory cost more than the
    arithmetic.
    """
    logprobs, probabilities = buffer[:, : len(logits)]
    torch.log_softmax(logits, -1, out=logprobs)
    torch.exp(logprobs, out=probabilities)
    top_logits, top_ids = logits.topk(top)
    target_logits = logits.gather(-1, targets[:, None])
    return (
        top_logits,
        top_ids,
        probabilities.gather(-1, top_ids),
        -torch.linalg.vecdot(probabilities, logprobs),
        target_logits[:, 0],
        probabilities.gather(-1, targets[:, None])[:, 0],
        # A sum in int32 is several times faster than torch's default, int64.
        (logits > target_logits).sum(-1, dtype=torch.int32).long(),
    )
