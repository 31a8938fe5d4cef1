"""The facade: `load` a model, then generate, stream, predict and score with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from pellucid import decoding
from pellucid.checkpoint import open_checkpoint
from pellucid.config import as_token_ids
from pellucid.decoding.options import GenerationOptions, rules
from pellucid.decoding.result_building import generations, stream_record
from pellucid.decoding.sequence import check_fits, check_ids
from pellucid.decoding.streaming import stream, stream_text
from pellucid.decoding.task import DecodingTask
from pellucid.display import Results
from pellucid.engine import Engine, FloatArray
from pellucid.engine_choice import EngineName, Precision, choose_engine, load_native_engine, load_reference_model
from pellucid.errors import ContextLengthError, OptionError
from pellucid.inspectable_model import InspectableModel
from pellucid.loaded_model import Prompt, Prompts
from pellucid.logits import check_finite, entropy, log_softmax

if TYPE_CHECKING:
    from pellucid.decoding.options.keywords import DecodingOptions, OneSequenceOptions
    from pellucid.decoding.records.record import Record
    from pellucid.decoding.results import Generation, Prediction, Score
    from pellucid.decoding.session import Session
    from pellucid.decoding.streaming import StreamedPiece
    from pellucid.lens.names import Names


def load(
    name_or_path: str | Path = "demo",
    *,
    precision: Precision | None = None,
    engine: EngineName = "auto",
    device: str = "cpu",
    threads: int | None = None,
    capacity: int | None = None,
    map: bool = True,
    revision: str | None = None,
) -> LanguageModel:
    """Load a model.

    name_or_path: "demo" (bundled), "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", any Hub id, a
        folder, or a single weights file.
    precision: the number type of the weights: "float32", "bfloat16"; "int8" and "int4" (native engine); "float16"
        (torch engine). Default: "float32", or the precision of a packed file.
    engine: "native" is the CPU engine in C++, "torch" the reference model. "auto" is native on a CPU if the extension
        is built, else torch.
    device: the device of the torch engine, "cpu" or "cuda".
    threads: the engine's threads; default: the number of cores. With torch, the setting is for the whole process.
    capacity: tokens in the native engine's cache over all sequences; default: 16 sequences of full length. Memory is
        allocated on use.
    map: memory-map packed weights (native engine), so that processes share them. If another process truncates the file,
        this process is killed. False copies the weights.

    Raises `ModelNotFoundError`, `CheckpointError`, `ConfigError`, `OptionError`, `MissingExtraError` or
    `NoEngineError`.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; it must be at least 1")
    chosen = choose_engine(engine, precision or "float32", device)
    if capacity is not None and chosen != "native":
        raise OptionError("capacity is for the native engine; the torch engine's cache grows as needed")
    checkpoint = open_checkpoint(name_or_path, revision=revision)
    if chosen == "native":
        native = load_native_engine(checkpoint, precision, threads, capacity, map)
        return LanguageModel(checkpoint, native, precision=native.precision)
    model = load_reference_model(checkpoint, precision or "float32", device, threads)
    from pellucid.reference.engine import ReferenceEngine

    return LanguageModel(checkpoint, ReferenceEngine(model), model, precision=precision or "float32")


class LanguageModel(InspectableModel):
    """A loaded GPT-2, as `load` returns it. This class decodes, predicts and scores; its base `InspectableModel` traces
    and runs the instruments.

    name: the name or path it was loaded from. config: its configuration. precision: the number type of its weights.
    """

    @overload
    def generate(  # type: ignore[overload-overlap]  # a string is a sequence of strings too
        self,
        prompt: Prompt,
        *,
        record: bool | Literal["full"] = False,
        trace: bool | Names = False,
        trace_memory_limit: int | None = None,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[OneSequenceOptions],
    ) -> Generation: ...

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt,
        *,
        num_return_sequences: int,
        record: bool | Literal["full"] = False,
        trace: bool | Names = False,
        trace_memory_limit: int | None = None,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[OneSequenceOptions],
    ) -> Generation | list[Generation]: ...

    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        record: bool | Literal["full"] = False,
        trace: bool | Names = False,
        trace_memory_limit: int | None = None,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[DecodingOptions],
    ) -> list[Generation]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        record: bool | Literal["full"] = False,
        trace: bool | Names = False,
        trace_memory_limit: int | None = None,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Any,
    ) -> Generation | list[Generation]:
        """Continue a prompt, or several.

        prompt: a string or a list of token ids; or a list of several prompts.
        record: give each generation a `Record` of its decode; "full" includes complete distributions.
        trace: give each generation the activations of every step: True for all, or names as in `trace`. The decode then
            runs on the reference engine. trace_memory_limit: bytes for all traces together; default: 4 GiB.
        assistant_model: a smaller model with the same vocabulary, or its name, that drafts tokens (speculative
            decoding).
        options: the fields of `GenerationOptions`. Default: greedy decoding, or sampling if a sampling option is given;
            40 new tokens, or as many as fit in the context.

        Returns a `Generation` for one prompt and one sequence, else a flat list in the order of the prompts. Raises
        `OptionError`, `ContextLengthError` or `TokenizerError` before the first step.
        """
        prompts, single = self._prompts(prompt, options.get("context") == "slide")
        tracer = self._tracing_engine(trace, trace_memory_limit)
        task = self._task(prompts, options, record=record, assistant_model=assistant_model, engine=tracer)
        if tracer is not None:
            tracer.check(task.prompts, task.options)
        results = decoding.finish(decoding.start(task))
        found = generations(task, results, self.known_tokenizer, self.name)
        found = found if tracer is None else tracer.with_traces(found)
        return found[0] if single and task.options.num_return_sequences == 1 else Results(found)

    @overload
    def stream(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt,
        *,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[OneSequenceOptions],
    ) -> Iterator[str]: ...

    @overload
    def stream(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt,
        *,
        num_return_sequences: int,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[OneSequenceOptions],
    ) -> Iterator[str] | Iterator[StreamedPiece]: ...

    @overload
    def stream(
        self,
        prompt: Prompts,
        *,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[StreamedPiece]: ...

    def stream(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Any,
    ) -> Iterator[str] | Iterator[StreamedPiece]:
        """Yield the continuation in pieces while it is decoded. Pieces have complete characters only, and their
        concatenation equals `new_text` of `generate`.

        options: as for `generate`, without beam search. One prompt and one sequence give strings. Several give pairs
        (row, text), with rows in the order of the prompts. Closing the iterator stops the decode.
        """
        prompts, single = self._prompts(prompt, options.get("context") == "slide")
        task = self._task(prompts, options, assistant_model=assistant_model)
        if task.options.num_beams > 1:
            raise OptionError("num_beams: a beam search has no text before it ends; stream_record shows each step")
        alone = single and task.options.num_return_sequences == 1
        return stream_text(task, self.tokenizer) if alone else stream(task, self.tokenizer)

    def stream_record(
        self,
        prompt: Prompt,
        *,
        full: bool = False,
        assistant_model: str | Path | LanguageModel | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Record]:
        """Yield the record of one prompt's decode after every step; the last record is complete.

        options: as for `generate`. A beam search's records have the tree of its hypotheses so far. Closing the iterator
        stops the decode.
        """
        prompts, single = self._prompts(prompt, options.get("context") == "slide")
        recorded: bool | Literal["full"] = "full" if full else True
        task = self._task(prompts, options, record=recorded, assistant_model=assistant_model)
        if not single or (task.options.num_return_sequences > 1 and task.options.num_beams == 1):
            raise OptionError("stream_record takes one prompt and shows one sequence, or one search")
        return stream_record(task, self.known_tokenizer, self.name)

    def session(self, prompt: Prompt = "", **options: Unpack[OneSequenceOptions]) -> Session:
        """Start a session, a decode by hand, from a prompt: see `Session`. options: the session's default options."""
        from pellucid.decoding.session import Session

        prompts, single = self._prompts(prompt)
        if not single:
            raise OptionError("a session has one prompt")
        return Session(self.engine, prompts[0], self._options, options, tokenizer=self.known_tokenizer, model=self.name)

    def replay(
        self, record: Record, *, assistant_model: str | Path | LanguageModel | None = None, **functions: Any
    ) -> Generation:
        """Repeat a recorded decode. The same model gives the same tokens.

        functions: `logits_processor`, `stopping_criteria` and `prefix_allowed_tokens_fn` of the recorded call, which a
        record cannot store. Raises `RecordError` if one is missing.
        """
        from pellucid.decoding.records.replay import replay_task

        task, rank = replay_task(
            self.engine,
            record,
            functions=functions,
            token_bytes=self._token_bytes,
            assistant=self._assistant(assistant_model),
        )
        return generations(task, decoding.finish(decoding.start(task)), self.known_tokenizer, self.name)[rank]

    def _task(
        self,
        prompts: Sequence[Sequence[int]],
        options: Mapping[str, Any],
        *,
        record: bool | Literal["full"] = False,
        assistant_model: str | Path | LanguageModel | None = None,
        engine: Engine | None = None,
    ) -> DecodingTask:
        if record not in (True, False, "full"):
            raise OptionError(f'record is {record!r}; it must be True, False or "full"')
        recorder = None
        if record:
            from pellucid.decoding.records.recording import Recorder

            recorder = Recorder(full=record == "full")
        return decoding.prepare(
            self.engine if engine is None else engine,
            prompts,
            self._options(options, prompts),
            token_bytes=self._token_bytes,
            assistant=self._assistant(assistant_model),
            recorder=recorder,
        )

    def _assistant(self, model: str | Path | LanguageModel | None) -> Engine | None:
        if model is None:
            return None
        return model.engine if isinstance(model, LanguageModel) else load(model).engine

    def predict(self, prompt: Prompt, top: int = 10) -> Prediction:
        """The `top` likeliest next tokens, with probabilities under the softmax over the whole vocabulary."""
        from pellucid.decoding.results import Prediction, likely_tokens

        rules.WholeNumber(1)("top", top)
        prompts, single = self._prompts(prompt)
        if not single:
            raise OptionError("predict takes one prompt")
        engine = self.engine
        check_fits(engine, prompts[0])
        logits = _logits(engine, prompts[0], all_positions=False)[0]
        rows = likely_tokens(logits, top, self._piece)
        return Prediction(self._text(prompts[0]), prompts[0], rows, entropy(logits))

    @overload
    def score(self, text: Prompt, given: Prompt | None = None) -> Score: ...  # type: ignore[overload-overlap]

    @overload
    def score(self, text: Prompts, given: Prompt | None = None) -> list[Score]: ...

    def score(self, text: Prompt | Sequence[Prompt], given: Prompt | None = None) -> Score | list[Score]:
        """The log-probability, rank and entropy of each token of a text; several texts give a list.

        given: a context before the text, which is not scored; an empty one is the model's bos token. Default: no
            context, and the first token gets no probability.
        """
        texts, single = self._prompts(text)
        before, alone = ([[]], True) if given is None else self._prompts(given)
        if not alone:
            raise OptionError("given is one prompt, the context of every text")
        engine = self.engine
        scores = [self._score(engine, ids, before[0]) for ids in texts]
        return scores[0] if single else Results(scores)

    def report(self, text: Prompt, path: str | Path, *, top: int = 5) -> None:
        """Write a report with every view of a text, as `pellucid trace --html` does: one HTML file that needs no
        network.

        top: how many tokens to list in each distribution but the last, which is complete.

        Raises `PellucidError` before any computation if the file cannot be written, and what `trace` raises.
        """
        from pellucid.reports import write_report

        write_report(self, text, path, top=top)

    def _score(self, engine: Engine, ids: list[int], context: list[int]) -> Score:
        from pellucid.decoding.results import Score, ScoredToken

        whole = context + ids
        check_ids(engine, whole)
        read = whole[:-1]  # nothing is scored after the last token
        if len(read) > engine.n_positions:
            raise ContextLengthError(
                f"{len(whole)} tokens need {len(read)} positions, and the model has {engine.n_positions}: "
                "score it in parts"
            )
        if read:
            log_probabilities = log_softmax(_logits(engine, read, all_positions=True))  # [tokens - 1, vocab]
        rows = []
        for position, token in enumerate(whole[len(context) :], start=len(context)):
            if position == 0:
                rows.append(ScoredToken(self._piece(token), token, None, None, None))
                continue
            before = log_probabilities[position - 1]
            rank = int((before > before[token]).sum())
            rows.append(ScoredToken(self._piece(token), token, float(before[token]), rank, entropy(before)))
        return Score(tuple(rows))

    def _options(self, options: Mapping[str, Any], prompts: Sequence[Sequence[int]]) -> GenerationOptions:
        eos = self._checkpoint.generation_config.get("eos_token_id", self.config.eos_token_id)
        settled = GenerationOptions.from_kwargs(
            options,
            eos_token_id=as_token_ids(eos),
            vocab_limit=len(self.tokenizer) if self._checkpoint.has_tokenizer else None,
        )
        asked = any(options.get(name) is not None for name in ("max_new_tokens", "max_length"))
        if not asked and settled.context == "error":
            # As many tokens as fit. The last token needs no position, except in contrastive search, which reads it too.
            unread = 0 if settled.penalty_alpha else 1
            settled = settled.replace(max_length=max(self.config.n_positions, max(map(len, prompts))) + unread)
        return settled


def _logits(engine: Engine, ids: list[int], *, all_positions: bool) -> FloatArray:
    """The next-token logits after the last token, [1, vocab], or after every token, [tokens, vocab]."""
    slot = engine.open()
    try:
        logits = engine.step([slot], [ids], all_positions=all_positions).logits
    finally:
        engine.drop(slot)
    check_finite(logits)
    return logits
