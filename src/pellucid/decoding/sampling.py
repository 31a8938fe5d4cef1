"""Greedy decoding and sampling: one token per sequence and step, or several where drafts are accepted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pellucid.decoding.choosing import Choice, select
from pellucid.decoding.drafting import (
    NO_DRAFT,
    Draft,
    accepts,
    build_drafter,
    candidate_probabilities,
    each_position,
    residual,
)
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.reading import SlottedSequence, read
from pellucid.decoding.sequence import ChosenToken, GeneratedSequence, Run
from pellucid.decoding.stopping import FinishReason
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray, Slot
from pellucid.logits import draw

if TYPE_CHECKING:
    from pellucid.decoding.records.recording import RowRecorder
    from pellucid.decoding.records.values import Source


@dataclass(eq=False)
class Row:
    """A running sequence. Its last token is chosen, and the engine has not read it yet."""

    number: int
    slot: Slot
    history: TokenHistory
    generator: np.random.Generator | None
    recorder: RowRecorder | None
    draft: Draft = NO_DRAFT
    logprob: float = 0.0
    finish_reason: FinishReason | None = None
    new_ids: list[int] = field(default_factory=list)


def run(task: DecodingTask) -> Run:
    """Decode step by step. Closing the generator drops its slots."""
    engine, count = task.engine, task.options.num_return_sequences
    drafter = build_drafter(task)
    finished: list[Row] = []
    rows: list[Row] = []
    try:
        opened = [task.open(prompt) for prompt in range(len(task.prompts))]
        rows = [_row(task, prompt * count, slot) for prompt, (slot, _) in enumerate(opened)]
        logits = _read(task, rows, [unread for _, unread in opened])  # [prompts, vocab]
        if count > 1:
            rows += [_row(task, row.number + i, engine.fork(row.slot)) for row in rows for i in range(1, count)]
            rows.sort(key=lambda row: row.number)
            logits = np.repeat(logits, count, axis=0)  # [rows, vocab]
        while True:
            step: list[ChosenToken] = []
            positions = each_position(logits, [1 + len(row.draft.tokens) for row in rows])
            for row, row_logits in zip(rows, positions, strict=True):
                step += _extend(task, row, row_logits)
            yield tuple(step)
            ended = [row for row in rows if row.finish_reason is not None]
            rows = [row for row in rows if row.finish_reason is None]
            for row in ended:
                engine.drop(row.slot)
                if drafter is not None:
                    drafter.drop(row.number)
            finished += ended
            if not rows:
                break
            if drafter is not None:
                for row in rows:
                    row.draft = drafter.propose(row.number, row.history, _room(task, row), row.generator)
            logits = _read(task, rows, [[row.new_ids[-1], *row.draft.tokens] for row in rows])
    finally:
        for row in rows:
            engine.drop(row.slot)
        if drafter is not None:
            drafter.close()
    finished.sort(key=lambda row: row.number)
    return [
        GeneratedSequence(row.number // count, row.new_ids, row.logprob, row.finish_reason or "length")
        for row in finished
    ]


def _row(task: DecodingTask, number: int, slot: Slot) -> Row:
    prompt = number // task.options.num_return_sequences
    history = TokenHistory(task.prompts[prompt], prompt)
    generator = task.generator(number)
    key = None if generator is None else task.draw_keys[number]
    recorder = None if task.recorder is None else task.recorder.row(number, key)
    return Row(number, slot, history, generator, recorder)


def _read(task: DecodingTask, rows: Sequence[Row], tokens: Sequence[Sequence[int]]) -> FloatArray:
    """Logits after each row's last token, and after each drafted token."""
    drafted = any(row.draft.tokens for row in rows)
    slide = task.options.context == "slide"
    return read(task.engine, rows, tokens, slide=slide, slid=_slid, all_positions=drafted).logits


def _slid(sequence: SlottedSequence, kept: int) -> None:
    if isinstance(sequence, Row) and sequence.recorder is not None:
        sequence.recorder.slid(kept)


def _room(task: DecodingTask, row: Row) -> int:
    """Draft budget: tokens left minus one, capped by free positions."""
    wanted = task.options.new_tokens_after(row.history.prompt_length) - row.history.new_length - 1
    return max(0, min(wanted, task.engine.n_positions - task.engine.length(row.slot) - 1))


def _extend(task: DecodingTask, row: Row, logits: FloatArray) -> Iterator[ChosenToken]:
    """Choose a token at each position [1 + drafted, vocab] until a draft is rejected or the sequence ends, then cut the
    slot to the accepted tokens."""
    draft, row.draft = row.draft, NO_DRAFT
    accepted = 0
    for position, position_logits in enumerate(logits):
        proposed = draft.tokens[position] if position < len(draft.tokens) else None
        token = _choose(task, row, position_logits, draft, position)
        accepted += proposed == token.token
        yield token
        if proposed != token.token or token.finish_reason is not None:
            break
    unread = len(draft.tokens) - accepted
    if unread and row.finish_reason is None:
        task.engine.truncate(row.slot, task.engine.length(row.slot) - unread)
    if row.recorder is not None:
        row.recorder.drafted += len(draft.tokens)
        row.recorder.accepted += accepted


def _choose(task: DecodingTask, row: Row, logits: FloatArray, draft: Draft, position: int) -> ChosenToken:
    """The next token, from the model's logits [vocab] and the token drafted for this position."""
    usable = task.chooser.usable(logits)
    logits = usable.logits
    watched = None if row.recorder is None else row.recorder.watch(logits)
    candidates = task.chooser.pipeline(row.history, logits, None if watched is None else watched.observe, usable.survey)
    proposed = draft.tokens[position] if position < len(draft.tokens) else None
    drawn_from = draft.probabilities[position] if position < len(draft.probabilities) else None
    uniform: float | None
    if proposed is not None and drawn_from is not None:
        token, uniform = _verify(row, candidates, proposed, drawn_from)
    else:
        token, uniform = select(candidates, row.generator)
    choice = Choice(token, usable.logprob(token), uniform, candidates)
    row.history.append(token)
    row.new_ids.append(token)
    row.logprob += choice.logprob
    row.finish_reason = task.stopping.reason(row.history, logits)
    if row.recorder is not None and watched is not None:
        rejected = None if proposed == token else proposed
        row.recorder.chose(watched, choice, _source(row, proposed, token, drawn_from), rejected=rejected)
    return ChosenToken(row.number, token, choice.logprob, row.finish_reason)


def _verify(row: Row, candidates: Candidates, proposed: int, drawn_from: FloatArray) -> tuple[int, float]:
    """The drafted token, or a replacement, such that the result follows the candidates' distribution."""
    assert row.generator is not None
    uniform = float(row.generator.random())
    target = candidate_probabilities(candidates, len(drawn_from))
    if accepts(drawn_from, target, proposed, uniform):
        return proposed, uniform
    rest = residual(drawn_from, target)
    uniform = float(row.generator.random())
    return rest.token(draw(rest.logits, uniform)), uniform


def _source(row: Row, proposed: int | None, token: int, drawn_from: FloatArray | None) -> Source:
    if proposed == token:
        return "drafted"
    if drawn_from is not None:
        return "corrected"
    return "greedy" if row.generator is None else "sampled"
