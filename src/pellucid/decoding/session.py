"""Decoding by hand: look at what comes next, choose, take back, go another way."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from pellucid.decoding.choosing import Choice, build_chooser
from pellucid.decoding.distribution import log_normaliser
from pellucid.decoding.generations import generations, text_ids
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.records.option_json import plain_options
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import ExpansionRecorder, Recorder, RowRecorder
from pellucid.decoding.records.values import Distribution, Expansion, Source, TokenStep
from pellucid.decoding.results import Generation
from pellucid.decoding.sequence import check_ids
from pellucid.decoding.strategies import finish, start
from pellucid.decoding.task import prepare
from pellucid.display import Displayed
from pellucid.engine import Engine, FloatArray
from pellucid.errors import ContextLengthError, OptionError
from pellucid.tokenizer import GPT2Tokenizer

Settle = Callable[[Mapping[str, Any], Sequence[Sequence[int]]], GenerationOptions]


@dataclass(frozen=True, repr=False)
class NextToken(Displayed):
    """The distribution of a session's next token, before and after each processor of the options.

    logits: float32 [vocab], the model's own. tokens: the text of every id named in the distributions.
    """

    expansion: Expansion
    logits: FloatArray = field(repr=False, compare=False)
    tokens: Mapping[int, str] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> Distribution:
        """The model's own distribution."""
        return self.expansion.model

    @property
    def processed(self) -> Distribution:
        """What is left of it after all processors."""
        return self.expansion.chosen_from


class Session:
    """One sequence, steered by hand; `LanguageModel.session` opens it.

    Forks share their prefix in the engine's cache. A session that is closed, or no longer referred to, frees its
    part of the cache; it is also a context manager.

    options: what `distribution` and `run` go by unless they are told otherwise. model: its name, for the record.
    """

    def __init__(
        self,
        engine: Engine,
        prompt_ids: Sequence[int],
        settle: Settle,
        options: Mapping[str, Any],
        *,
        tokenizer: GPT2Tokenizer | None = None,
        model: str | None = None,
    ) -> None:
        check_ids(engine, prompt_ids)
        if len(prompt_ids) > engine.n_positions:
            raise ContextLengthError(
                f"the prompt has {len(prompt_ids)} tokens; the model has {engine.n_positions} positions"
            )
        self._engine = engine
        self._settle = settle
        self._options = dict(options)
        self._tokenizer = tokenizer
        self._model = model
        self._history = TokenHistory(prompt_ids)
        self._settled({})  # bad options are told before any work
        self._steps: list[TokenStep] = []
        self._slot = engine.open()
        self._logits: FloatArray | None = engine.step([self._slot], [list(prompt_ids)]).logits[0]

    @property
    def ids(self) -> list[int]:
        """Prompt and continuation."""
        return [int(token) for token in self._history.ids]

    @property
    def new_ids(self) -> list[int]:
        """The continuation."""
        return self.ids[self._history.prompt_length :]

    @property
    def text(self) -> str | None:
        """Prompt and continuation, as `Generation.text`; None for a model without a tokenizer."""
        return self._decoded(whole=True)

    @property
    def new_text(self) -> str | None:
        """The continuation, as `Generation.new_text`; None for a model without a tokenizer."""
        return self._decoded(whole=False)

    def _decoded(self, *, whole: bool) -> str | None:
        if self._tokenizer is None:
            return None
        length = self._history.prompt_length
        prompt, new_ids = text_ids(self.ids[:length], self.new_ids, self._tokenizer)
        return self._tokenizer.decode([*prompt, *new_ids] if whole else new_ids)

    def __repr__(self) -> str:
        shown = repr(self.text) if self._tokenizer is not None else str(self.ids)
        return f"Session({shown}, {len(self.new_ids)} new tokens)"

    def distribution(self, *, full: bool = False, **options: Any) -> NextToken:
        """What comes next, before and after the processors that the options ask for.

        full: keep log-probabilities of all ids, not only of the likeliest 50.
        """
        chooser = build_chooser(self._settled(options))
        logits = chooser.usable(self._current_logits()).logits
        watched = ExpansionRecorder(logits, full=full)
        chooser.pipeline(self._history, logits, watched.observe)
        expansion = watched.expansion()
        found = NextToken(expansion, logits.copy())
        if self._tokenizer is None:
            return found
        named = {entry.id for part in expansion.distributions for entry in part.top}
        return dataclasses.replace(found, tokens={token: self._tokenizer.display_token(token) for token in named})

    def append(self, token: int | str) -> Self:
        """Go on with a token of one's own choice, by its id or as text, which may be several tokens."""
        if isinstance(token, str):
            if self._tokenizer is None:
                raise OptionError("this model has no tokenizer: append token ids")
            ids = self._tokenizer.encode(token)
        else:
            ids = [operator.index(token)]
        if ids:
            check_ids(self._engine, ids, "the text to append")
            self._extend(ids, "steered")
        return self

    def undo(self, count: int = 1) -> Self:
        """Take back the newest tokens, which are not the prompt's."""
        if not 0 <= count <= self._history.new_length:
            raise OptionError(f"there are {self._history.new_length} new tokens, of which {count} cannot be taken back")
        if count:
            self._history.truncate(len(self._history) - count)
            self._engine.truncate(self._slot, len(self._history))
            del self._steps[len(self._steps) - count :]
            self._logits = None
        return self

    def fork(self) -> Session:
        """Another session at the same place; what is done to one does not change the other."""
        twin = object.__new__(Session)
        twin.__dict__.update(self.__dict__)
        twin._history, twin._steps, twin._options = self._history.copy(), list(self._steps), dict(self._options)
        twin._slot = self._engine.fork(self._slot)
        return twin

    def run(self, **options: Any) -> Generation:
        """Decode on from here, in any way that `LanguageModel.generate` can, and keep what comes of it."""
        settled = self._settled(options)
        if settled.num_return_sequences > 1:
            raise OptionError("a session goes one way: num_return_sequences is for generate; fork() goes several")
        recorder = Recorder()
        settled = self._within_positions(settled)
        task = prepare(
            self._engine, [self.ids], settled, token_bytes=self._token_bytes, recorder=recorder, held=self._slot
        )
        results = finish(start(task))
        generation = generations(task, results, self._tokenizer, self._model)[0]
        steps = recorder.rows[0].steps if recorder.rows else None
        self._extend(generation.new_ids, "searched", steps)
        return generation

    @property
    def record(self) -> Record:
        """What was done so far, step by step."""
        record = Record(
            strategy="session",
            model=self._model,
            options=plain_options(self._settled({})),
            draw_key=None,
            prompt_ids=tuple(self.ids[: self._history.prompt_length]),
            new_ids=tuple(self.new_ids),
            logprob=sum(step.logprob for step in self._steps),
            finish_reason=None,
            steps=tuple(self._steps),
        )
        return record if self._tokenizer is None else record.with_texts(self._tokenizer.display_token)

    def close(self) -> None:
        """Free the session's part of the cache. It cannot be used afterwards."""
        self._engine.drop(self._slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _token_bytes(self) -> Callable[[int], bytes] | None:
        return None if self._tokenizer is None else self._tokenizer.token_bytes

    def _settled(self, options: Mapping[str, Any]) -> GenerationOptions:
        return self._settle({**self._options, **options}, [self.ids])

    def _within_positions(self, options: GenerationOptions) -> GenerationOptions:
        """Options that end where the positions do: a session reads its newest token too, and does not slide."""
        positions = self._engine.n_positions
        if options.context == "slide":
            raise OptionError('a session does not slide: context="slide" is for generate')
        if len(self._history) >= positions:
            raise ContextLengthError(f"the session fills all of the model's {positions} positions")
        longest = positions if options.max_length is None else min(options.max_length, positions)
        return options.replace(max_length=longest)

    def _current_logits(self) -> FloatArray:
        """Logits [vocab] of what comes next; the newest token is read once more where they are not at hand."""
        if self._logits is None:
            self._engine.truncate(self._slot, len(self._history) - 1)
            self._logits = self._engine.step([self._slot], [[self._history.newest]]).logits[0]
        return self._logits

    def _extend(self, ids: Sequence[int], source: Source, steps: Sequence[TokenStep] | None = None) -> None:
        """Read tokens and record them; steps: how they came to be, where that was recorded already."""
        first = self._current_logits()
        rest = self._engine.step([self._slot], [list(ids)], all_positions=True).logits  # [ids, vocab]
        recorder = RowRecorder(full=False)
        for token, logits in zip(ids, (first, *rest[:-1]), strict=True):
            if steps is None:
                _record_step(recorder, token, logits, source)
            self._history.append(token)
        added = recorder.steps if steps is None else steps
        already = len(self._steps)
        self._steps += [dataclasses.replace(step, step=already + number) for number, step in enumerate(added)]
        self._logits = np.array(rest[-1])


def _record_step(recorder: RowRecorder, token: int, logits: FloatArray, source: Source) -> None:
    choice = Choice(token, float(logits[token]) - log_normaliser(logits), None, Candidates(logits))
    recorder.chose(recorder.watch(logits), choice, source)
