"""Decoding a record again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pellucid.decoding.records.option_json import options_from_plain
from pellucid.decoding.records.record import Record
from pellucid.decoding.strategies import strategy_of
from pellucid.decoding.task import DecodingTask, prepare
from pellucid.engine import Engine
from pellucid.errors import RecordError
from pellucid.quoting import quoted


def replay_task(
    engine: Engine,
    record: Record,
    *,
    functions: Mapping[str, Any],
    token_bytes: Callable[[int], bytes] | None = None,
    assistant: Engine | None = None,
) -> tuple[DecodingTask, int]:
    """The task that decodes a record's tokens again, and which of its results is the record's.

    functions, assistant: what a record cannot hold, given again. A time limit is replaced by the length it led to.

    Raises `RecordError` where the record lacks something that this needs.
    """
    if not isinstance(record, Record):
        raise RecordError(f"replay takes the record of a generation, not {quoted(record)}")
    if record.strategy == "session":
        raise RecordError("a session's tokens were chosen by hand: there is nothing to replay")
    options = options_from_plain(record.options, functions)
    if strategy_of(options) != record.strategy:
        raise RecordError(f"the record's strategy is {record.strategy}, and its options ask for {strategy_of(options)}")
    if options.do_sample and record.draw_key is None:
        raise RecordError("the record was drawn, and lacks the draw_key to draw it again")
    if options.max_time is not None:
        options = options.replace(max_time=None, max_new_tokens=len(record.new_ids))
    drawn_drafts = any(step.source == "corrected" for step in record.steps) or (
        options.do_sample and record.drafted and options.prompt_lookup_num_tokens is None
    )
    if drawn_drafts and assistant is None:
        raise RecordError("the record was drawn with an assistant_model, which is needed to replay it: give it again")
    rank = record.tree[record.returned].rank or 0 if record.returned is not None else 0
    if not record.tree:
        options = options.replace(num_return_sequences=1)
    if rank >= options.num_return_sequences:
        raise RecordError(f"the record is result {rank} of {options.num_return_sequences}, counted from 0")
    keys = None if record.draw_key is None else [record.draw_key] * options.num_return_sequences
    task = prepare(engine, [record.prompt_ids], options, token_bytes=token_bytes, assistant=assistant, draw_keys=keys)
    return task, rank
