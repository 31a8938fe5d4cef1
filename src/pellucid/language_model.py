"""The facade: `load` a model, then generate, stream, predict and score with it. Here an engine is chosen."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import pellucid.views  # noqa: F401  (fills the table by which results print themselves)
from pellucid import decoding
from pellucid.checkpoint import Checkpoint, open_checkpoint
from pellucid.config import GPT2Config, as_token_ids
from pellucid.decoding.distribution import log_softmax, softmax
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.results import (
    Generation,
    PredictedToken,
    Prediction,
    Score,
    ScoredToken,
    entropy,
    likeliest,
)
from pellucid.decoding.sampling import choose
from pellucid.decoding.sequence import check_prompts
from pellucid.engine import Engine
from pellucid.errors import ContextLengthError, OptionError
from pellucid.extras import require
from pellucid.tokenizer import GPT2Tokenizer, StreamDecoder

if TYPE_CHECKING:
    from pellucid.reference.model import GPT2LMHeadModel

Prompt = str | Sequence[int]
Precision = Literal["float32", "bfloat16", "float16"]

_PRECISIONS = ("float32", "bfloat16", "float16")
_ENGINES = ("auto", "torch")


def load(
    name_or_path: str | Path = "demo",
    *,
    precision: Precision = "float32",
    engine: Literal["auto", "torch"] = "auto",
    device: str = "cpu",
    threads: int | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load a model to work with.

    name_or_path: "demo" (bundled), "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", any Hub id, a
        folder, or a single weights file.
    precision: how weights are stored and multiplied.
    engine: "torch" is the reference model; "auto" chooses the best engine there is.
    device: where the torch engine runs, "cpu" or "cuda".
    threads: how many threads torch uses, for the whole process; its own choice unless given.

    Raises `ModelNotFoundError`, `CheckpointError`, `ConfigError`, `OptionError`, or `MissingExtraError`.
    """
    if precision not in _PRECISIONS:
        raise OptionError(f"precision is {precision!r}; it must be one of {', '.join(_PRECISIONS)}")
    if engine not in _ENGINES:
        raise OptionError(f"engine is {engine!r}; it must be one of {', '.join(_ENGINES)}")
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; it must be at least 1")
    require("torch", "the reference engine")
    checkpoint = open_checkpoint(name_or_path, revision=revision)
    model = _load_reference_model(checkpoint, precision, device, threads)
    from pellucid.reference.engine import ReferenceEngine

    return LanguageModel(checkpoint, ReferenceEngine(model), model)


def _load_reference_model(
    checkpoint: Checkpoint, precision: Precision, device: str, threads: int | None
) -> GPT2LMHeadModel:
    import torch

    from pellucid.reference.load import load_model
    from pellucid.reference.model import GPT2LMHeadModel

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch names its reasons at length; the first line says which
        raise OptionError(f"device is {device!r}, which torch cannot use here: {str(error).splitlines()[0]}") from error
    if threads is not None:
        torch.set_num_threads(threads)
    return load_model(checkpoint, GPT2LMHeadModel, dtype=getattr(torch, precision), device=device)


class LanguageModel:
    """A loaded GPT-2: what `load` returns.

    name: what was loaded. config: its configuration. engine: what runs it.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine, model: GPT2LMHeadModel) -> None:
        self.name = checkpoint.name
        self.config: GPT2Config = checkpoint.config
        self.engine = engine
        self.model = model
        self._checkpoint = checkpoint
        self._tokenizer: GPT2Tokenizer | None = None

    def __repr__(self) -> str:
        millions = self.config.parameter_count / 1e6
        return f"LanguageModel({self.name!r}, {millions:.1f}M parameters, {type(self.engine).__name__})"

    @property
    def tokenizer(self) -> GPT2Tokenizer:
        """The checkpoint's tokenizer. Raises `TokenizerError` where it has none."""
        if self._tokenizer is None:
            self._tokenizer = self._checkpoint.tokenizer()
        return self._tokenizer

    def generate(self, prompt: Prompt | Sequence[Prompt], **options: Any) -> Generation | list[Generation]:
        """Continue a prompt, or several.

        prompt: a string or a list of ids; or a list of those.
        options: the fields of `GenerationOptions`. Greedy unless a sampling option or do_sample=True is given;
            40 new tokens unless max_new_tokens says otherwise.

        One prompt and one sequence give a `Generation`; anything else a flat list, prompt by prompt. Raises
        `OptionError`, `ContextLengthError` or `TokenizerError` before any work.
        """
        prompts, single = self._prompts(prompt)
        settled = self._options(options, prompts)
        results = decoding.decode(self.engine, prompts, settled)
        generations = [
            Generation(
                text=self._text(prompts[result.prompt] + result.new_ids),
                new_text=self._text(result.new_ids),
                ids=prompts[result.prompt] + result.new_ids,
                new_ids=result.new_ids,
                logprob=result.logprob,
                finish_reason=result.finish_reason,
            )
            for result in results
        ]
        return generations[0] if single and len(generations) == 1 else generations

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[str]:
        """The continuation of one prompt, piece by piece as it is decoded: whole characters only, which together
        are `generate`'s `new_text`. Options as for `generate`, without beams; closing the iterator stops the work."""
        prompts, single = self._prompts(prompt)
        settled = self._options(options, prompts)
        if not single or settled.num_beams > 1 or settled.num_return_sequences > 1:
            raise OptionError("streaming gives one sequence of one prompt: no list, num_beams or num_return_sequences")
        check_prompts(self.engine, prompts, settled.max_new_tokens)
        return self._pieces(prompts[0], settled, StreamDecoder(self.tokenizer))

    def _pieces(self, prompt: list[int], options: GenerationOptions, decoder: StreamDecoder) -> Iterator[str]:
        for step in choose(self.engine, [prompt], options):
            if piece := decoder.push(step[0].token):
                yield piece
        if rest := decoder.flush():
            yield rest

    def predict(self, prompt: Prompt, top: int = 10) -> Prediction:
        """The `top` likeliest next tokens, with probabilities under the softmax over the whole vocabulary."""
        if top < 1:
            raise OptionError(f"top is {top}; it must be at least 1")
        prompts, single = self._prompts(prompt)
        if not single:
            raise OptionError("predict takes one prompt")
        check_prompts(self.engine, prompts, max_new_tokens=1)
        logits = self._logits(prompts[0], all_positions=False)[0]
        probabilities = softmax(logits)
        rows = tuple(
            PredictedToken(self._piece(token), token, float(probabilities[token]), float(logits[token]), rank)
            for rank, token in enumerate(likeliest(logits, top))
        )
        return Prediction(self._text(prompts[0]), prompts[0], rows, entropy(logits))

    def score(self, text: Prompt | Sequence[Prompt], given: Prompt | None = None) -> Score | list[Score]:
        """How likely the model finds a text, token by token; several texts give a list.

        given: what stands before the text and is not scored itself; an empty one is the model's bos. Without
            it the first token has nothing before it and gets no probability.
        """
        texts, single = self._prompts(text)
        context = [] if given is None else self._prompts(given)[0][0]
        scores = [self._score(ids, context) for ids in texts]
        return scores[0] if single else scores

    def _score(self, ids: list[int], context: list[int]) -> Score:
        whole = context + ids
        if len(whole) > self.engine.n_positions:
            raise ContextLengthError(
                f"{len(whole)} tokens do not fit in the model's {self.engine.n_positions} positions: score it in parts"
            )
        check_prompts(self.engine, [whole], max_new_tokens=1)
        log_probabilities = log_softmax(self._logits(whole, all_positions=True))  # [tokens, vocab]
        rows = []
        for position, token in enumerate(whole[len(context) :], start=len(context)):
            if position == 0:
                rows.append(ScoredToken(self._piece(token), token, None, None, None))
                continue
            before = log_probabilities[position - 1]
            rank = int((before > before[token]).sum())
            rows.append(ScoredToken(self._piece(token), token, float(before[token]), rank, entropy(before)))
        return Score(tuple(rows))

    def _logits(self, ids: list[int], *, all_positions: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
        slot = self.engine.prefill(())
        try:
            return self.engine.step([slot], [ids], all_positions=all_positions).logits
        finally:
            self.engine.drop(slot)

    def _prompts(self, prompt: Prompt | Sequence[Prompt]) -> tuple[list[list[int]], bool]:
        """Ids of one prompt or several, and whether it was one."""
        if isinstance(prompt, str):
            return [self._ids(prompt)], True
        parts = list(prompt)
        if parts and all(isinstance(part, (str, list, tuple)) for part in parts):
            return [self._ids(part) for part in parts], False  # type: ignore[arg-type]
        return [self._ids(parts)], True  # type: ignore[arg-type]

    def _ids(self, prompt: Prompt) -> list[int]:
        try:
            ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else [operator.index(i) for i in prompt]
        except TypeError as error:
            raise OptionError("a prompt is a string or a list of token ids (whole numbers)") from error
        if not ids and self.config.bos_token_id is not None:
            return [self.config.bos_token_id]
        if not ids:
            raise OptionError("the prompt is empty and this model has no bos token to start from")
        return ids

    def _text(self, ids: Sequence[int]) -> str | None:
        return self.tokenizer.decode(ids) if self._checkpoint.has_tokenizer else None

    def _piece(self, token: int) -> str | None:
        """One token's text; bytes that are only part of a character are written out."""
        return self.tokenizer.display_token(token) if self._checkpoint.has_tokenizer else None

    def _options(self, options: Mapping[str, Any], prompts: Sequence[Sequence[int]]) -> GenerationOptions:
        eos = self._checkpoint.generation_config.get("eos_token_id", self.config.eos_token_id)
        settled = GenerationOptions.from_kwargs(
            options,
            eos_token_ids=as_token_ids(eos),
            vocab_limit=len(self.tokenizer) if self._checkpoint.has_tokenizer else None,
        )
        if options.get("max_new_tokens") is None:
            room = self.engine.n_positions - max(map(len, prompts)) + 1
            settled = settled.replace(max_new_tokens=max(1, min(settled.max_new_tokens, room)))
        return settled
