"""From a strategy's results in ids to generations with texts and records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.sequence import GeneratedSequence
from pellucid.decoding.stopping import FinishReason
from pellucid.decoding.strategies import start, strategy_of
from pellucid.decoding.task import DecodingTask

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record
    from pellucid.decoding.results import Generation
    from pellucid.tokenizer import GPT2Tokenizer

TextOf = Callable[[int], str]


def generations(
    task: DecodingTask, results: Sequence[GeneratedSequence], tokenizer: GPT2Tokenizer | None, model: str | None
) -> list[Generation]:
    """Results with their texts, and their records where the task has a recorder; model: its name, for those."""
    from pellucid.decoding.results import Generation

    records: list[Record | None] = [None] * len(results)
    if task.recorder is not None:
        records = list(_records(task, results, _text_of(tokenizer), model))
    texts = [(None, None) if tokenizer is None else _texts(task, result, tokenizer) for result in results]
    return [
        Generation(
            text=text,
            new_text=new,
            ids=[*task.prompts[result.prompt], *result.new_ids],
            new_ids=result.new_ids,
            logprob=result.logprob,
            finish_reason=result.finish_reason,
            record=record,
        )
        for result, (text, new), record in zip(results, texts, records, strict=True)
    ]


def new_text(task: DecodingTask, result: GeneratedSequence, tokenizer: GPT2Tokenizer) -> str:
    """The continuation's text, which ends before a stop string unless that is to be kept."""
    return _texts(task, result, tokenizer)[1]


def text_ids(
    prompt: Sequence[int], new_ids: Sequence[int], tokenizer: GPT2Tokenizer
) -> tuple[Sequence[int], Sequence[int]]:
    """The ids of prompt and continuation that have a text.

    The bos that stands in for an empty prompt, and a special token that ends the continuation, are not text.
    """
    special = tokenizer.skipped_ids
    if len(prompt) == 1 and prompt[0] in special:
        prompt = ()
    if new_ids and new_ids[-1] in special:
        new_ids = new_ids[:-1]
    return prompt, new_ids


def _texts(task: DecodingTask, result: GeneratedSequence, tokenizer: GPT2Tokenizer) -> tuple[str, str]:
    """The text of prompt and continuation, and of the continuation alone."""
    prompt, new_ids = text_ids(task.prompts[result.prompt], result.new_ids, tokenizer)
    kept = _kept_bytes(task, result, tokenizer)
    if kept is None:
        return tokenizer.decode([*prompt, *new_ids]), tokenizer.decode(new_ids)
    before = b"".join(map(tokenizer.token_bytes, prompt))
    return (before + kept).decode("utf-8", errors="replace"), kept.decode("utf-8", errors="replace")


def _kept_bytes(task: DecodingTask, result: GeneratedSequence, tokenizer: GPT2Tokenizer) -> bytes | None:
    """The bytes of the continuation before the stop string that ended it; None where none is cut off."""
    if task.stopping.stop_strings is None or task.options.include_stop_string or result.finish_reason != "stop":
        return None
    history = TokenHistory(task.prompts[result.prompt])
    for token in result.new_ids:
        history.append(token)
    length = task.stopping.stop_strings.cut(history)
    return None if length is None else b"".join(map(tokenizer.token_bytes, result.new_ids))[: max(0, length)]


def stream_record(task: DecodingTask, tokenizer: GPT2Tokenizer | None, model: str | None) -> Iterator[Record]:
    """The record of a task of one prompt after every step, and once more when it has ended."""
    if task.recorder is None:
        raise ValueError("the task has no recorder")
    text_of = _text_of(tokenizer)
    logprob, reason = 0.0, None
    with closing(start(task)) as run:
        while True:
            try:
                step = next(run)
            except StopIteration as end:
                yield next(_records(task, end.value, text_of, model))
                return
            for chosen in step:
                logprob, reason = logprob + chosen.logprob, chosen.finish_reason
            row = task.recorder.rows.get(0)
            new_ids = [] if row is None else [recorded.token for recorded in row.steps]
            yield _record(task, 0, 0, new_ids, logprob, reason, text_of, model)


def _text_of(tokenizer: GPT2Tokenizer | None) -> TextOf | None:
    """What ids are in words; the records of a call name the same ones many times."""
    return None if tokenizer is None else cache(tokenizer.display_token)


def _records(
    task: DecodingTask, results: Sequence[GeneratedSequence], text_of: TextOf | None, model: str | None
) -> Iterator[Record]:
    ranks: dict[int, int] = {}
    for result in results:
        rank = ranks.get(result.prompt, 0)
        ranks[result.prompt] = rank + 1
        yield _record(task, result.prompt, rank, result.new_ids, result.logprob, result.finish_reason, text_of, model)


def _record(
    task: DecodingTask,
    prompt: int,
    rank: int,
    new_ids: Sequence[int],
    logprob: float,
    finish_reason: FinishReason | None,
    text_of: TextOf | None,
    model: str | None,
) -> Record:
    from pellucid.decoding.records.option_json import plain_options
    from pellucid.decoding.records.record import Record

    assert task.recorder is not None
    number = prompt * task.options.num_return_sequences + rank
    row, tree = task.recorder.rows.get(number), task.recorder.trees.get(prompt)
    returned = task.recorder.returned.get(prompt, [])
    first = prompt * task.options.num_return_sequences
    record = Record(
        strategy=strategy_of(task.options),
        model=model,
        options=plain_options(task.options),
        draw_key=task.draw_keys[number if tree is None else first] if task.options.do_sample else None,
        prompt_ids=tuple(task.prompts[prompt]),
        new_ids=tuple(new_ids),
        logprob=logprob,
        finish_reason=finish_reason,
        steps=() if row is None else tuple(row.steps),
        tree=() if tree is None else tuple(tree.nodes),
        returned=returned[rank] if rank < len(returned) else None,
        drafted=0 if row is None else row.drafted,
        accepted=0 if row is None else row.accepted,
    )
    return record if text_of is None else record.with_texts(text_of)
