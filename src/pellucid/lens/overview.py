"""The overview of a text: the results of all instruments in one value, for the report and the command `walk`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pellucid.config import GPT2Config
from pellucid.decoding.results import Prediction, Score, ScoredToken, likeliest, likely_tokens
from pellucid.engine import FloatArray
from pellucid.errors import OptionError
from pellucid.lens.arguments import check_top
from pellucid.lens.names import IN_BLOCK, activation_names
from pellucid.lens.results import (
    AttentionPatterns,
    HeadNorms,
    HeadScores,
    LogitAttribution,
    LogitLens,
    Measured,
    ResidualNorms,
    Tokens,
)
from pellucid.logits import entropy, log_softmax

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace

# Elements of an activation that a sample has at each position.
SAMPLED = 8
# The likeliest next tokens at each position whose text is in `pieces`.
NAMED = 20
# These activations are large, and no view shows them.
_LEFT_OUT = ("attn.scores", "attn.result")

# A callback with the number of parts that are done, and of all parts.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Sample:
    """A summary of an activation.

    shape: of the whole activation, [batch, ...]. rows: the first elements at each position, [position, up to SAMPLED];
    for attention patterns, the first keys of head 0. norms: the L2 norm of each complete row, [position].
    """

    name: str
    shape: tuple[int, ...]
    rows: FloatArray
    norms: FloatArray

    @property
    def row_length(self) -> int:
        """The number of elements in a complete row."""
        return self.shape[-1] if self.name.endswith("pattern") else math.prod(self.shape[2:])

    @property
    def values(self) -> FloatArray:
        """The first elements at the last position."""
        last: FloatArray = self.rows[-1]
        return last

    @property
    def norm(self) -> float:
        """The L2 norm at the last position."""
        return float(self.norms[-1])


@dataclass(frozen=True, eq=False, repr=False)
class Overview(Measured):
    """The results of all instruments on one text.

    model: its name. precision: the number type of its weights. config: its configuration.
    text, ids, tokens: the text; `text` is None if the text was given as ids.
    samples: a summary of every activation except `attn.scores` and `attn.result`, in the order of computation.
    score: each token's probability. prediction: the likeliest next tokens. logits: [position, vocab].
    lens, attention, residual, heads: at every position. induction, previous_token: a score for each head; None if no
    token repeats, or if the text has one token.
    attributions: the direct attribution of the predicted token's logit at each position.
    pieces: the text of every id in these results, and of the `NAMED` likeliest next tokens at each position.
    """

    model: str
    precision: str
    config: GPT2Config
    text: str | None
    ids: tuple[int, ...]
    tokens: Tokens
    samples: tuple[Sample, ...]
    score: Score
    prediction: Prediction
    logits: FloatArray = field(repr=False)
    lens: LogitLens
    attention: AttentionPatterns
    residual: ResidualNorms
    heads: HeadNorms
    induction: HeadScores | None
    previous_token: HeadScores | None
    attributions: tuple[LogitAttribution, ...]
    pieces: dict[int, str | None] = field(repr=False)

    def sample(self, name: str) -> Sample:
        """The sample of the activation with this name."""
        return next(sample for sample in self.samples if sample.name == name)


def overview_names(config: GPT2Config) -> tuple[str, ...]:
    """The activations that `overview` needs."""
    return tuple(name for name in activation_names(config.n_layer) if not name.endswith(_LEFT_OUT))


def overview(
    trace: Trace,
    text: str | None = None,
    *,
    top: int = 5,
    progress: Progress = lambda done, total: None,
) -> Overview:
    """Run every instrument on a trace of the activations in `overview_names`.

    text: the traced text. top: how many of the likeliest tokens the prediction and each cell of the lens keep.

    Raises `OptionError` if `top` is out of range, `ActivationNameError` if the trace lacks an activation.
    """
    from pellucid.lens.instruments.attention import attention, head_norms, residual_norms
    from pellucid.lens.instruments.head_scores import induction_scores, previous_token_scores
    from pellucid.lens.instruments.logit_attribution import predicted_logit_attributions
    from pellucid.lens.instruments.logit_lens import logit_lens

    check_top(top, trace.config.vocab_size)
    logits = trace["logits"][0]  # [position, vocab]
    score = _score(trace, logits)
    lens = logit_lens(trace, top=top, progress=lambda done, parts: progress(done, parts + 2))
    attributions = predicted_logit_attributions(trace, lens, range(len(trace.ids)))
    last = logits[-1]
    named = {id for row in logits for id in likeliest(row, max(top, NAMED))}
    pieces = {id: trace.piece(id) for id in named.union(trace.ids)}
    pieces |= {one.target_id: one.target for one in attributions}
    found = Overview(
        model=trace.model_name or "a model",
        precision=trace.precision,
        config=trace.config,
        text=text,
        ids=tuple(trace.ids),
        tokens=tuple(trace.tokens),
        samples=tuple(_sample(trace, name) for name in overview_names(trace.config)),
        score=score,
        prediction=Prediction(text, list(trace.ids), likely_tokens(last, top, trace.piece), entropy(last)),
        logits=logits,
        lens=lens,
        attention=attention(trace),
        residual=residual_norms(trace),
        heads=head_norms(trace),
        induction=_scores_where_defined(induction_scores, trace),
        previous_token=_scores_where_defined(previous_token_scores, trace),
        attributions=attributions,
        pieces={**lens.pieces, **pieces},
    )
    progress(1, 1)
    return found


def _score(trace: Trace, logits: FloatArray) -> Score:
    """Each token's log-probability given the tokens before it. One row [vocab] at a time, to save memory."""
    rows = [ScoredToken(trace.tokens[0], trace.ids[0], None, None, None)]
    for position, token in enumerate(trace.ids[1:], start=1):
        before = logits[position - 1]
        logprob = float(log_softmax(before)[token])
        rows.append(
            ScoredToken(trace.tokens[position], token, logprob, int((before > before[token]).sum()), entropy(before))
        )
    return Score(tuple(rows))


def _scores_where_defined(scores: Callable[[Trace], HeadScores], trace: Trace) -> HeadScores | None:
    try:
        return scores(trace)
    except OptionError:  # the score is undefined: no token repeats, or there is only one token
        return None


def _sample(trace: Trace, name: str) -> Sample:
    activation = trace[name]
    by_position = activation[0, 0] if name.endswith("attn.pattern") else activation[0]
    rows = by_position.reshape(len(by_position), -1)
    return Sample(name, activation.shape, rows[:, :SAMPLED].copy(), np.linalg.norm(rows, axis=-1))


def in_block(samples: Sequence[Sample], layer: int) -> Iterator[tuple[str, Sample]]:
    """The samples of one block with their names within the block, in the order of computation."""
    by_name = {sample.name: sample for sample in samples}
    for tail in IN_BLOCK:
        sample = by_name.get(f"blocks.{layer}.{tail}")
        if sample is not None:
            yield tail, sample
