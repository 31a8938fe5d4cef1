"""Contrastive search (Su et al., "A Contrastive Framework for Neural Text Generation", 2022) with the arithmetic of
Transformers 4.49: of the likeliest tokens, the one that is likely and unlike what the text has.

Each candidate is read before one is chosen, for its last hidden state h. Its score is
(1 - penalty_alpha) * probability - penalty_alpha * max_t cos(h_t, h), t over all tokens of prompt and continuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pellucid.decoding.choosing import Choice, UsableLogits
from pellucid.decoding.drafting import each_position
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.records.recording import ExpansionRecorder, RowRecorder
from pellucid.decoding.records.values import ContrastiveCandidate
from pellucid.decoding.sequence import ChosenToken, GeneratedSequence, Run, Step
from pellucid.decoding.stopping import FinishReason
from pellucid.decoding.task import DecodingTask
from pellucid.engine import Engine, FloatArray, Slot
from pellucid.errors import ContextLengthError, DecodingError, OptionError
from pellucid.logits import largest, softmax

# Tokens of a prompt per step: all hidden states are needed, and each comes with logits [vocab].
_PIECE = 128


class UnitVectors:
    """Vectors of length 1, row after row, in a buffer that doubles when it is full."""

    def __init__(self) -> None:
        self._buffer: FloatArray | None = None
        self._count = 0

    def append(self, vectors: FloatArray) -> None:
        """Add vectors [n, width] of length 1."""
        needed = self._count + len(vectors)
        if self._buffer is None or needed > len(self._buffer):
            grown = np.empty((max(needed, 2 * self._count, 64), vectors.shape[1]), dtype=np.float32)
            if self._buffer is not None:
                grown[: self._count] = self._buffer[: self._count]
            self._buffer = grown
        self._buffer[self._count : needed] = vectors
        self._count = needed

    def greatest_cosine(self, vectors: FloatArray) -> FloatArray:
        """For each of some vectors [n, width] of length 1, its cosine with the one here that is most like it, [n]."""
        assert self._buffer is not None
        cosines: FloatArray = (self._buffer[: self._count] @ vectors.T).max(axis=0)
        return cosines


@dataclass(frozen=True, eq=False)
class Shortlist:
    """What a row chooses from in one step.

    usable: the model's logits [vocab]. candidates: what the processors left. tokens, probabilities: the top_k
    likeliest, likeliest first.
    """

    usable: UsableLogits
    candidates: Candidates
    tokens: list[int]
    probabilities: FloatArray
    watched: ExpansionRecorder | None


@dataclass(eq=False)
class ContrastiveRow:
    """A running sequence. The engine has read all of its tokens; `logits` [vocab] are those of the next one.

    slots: one between steps; one per candidate while candidates are compared.
    """

    number: int
    slots: list[Slot]
    history: TokenHistory
    recorder: RowRecorder | None
    states: UnitVectors = field(default_factory=UnitVectors)
    logits: FloatArray | None = None
    logprob: float = 0.0
    finish_reason: FinishReason | None = None


def run(task: DecodingTask) -> Run:
    """Decode step by step. Closing the generator frees the engine's slots.

    Raises `OptionError` for more candidates than there are ids, `ContextLengthError` where the last token's
    candidates do not fit.
    """
    _check(task)
    return _steps(task)


def _steps(task: DecodingTask) -> Run:
    rows: list[ContrastiveRow] = []
    finished: list[ContrastiveRow] = []
    try:
        for prompt, ids in enumerate(task.prompts):
            recorder = None if task.recorder is None else task.recorder.row(prompt, None)
            # The hidden states of the prompt are needed, so it is read again where a held slot has it.
            rows.append(ContrastiveRow(prompt, [task.engine.open()], TokenHistory(ids, prompt), recorder))
        _read_prompts(task.engine, rows)
        while rows:
            shortlists = [_shortlist(task, row) for row in rows]
            yield _choose_all(task, rows, shortlists)
            finished += [row for row in rows if row.finish_reason is not None]
            for row in rows:
                if row.finish_reason is not None:
                    task.engine.drop(row.slots.pop())
            rows = [row for row in rows if row.finish_reason is None]
    finally:
        for slot in (slot for row in rows for slot in row.slots):
            task.engine.drop(slot)
    finished.sort(key=lambda row: row.number)
    return [
        GeneratedSequence(row.number, row.history.new_ids.tolist(), row.logprob, row.finish_reason or "length")
        for row in finished
    ]


def _check(task: DecodingTask) -> None:
    options, positions = task.options, task.engine.n_positions
    usable = task.engine.vocab_size if options.vocab_limit is None else options.vocab_limit
    if options.top_k is not None and options.top_k > usable:
        raise OptionError(f"top_k is {options.top_k}, but this model has only {usable} ids to compare")
    for ids in task.prompts:
        new_tokens = options.new_tokens_after(len(ids))
        if len(ids) + new_tokens > positions:
            raise ContextLengthError(
                f"a prompt of {len(ids)} tokens and {new_tokens} new ones need {len(ids) + new_tokens} positions with "
                f"penalty_alpha, which reads the last token's candidates too; the model has {positions}: ask for fewer"
            )


def _read_prompts(engine: Engine, rows: Sequence[ContrastiveRow]) -> None:
    read = 0
    while reading := [row for row in rows if len(row.history) > read]:
        pieces = [row.history.ids[read : read + _PIECE].tolist() for row in reading]
        output = engine.step([row.slots[0] for row in reading], pieces, all_positions=True, hidden=True)
        assert output.hidden is not None
        counts = [len(piece) for piece in pieces]
        of_rows = zip(reading, each_position(output.logits, counts), each_position(output.hidden, counts), strict=True)
        for row, logits, states in of_rows:
            row.states.append(_normalised(states))
            row.logits = logits[-1].copy()
        read += _PIECE


def _normalised(states: FloatArray) -> FloatArray:
    """Vectors [n, width] brought to length 1; a vector of zeros stays one."""
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    unit: FloatArray = states / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def _shortlist(task: DecodingTask, row: ContrastiveRow) -> Shortlist:
    """The likeliest tokens; what the options exclude is none of them, even where fewer than top_k are left."""
    assert row.logits is not None and task.options.top_k is not None
    usable = task.chooser.usable(row.logits)
    logits = usable.logits
    watched = None if row.recorder is None else row.recorder.watch(logits)
    candidates = task.chooser.pipeline(row.history, logits, None if watched is None else watched.observe)
    places = largest(candidates.logits, task.options.top_k)
    places = places[candidates.logits[places] > -np.inf]
    if not len(places):
        raise DecodingError("no token is left to choose: the options exclude every one")
    probabilities = softmax(candidates.logits)[places]
    return Shortlist(usable, candidates, [candidates.token(int(place)) for place in places], probabilities, watched)


def _choose_all(task: DecodingTask, rows: Sequence[ContrastiveRow], shortlists: Sequence[Shortlist]) -> Step:
    """Read every candidate of every row in one step of the engine, and let each row go on with its best."""
    engine = task.engine
    for row, shortlist in zip(rows, shortlists, strict=True):
        while len(row.slots) < len(shortlist.tokens):
            row.slots.append(engine.fork(row.slots[0]))
    slots = [slot for row in rows for slot in row.slots]
    output = engine.step(slots, [[token] for shortlist in shortlists for token in shortlist.tokens], hidden=True)
    assert output.hidden is not None
    counts = [len(shortlist.tokens) for shortlist in shortlists]
    states = each_position(_normalised(output.hidden), counts)
    logits = each_position(output.logits, counts)
    step = []
    for row, shortlist, row_states, row_logits in zip(rows, shortlists, states, logits, strict=True):
        likeness = row.states.greatest_cosine(row_states)
        best, chosen = _choose(task, row, shortlist, likeness)
        row.states.append(row_states[best : best + 1])
        row.logits = row_logits[best]
        row.slots[0], row.slots[best] = row.slots[best], row.slots[0]
        while len(row.slots) > 1:
            engine.drop(row.slots.pop())
        step.append(chosen)
    return tuple(step)


def _choose(
    task: DecodingTask, row: ContrastiveRow, shortlist: Shortlist, likeness: FloatArray
) -> tuple[int, ChosenToken]:
    """The index of the candidate with the best score, the likelier of equals, and its token."""
    alpha = task.options.penalty_alpha
    scores = (1 - alpha) * shortlist.probabilities - alpha * likeness
    best = int(scores.argmax())
    token = shortlist.tokens[best]
    logprob = shortlist.usable.logprob(token)
    row.history.append(token)
    row.logprob += logprob
    row.finish_reason = task.stopping.reason(row.history, shortlist.usable.logits)
    if row.recorder is not None and shortlist.watched is not None:
        compared = zip(shortlist.tokens, shortlist.probabilities, likeness, scores, strict=True)
        candidates = [
            ContrastiveCandidate(one, float(p), float(like), float(score)) for one, p, like, score in compared
        ]
        choice = Choice(token, logprob, None, shortlist.candidates)
        row.recorder.chose(shortlist.watched, choice, "contrastive", candidates=candidates)
    return best, ChosenToken(row.number, token, logprob, row.finish_reason)
