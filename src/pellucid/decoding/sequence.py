"""A strategy's input and output, in token ids."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.stopping import FinishReason
from pellucid.engine import Engine
from pellucid.errors import ContextLengthError, OptionError


@dataclass(frozen=True)
class ChosenToken:
    """One token as it is decided on: for which row, its log-probability (nats) under the model's own
    distribution, and, where it is the row's last, why.

    Rows are numbered prompt by prompt, num_return_sequences to each.
    """

    row: int
    token: int
    logprob: float
    finish_reason: FinishReason | None


# The tokens of one step: one per running row, several where drafts were accepted, none during a beam search.
Step = tuple[ChosenToken, ...]


@dataclass(frozen=True)
class GeneratedSequence:
    """One continuation.

    prompt: its place among the prompts. new_ids: the tokens added, a final eos included. logprob: the sum of
    their log-probabilities (nats) under the model's own distribution. score: what beam search ranked it by.
    """

    prompt: int
    new_ids: list[int]
    logprob: float
    finish_reason: FinishReason
    score: float | None = None


# A decode that goes on by a step at each `next`; closing it stops it.
Run = Generator[Step, None, list[GeneratedSequence]]


def check_prompts(engine: Engine, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> None:
    """Raise before any work: `OptionError` for an empty prompt, an id the model has no row for, or a prompt as long
    as max_length; `ContextLengthError` where prompt and continuation do not fit."""
    for where, ids in _named(prompts):
        check_ids(engine, ids, where)
        new_tokens = options.new_tokens_after(len(ids))
        if new_tokens < 1:
            raise OptionError(f"{where} has {len(ids)} tokens and max_length is {options.max_length}: raise max_length")
        # The last new token is returned without being read back, so it needs no position.
        room = engine.n_positions - len(ids) + 1
        if options.context == "error" and new_tokens > room:
            asked = f"{'max_length' if options.max_new_tokens is None else 'max_new_tokens'} asks for {new_tokens} more"
            can = f"ask for at most {room} new tokens" if room > 0 else "shorten it"
            raise ContextLengthError(
                f"{where} has {len(ids)} tokens and {asked}, but the model has {engine.n_positions} positions: {can}, "
                'or let it slide with context="slide"'
            )
    usable = engine.vocab_size if options.vocab_limit is None else min(options.vocab_limit, engine.vocab_size)
    for name, token in _ids_in(options):
        if token >= usable:
            raise OptionError(f"{name} has id {token}; the ids that can be chosen are 0 to {usable - 1}")


def check_ids(engine: Engine, ids: Sequence[int], where: str = "the prompt") -> None:
    """Raise `OptionError` for an empty prompt or an id the model has no row for."""
    if not ids:
        raise OptionError(f"{where} is empty: there is no token to continue from")
    for token in ids:
        if not 0 <= token < engine.vocab_size:
            raise OptionError(f"{where} has id {token}; this model's ids are 0 to {engine.vocab_size - 1}")


def check_fits(engine: Engine, ids: Sequence[int]) -> None:
    """As `check_ids`, and raise `ContextLengthError` for a prompt of more tokens than the model has positions."""
    check_ids(engine, ids)
    if len(ids) > engine.n_positions:
        raise ContextLengthError(
            f"the prompt has {len(ids)} tokens, but the model has {engine.n_positions} positions: shorten it"
        )


def _named(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[str, Sequence[int]]]:
    for number, ids in enumerate(prompts):
        yield (f"prompt {number}" if len(prompts) > 1 else "the prompt"), ids


def _ids_in(options: GenerationOptions) -> Iterator[tuple[str, int]]:
    """Every id that an option makes the model favour, force or forbid."""
    for ids, _ in options.sequence_bias or ():
        yield from (("sequence_bias", token) for token in ids)
    for ids in options.bad_words_ids or ():
        yield from (("bad_words_ids", token) for token in ids)
    for forms in options.force_words_ids or ():
        yield from (("force_words_ids", token) for ids in forms for token in ids)
    yield from (("forced_eos_token_id", token) for token in options.forced_eos_token_id)
    if options.forced_bos_token_id is not None:
        yield "forced_bos_token_id", options.forced_bos_token_id
