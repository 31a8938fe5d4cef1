"""Running a call of `generate`: from Transformers' arguments to a decode, and back to tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pellucid import decoding
from pellucid.compat.generation_arguments import GenerateCall, settle
from pellucid.config import GPT2Config
from pellucid.decoding.options import rules
from pellucid.engine import Engine, FloatArray
from pellucid.errors import OptionError
from pellucid.logits import IntArray

if TYPE_CHECKING:
    from pellucid.tokenizer import GPT2Tokenizer

# Arguments that are functions of tensors in Transformers, and of one row's arrays in the decoder.
_TENSOR_FUNCTIONS = ("logits_processor", "stopping_criteria")


class Streamer(Protocol):
    """Receives the prompt [batch, seq], then one token per row [batch] at each step."""

    def put(self, value: Tensor) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True, eq=False)
class GenerateOutput:
    """The result of `generate` with return_dict_in_generate=True.

    sequences: int64 [batch * num_return_sequences, longest]. sequences_scores: float32 [batch *
    num_return_sequences], the scores that beams were ranked by, with output_scores=True.
    """

    sequences: Tensor
    sequences_scores: Tensor | None = None


def generate(
    engine: Engine,
    config: GPT2Config,
    generation_config: Mapping[str, Any],
    ids: Tensor,
    attention_mask: Tensor | Sequence[Sequence[int]] | None,
    arguments: Mapping[str, Any],
    *,
    tokenizer: GPT2Tokenizer | None = None,
    assistant: Engine | None = None,
    streamer: Streamer | None = None,
) -> Tensor | GenerateOutput:
    """Continue each row of `ids` [batch, seq], on the CPU; see `GPT2LMHeadModel.generate`."""
    call = settle(_with_arrays(arguments), generation_config, config, ids.size(1))
    options = call.options
    if call.output_scores and options.num_beams == 1:
        raise OptionError("output_scores=True returns the scores of beams; use a record for the scores of each step")
    if options.do_sample and options.seed is None:
        options = options.replace(seed=int(torch.randint(2**62, (1,)).item()))
    if streamer is not None and options.num_beams > 1:
        raise OptionError("a streamer needs tokens as they are chosen; beam search chooses only at its end")
    prompts = _prompts(ids, attention_mask, arguments.get("pad_token_id"), options.eos_token_id)
    token_bytes = None if tokenizer is None else _token_bytes(tokenizer)
    task = decoding.prepare(engine, prompts, options, token_bytes=token_bytes, assistant=assistant)
    if streamer is None:
        results = decoding.finish(decoding.start(task))
    else:
        results = _streamed(task, ids, streamer, call.pad_token_id)
    return _output(ids, results, call)


def _output(ids: Tensor, results: Sequence[decoding.GeneratedSequence], call: GenerateCall) -> Tensor | GenerateOutput:
    """The sequences as rows, padded on the right. If a search found too few, the missing rows are all padding."""
    count = call.options.num_return_sequences
    by_prompt: list[list[decoding.GeneratedSequence]] = [[] for _ in range(ids.size(0))]
    for result in results:
        by_prompt[result.prompt].append(result)
    longest = max(len(result.new_ids) for result in results)
    rows, scores = [], []
    for found in by_prompt:
        new_ids = [result.new_ids for result in found] + [[]] * (count - len(found))
        rows += [[*row, *[call.pad_token_id] * (longest - len(row))] for row in new_ids]
        scores += [result.score or 0.0 for result in found] + [-np.inf] * (count - len(found))
    repeated = ids.repeat_interleave(count, dim=0)
    sequences = torch.cat((repeated.long(), torch.tensor(rows, dtype=torch.int64)), dim=1)
    if not call.return_dict:
        return sequences
    return GenerateOutput(sequences, torch.tensor(scores) if call.output_scores else None)


def _streamed(
    task: decoding.DecodingTask, ids: Tensor, streamer: Streamer, pad_token_id: int
) -> list[decoding.GeneratedSequence]:
    """Decode, giving a streamer one token per row, [batch], at each step; finished rows get padding."""
    streamer.put(ids)
    run = decoding.start(task)
    rows = len(task.prompts) * task.options.num_return_sequences
    try:
        while True:
            try:
                step = next(run)
            except StopIteration as end:
                results: list[decoding.GeneratedSequence] = end.value
                return results
            chosen = [[token.token for token in step if token.row == row] for row in range(rows)]
            for column in zip_longest(*chosen, fillvalue=pad_token_id):
                streamer.put(torch.tensor(column))
    finally:
        streamer.end()  # after an error too, so that a thread that waits for the next piece goes on


def _with_arrays(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with functions of tensors wrapped as functions of one row's arrays."""
    given = dict(arguments)
    wrappers: dict[str, Callable[[Any], Any]] = {"logits_processor": _processor, "stopping_criteria": _criterion}
    for name in _TENSOR_FUNCTIONS:
        if given.get(name) is not None:
            functions = list(given[name]) if isinstance(given[name], Iterable) else [given[name]]
            given[name] = [wrappers[name](function) for function in rules.functions(name, functions)]
    if (allowed := given.get("prefix_allowed_tokens_fn")) is not None:
        rules.function("prefix_allowed_tokens_fn", allowed)
        given["prefix_allowed_tokens_fn"] = lambda prompt, ids: list(allowed(prompt, torch.from_numpy(ids)))
    return given


def _processor(function: Any) -> Callable[[IntArray, FloatArray], FloatArray]:
    def process(ids: IntArray, logits: FloatArray) -> FloatArray:
        returned = function(torch.from_numpy(ids)[None], torch.from_numpy(logits)[None])
        return returned[0].numpy()  # type: ignore[no-any-return]

    process.__name__ = type(function).__name__ if not hasattr(function, "__name__") else function.__name__
    return process


def _criterion(function: Any) -> Callable[[IntArray, FloatArray], bool]:
    def says_stop(ids: IntArray, logits: FloatArray) -> bool:
        answer = function(torch.from_numpy(ids)[None], torch.from_numpy(logits)[None])
        return bool(torch.as_tensor(answer).all())

    return says_stop


def _token_bytes(tokenizer: Any) -> Callable[[int], bytes]:
    """The bytes of each id."""
    if hasattr(tokenizer, "token_bytes"):
        token_bytes: Callable[[int], bytes] = tokenizer.token_bytes
        return token_bytes
    raise OptionError(f"stop_strings needs Pellucid's own tokenizer; this one is a {type(tokenizer).__name__}")


def _prompts(
    ids: Tensor,
    attention_mask: Tensor | Sequence[Sequence[int]] | None,
    pad_token_id: int | None,
    eos_token_ids: Sequence[int],
) -> list[list[int]]:
    """Each row without its padding."""
    if attention_mask is not None:
        mask = torch.as_tensor(attention_mask).cpu().bool()
        if mask.shape != ids.shape:
            raise OptionError(f"attention_mask is {list(mask.shape)}, input_ids are {list(ids.shape)}")
    elif pad_token_id is not None and pad_token_id not in eos_token_ids:
        mask = ids != pad_token_id
    else:
        mask = torch.ones_like(ids, dtype=torch.bool)
    for number, row in enumerate(mask):
        # The next token follows the last column, so padding can only be on the left.
        if bool(row.any()) and not bool(row[int(row.int().argmax()) :].all()):
            raise OptionError(
                f"row {number} is padded on the right or inside: generate needs padding on the left "
                '(tokenizer.padding_side = "left")'
            )
    return [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
