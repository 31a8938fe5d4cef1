"""One text seen whole: every instrument read once, in one value for reports and for the walk through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pellucid.config import GPT2Config
from pellucid.decoding.distribution import entropy, log_softmax
from pellucid.decoding.results import Prediction, Score, ScoredToken, likeliest, likely_tokens
from pellucid.engine import FloatArray
from pellucid.errors import OptionError
from pellucid.lens.choices import check_top
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

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace

# How many numbers of an activation are kept as a sample.
SAMPLED = 8
# So many of the likeliest next tokens have their text in `pieces`, however few are shown.
NAMED = 100
# Large, and shown by nothing: the scores are in the patterns, the results in the heads' norms.
_LEFT_OUT = ("attn.scores", "attn.result")

# Is told how many of how many parts of the work are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Sample:
    """An activation in short. shape: of all of it, [batch, ...]. values: its first numbers at the last position (of a
    pattern, the last position's row in head 0). norm: the length of the whole row that they begin."""

    name: str
    shape: tuple[int, ...]
    values: FloatArray
    norm: float


@dataclass(frozen=True, eq=False, repr=False)
class Overview(Measured):
    """What all instruments say of one text.

    model: its name. precision: how its weights are stored. config: its configuration.
    text, ids, tokens: what it read; text is None where it was given as ids.
    samples: every activation in short, in the order in which a pass computes them; attention scores and the heads'
    single results are left out.
    score: how likely each token was. prediction: the likeliest next tokens. logits: the last position's, [vocab].
    lens, attention, residual, heads: at every position. induction, previous_token: a score for each head; None where
    no token repeats, or there is one token only.
    attributions: the predicted token's logit taken apart, at the last positions, in their order.
    pieces: the text of every id that is in any of these.
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
        """The activation of a name, in short."""
        return next(sample for sample in self.samples if sample.name == name)


def overview_names(config: GPT2Config) -> tuple[str, ...]:
    """The activations that an overview is read from."""
    return tuple(name for name in activation_names(config.n_layer) if not name.endswith(_LEFT_OUT))


def overview(
    trace: Trace,
    text: str | None = None,
    *,
    top: int = 5,
    attributed: int | None = 1,
    progress: Progress = lambda done, total: None,
) -> Overview:
    """Read every instrument on a trace of `overview_names`.

    text: what was traced, as it was written. top: how many of the likeliest tokens are kept, of the prediction and of
    each place of the lens. attributed: at how many positions, counted from the end, the predicted token's logit is
    taken apart; None for all.

    Raises `OptionError` for a number that is too small, `ActivationNameError` where the trace lacks an activation.
    """
    from pellucid.lens.instruments.attention import attention, head_norms, residual_norms
    from pellucid.lens.instruments.head_scores import induction_scores, previous_token_scores
    from pellucid.lens.instruments.logit_attribution import predicted_logit_attributions
    from pellucid.lens.instruments.logit_lens import logit_lens

    check_top(top, trace.config.vocab_size)
    if attributed is not None and attributed < 1:
        raise OptionError(f"attributed is {attributed}; it must be at least 1")
    length = len(trace.ids)
    logits = trace["logits"][0]  # [position, vocab]
    score = _score(trace, logits)
    lens = logit_lens(trace, top=top, progress=lambda done, parts: progress(done, parts + 2))
    places = range(0 if attributed is None else max(0, length - attributed), length)
    attributions = predicted_logit_attributions(trace, lens, places)
    last = logits[-1].copy()
    pieces = {id: trace.piece(id) for id in {*trace.ids, *likeliest(last, max(top, NAMED))}}
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
        logits=last,
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
    """Each token given those before it; a row of [vocab] numbers at a time."""
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
    except OptionError:  # a text without the pairs of positions that the score is about
        return None


def _sample(trace: Trace, name: str) -> Sample:
    activation = trace[name]
    last = activation[0, 0, -1] if name.endswith("attn.pattern") else activation[0, -1]
    row = last.reshape(-1)
    return Sample(name, activation.shape, row[:SAMPLED].copy(), float(np.linalg.norm(row)))


def in_block(samples: Sequence[Sample], layer: int) -> Iterator[tuple[str, Sample]]:
    """One block's samples under their names within it, in the order in which it computes them."""
    by_name = {sample.name: sample for sample in samples}
    for tail in IN_BLOCK:
        sample = by_name.get(f"blocks.{layer}.{tail}")
        if sample is not None:
            yield tail, sample
