"""Decoding by hand: look at what comes next, choose, take back, go another way.

An operation computes a new state beside the old one, on a fork of its slot, and assigns it when it is complete. So an
operation that fails or is interrupted has changed nothing.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from pellucid.decoding.choosing import Choice, build_chooser
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.records.option_json import plain_options
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.recording import ExpansionRecorder, Recorder, RowRecorder
from pellucid.decoding.records.values import Distribution, Expansion, Source, TokenStep
from pellucid.decoding.result_building import generations, text_ids
from pellucid.decoding.results import Generation
from pellucid.decoding.sequence import check_ids
from pellucid.decoding.strategies import finish, start
from pellucid.decoding.task import prepare
from pellucid.display import Displayed
from pellucid.engine import Engine, FloatArray, Slot
from pellucid.errors import ContextLengthError, OptionError, SessionError
from pellucid.logits import log_normaliser
from pellucid.tokenizer import GPT2Tokenizer

if TYPE_CHECKING:
    from pellucid.decoding.options.keywords import OneSequenceOptions

Settle = Callable[[Mapping[str, Any], Sequence[Sequence[int]]], GenerationOptions]


@dataclass(frozen=True, repr=False)
class NextToken(Displayed):
    """The distribution of a session's next token, before and after each processor of the options.

    logits: float32 [vocab], the model's own. tokens: the text of every id in the distributions.
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


@dataclass(frozen=True, eq=False)
class _State:
    """Where a session stands. Nothing in it is ever changed.

    slot: begins with the history's tokens, and may hold more; None once the session is closed. logits: float32 [vocab]
    of what comes next, where they are at hand.
    """

    slot: Slot | None
    history: TokenHistory
    steps: tuple[TokenStep, ...] = ()
    logits: FloatArray | None = None

    @property
    def ids(self) -> list[int]:
        ids: list[int] = self.history.ids.tolist()
        return ids


class Session:
    """One sequence, steered by hand; `LanguageModel.session` opens it.

    An operation that raises, by an interrupt too, leaves the session as it was. A session is for one thread at a time:
    of two operations at once, the one that ends last raises `SessionError` and changes nothing.

    Forks share their prefix in the engine's cache. A session that is closed or garbage collected frees its part of the
    cache; it is also a context manager. A closed session can be read, and raises `SessionError` for the rest.

    options: the defaults of `distribution` and `run`. model: its name, for the record.
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
        settle(options, [prompt_ids])  # bad options are told before any work
        slot = engine.open()
        logits = engine.step([slot], [list(prompt_ids)]).logits[0]
        self._state = _State(slot, TokenHistory(prompt_ids), logits=logits)

    @property
    def ids(self) -> list[int]:
        """Prompt and continuation."""
        return self._state.ids

    @property
    def new_ids(self) -> list[int]:
        """The continuation."""
        ids: list[int] = self._state.history.new_ids.tolist()
        return ids

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
        ids, length = self._state.ids, self._state.history.prompt_length
        prompt, new_ids = text_ids(ids[:length], ids[length:], self._tokenizer)
        return self._tokenizer.decode([*prompt, *new_ids] if whole else new_ids)

    def __repr__(self) -> str:
        shown = repr(self.text) if self._tokenizer is not None else str(self.ids)
        return f"Session({shown}, {len(self.new_ids)} new tokens)"

    def distribution(self, *, full: bool = False, **options: Unpack[OneSequenceOptions]) -> NextToken:
        """What comes next, before and after the processors that the options ask for.

        full: keep log-probabilities of all ids, not only of the likeliest 50.
        """
        before = self._open_state()
        chooser = build_chooser(self._settled(before, options))
        state, own = self._with_logits(before)
        if self._state is before:
            self._state = state
        logits = chooser.usable(own).logits
        watched = ExpansionRecorder(logits, full=full)
        chooser.pipeline(state.history, logits, watched.observe)
        expansion = watched.expansion()
        found = NextToken(expansion, logits.copy())
        if self._tokenizer is None:
            return found
        named = {entry.id for part in expansion.distributions for entry in part.top}
        return dataclasses.replace(found, tokens={token: self._tokenizer.display_token(token) for token in named})

    def append(self, token: int | str) -> Self:
        """Go on with a token of one's own choice, by its id or as text, which may be several tokens."""
        before = self._open_state()
        if isinstance(token, str):
            if self._tokenizer is None:
                raise OptionError("this model has no tokenizer: append token ids")
            ids = self._tokenizer.encode(token)
        else:
            ids = [operator.index(token)]
        if ids:
            check_ids(self._engine, ids, "the text to append")
            self._commit(before, self._extended(before, ids))
        return self

    def undo(self, count: int = 1) -> Self:
        """Take back the newest tokens, which are not the prompt's."""
        before = self._open_state()
        if not 0 <= count <= before.history.new_length:
            raise OptionError(
                f"there are {before.history.new_length} new tokens, of which {count} cannot be taken back"
            )
        if count:
            history = before.history.copy()
            history.truncate(len(history) - count)
            steps = before.steps[: len(before.steps) - count]
            self._commit(before, _State(before.slot, history, steps))
        return self

    def fork(self) -> Session:
        """Another session at the same place; what is done to one does not change the other."""
        self._open_state()
        twin = object.__new__(Session)
        twin.__dict__.update(self.__dict__)
        return twin

    def run(self, **options: Unpack[OneSequenceOptions]) -> Generation:
        """Decode on from here, in any way that `LanguageModel.generate` can, and keep what comes of it."""
        before = self._open_state()
        settled = self._settled(before, options)
        if settled.num_return_sequences > 1:
            raise OptionError("a session goes one way: num_return_sequences is for generate; fork() goes several")
        recorder = Recorder()
        settled = self._within_positions(before, settled)
        task = prepare(
            self._engine, [before.ids], settled, token_bytes=self._token_bytes, recorder=recorder, held=before.slot
        )
        results = finish(start(task))
        generation = generations(task, results, self._tokenizer, self._model)[0]
        steps = recorder.rows[0].steps if recorder.rows else None
        self._commit(before, self._extended(before, generation.new_ids, "searched", steps))
        return generation

    @property
    def record(self) -> Record:
        """What was done so far, step by step."""
        state = self._state
        record = Record(
            strategy="session",
            model=self._model,
            options=plain_options(self._settled(state, {})),
            draw_key=None,
            prompt_ids=tuple(state.ids[: state.history.prompt_length]),
            new_ids=tuple(state.ids[state.history.prompt_length :]),
            logprob=sum(step.logprob for step in state.steps),
            finish_reason=None,
            steps=state.steps,
        )
        return record if self._tokenizer is None else record.with_texts(self._tokenizer.display_token)

    def close(self) -> None:
        """Free the session's part of the cache. Closing it again does nothing."""
        self._state = dataclasses.replace(self._state, slot=None, logits=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _token_bytes(self) -> Callable[[int], bytes] | None:
        return None if self._tokenizer is None else self._tokenizer.token_bytes

    def _settled(self, state: _State, options: Mapping[str, Any]) -> GenerationOptions:
        return self._settle({**self._options, **options}, [state.ids])

    def _within_positions(self, state: _State, options: GenerationOptions) -> GenerationOptions:
        """Options that end where the positions do: a session reads its newest token too, and does not slide."""
        positions = self._engine.n_positions
        if options.context == "slide":
            raise OptionError('a session does not slide: context="slide" is for generate')
        if len(state.history) >= positions:
            raise ContextLengthError(f"the session fills all of the model's {positions} positions")
        longest = positions if options.max_length is None else min(options.max_length, positions)
        return options.replace(max_length=longest)

    def _open_state(self) -> _State:
        if self._state.slot is None:
            raise SessionError("the session is closed: open another with lm.session")
        return self._state

    def _commit(self, before: _State, after: _State) -> None:
        """Move from the state that an operation began with to the one that it made."""
        if self._state is not before:
            raise SessionError(
                "the session was changed or closed while this ran, by another thread or by a function of the options"
            )
        self._state = after

    def _read(self, state: _State, kept: int, ids: Sequence[int]) -> tuple[Slot, FloatArray]:
        """A fork of the slot that holds the history's first `kept` tokens and then `ids`, and logits [ids, vocab]."""
        assert state.slot is not None
        slot = self._engine.fork(state.slot)
        try:
            self._engine.truncate(slot, kept)
            return slot, self._engine.step([slot], [list(ids)], all_positions=True).logits
        except BaseException:
            self._engine.drop(slot)  # a traceback may keep it referenced
            raise

    def _with_logits(self, state: _State) -> tuple[_State, FloatArray]:
        """The state with logits [vocab] of what comes next, for which the newest token is read again after `undo`."""
        if state.logits is not None:
            return state, state.logits
        slot, logits = self._read(state, len(state.history) - 1, [state.history.newest])
        return dataclasses.replace(state, slot=slot, logits=logits[0]), logits[0]

    def _extended(
        self, state: _State, ids: Sequence[int], source: Source = "steered", steps: Sequence[TokenStep] | None = None
    ) -> _State:
        """The state after more tokens. steps: how they were chosen, where a strategy recorded it."""
        state, first = self._with_logits(state)
        slot, rest = self._read(state, len(state.history), ids)
        history, recorder = state.history.copy(), RowRecorder(full=False)
        for token, logits in zip(ids, (first, *rest[:-1]), strict=True):
            if steps is None:
                _record_step(recorder, token, logits, source)
            history.append(token)
        added = recorder.steps if steps is None else steps
        already = len(state.steps)
        numbered = [dataclasses.replace(step, step=already + number) for number, step in enumerate(added)]
        return _State(slot, history, (*state.steps, *numbered), np.array(rest[-1]))


def _record_step(recorder: RowRecorder, token: int, logits: FloatArray, source: Source) -> None:
    choice = Choice(token, float(logits[token]) - log_normaliser(logits), None, Candidates(logits))
    recorder.chose(recorder.watch(logits), choice, source)
