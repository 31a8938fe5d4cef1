"""How to decode: one frozen value that every strategy reads, checked before any work."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pellucid.decoding.options import rules
from pellucid.decoding.options.contradictions import check_together
from pellucid.errors import OptionError

DEFAULT_NEW_TOKENS = 40

# Any of these, given, asks for sampling.
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")

_AT_LEAST_0 = rules.Number("at least 0", lambda value: value >= 0)
_ABOVE_0 = rules.Number("above 0", lambda value: value > 0)
_PROBABILITY = rules.Number("above 0 and at most 1", lambda value: 0 < value <= 1)
_FRACTION = rules.Number("at least 0 and at most 1", lambda value: 0 <= value <= 1)
_CUTOFF = rules.Number("at least 0 and below 1", lambda value: 0 <= value < 1)
_YES_OR_NO = rules.OneOf((True, False))
_POSITIVE, _COUNT = rules.WholeNumber(1), rules.WholeNumber(0)

_RULES: Mapping[str, rules.Rule] = {
    "max_new_tokens": _POSITIVE,
    "max_length": _POSITIVE,
    "min_new_tokens": _COUNT,
    "min_length": _COUNT,
    "max_time": _ABOVE_0,
    "eos_token_id": rules.token_ids,
    "stop_strings": rules.strings,
    "include_stop_string": _YES_OR_NO,
    "stopping_criteria": rules.functions,
    "do_sample": _YES_OR_NO,
    "temperature": _AT_LEAST_0,
    "top_k": _COUNT,
    "top_p": _PROBABILITY,
    "min_p": _FRACTION,
    "typical_p": _PROBABILITY,
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "renormalize_logits": _YES_OR_NO,
    "sequence_bias": rules.sequence_bias,
    "repetition_penalty": _ABOVE_0,
    "frequency_penalty": rules.Number(),
    "presence_penalty": rules.Number(),
    "no_repeat_ngram_size": _COUNT,
    "bad_words_ids": rules.token_sequences,
    "prefix_allowed_tokens_fn": rules.function,
    "forced_bos_token_id": rules.token_id,
    "forced_eos_token_id": rules.token_ids,
    "remove_invalid_values": _YES_OR_NO,
    "exponential_decay_length_penalty": rules.decay,
    "suppress_tokens": rules.token_ids,
    "begin_suppress_tokens": rules.token_ids,
    "logits_processor": rules.functions,
    "num_beams": _POSITIVE,
    "num_beam_groups": _POSITIVE,
    "diversity_penalty": _AT_LEAST_0,
    "force_words_ids": rules.force_words,
    "length_penalty": rules.Number("from -10 to 10", lambda value: -10 <= value <= 10),
    "early_stopping": rules.OneOf((True, False, "never")),
    "num_return_sequences": _POSITIVE,
    "penalty_alpha": _FRACTION,
    "prompt_lookup_num_tokens": _POSITIVE,
    "max_matching_ngram_size": _POSITIVE,
    "num_assistant_tokens": _POSITIVE,
    "context": rules.OneOf(("error", "slide")),
    "seed": rules.seed,
}


@dataclass(frozen=True)
class GenerationOptions:
    """Transformers' names, with the neutral value as every default.

    How long:
    max_new_tokens, max_length: how many tokens to add at most, and how many prompt and continuation may have; the
        nearer counts. 40 new tokens where neither is given.
    min_new_tokens, min_length: no eos before the continuation, or prompt and continuation, have as many.
    max_time: seconds after which every sequence ends with the token it has got.
    eos_token_id: any of these ends a sequence.
    stop_strings: any of these ends a sequence, wherever tokens begin or end; include_stop_string: whether the text
        keeps it. The ids keep the tokens that completed it.
    stopping_criteria: functions of (ids, logits) that end a sequence by returning True.
    context: what happens at the end of the model's positions: "error" before any work, or "slide", which reads the
        first token and the latest half anew.

    What is drawn:
    do_sample: draw tokens from the distribution instead of taking the likeliest.
    temperature: logits are divided by it; 0 takes the likeliest token.
    top_k: only the k likeliest tokens (and ties with the k-th) may be drawn; None or 0: all.
    top_p: only the likeliest tokens that together have this probability.
    min_p: only tokens at least this times as likely as the likeliest.
    typical_p: only the tokens nearest to the expected surprise that together have this probability.
    epsilon_cutoff, eta_cutoff: only tokens with this probability; eta lowers it where the entropy is high.
    renormalize_logits: make log-probabilities of what the processors left.
    seed: a number, or one a prompt; the same seed gives the same draws. None draws anew each time.

    What is favoured or excluded:
    sequence_bias: numbers added to the logits of tokens that complete sequences of ids.
    repetition_penalty: divides the logits of tokens that occurred, prompt included; below 1 favours them.
    frequency_penalty, presence_penalty: subtracted for each occurrence in the continuation, or once.
    no_repeat_ngram_size: no n-gram of this size is written twice.
    bad_words_ids, suppress_tokens, begin_suppress_tokens: sequences or tokens never written, or not first.
    prefix_allowed_tokens_fn: a function of (prompt number, ids) to the ids that may come next.
    forced_bos_token_id, forced_eos_token_id: the second token of a sequence that has one, and the last one.
    exponential_decay_length_penalty: (start, factor), makes eos likelier from that new token on.
    logits_processor: functions of (ids, logits [vocab]) to new logits, after all of the above.
    remove_invalid_values: decode logits with NaN or infinities instead of raising.

    How it is searched:
    num_beams: more than one searches with beams, or with do_sample samples them.
    num_beam_groups, diversity_penalty: groups of beams, each kept from what earlier groups chose in the same step.
    force_words_ids: words that every result has, each as ids or as a list of alternatives.
    length_penalty: a hypothesis scores (sum of log-probabilities) / (generated length ** length_penalty).
    early_stopping: when beam search ends: True, at num_beams finished hypotheses; False, when no running one is
        likely to do better; "never", when none can.
    num_return_sequences: sequences a prompt.
    penalty_alpha: contrastive search over the top_k likeliest: how much a candidate's likeness to the text counts.
    prompt_lookup_num_tokens: tokens to try at once that followed the same words earlier in the text, the longest
        match up to max_matching_ngram_size. Changes no token.
    num_assistant_tokens: tokens that an assistant model drafts at a time, where one is given.

    vocab_limit: ids from here on are never chosen; None: all of the model's rows may be.
    pad_token_id: what a group of beams that is done counts as choosing, for diversity_penalty; None: the first eos.

    Raises `OptionError` for values out of range and for options that contradict each other.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int = 0
    min_length: int = 0
    max_time: float | None = None
    eos_token_id: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    include_stop_string: bool = False
    stopping_criteria: tuple[Callable[..., Any], ...] = ()
    context: Literal["error", "slide"] = "error"
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    renormalize_logits: bool = False
    seed: int | tuple[int, ...] | None = None
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None
    prefix_allowed_tokens_fn: Callable[..., Any] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    logits_processor: tuple[Callable[..., Any], ...] = ()
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    force_words_ids: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    penalty_alpha: float = 0.0
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int = 2
    num_assistant_tokens: int = 5
    vocab_limit: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, rule(name, value))
        if self.max_new_tokens is None and self.max_length is None:
            object.__setattr__(self, "max_new_tokens", DEFAULT_NEW_TOKENS)
        check_together(self)

    @classmethod
    def from_kwargs(
        cls, options: Mapping[str, Any], *, eos_token_id: tuple[int, ...] = (), vocab_limit: int | None = None
    ) -> Self:
        """From options as people give them: greedy unless a sampling option or `do_sample` says otherwise.

        Options that are None count as not given; temperature=0 is greedy. eos_token_id: the model's, where the
        options name none.
        """
        given = {name: value for name, value in options.items() if value is not None}
        known = {f.name for f in dataclasses.fields(cls)} - {"vocab_limit", "pad_token_id"}
        for name in given:
            if name not in known:
                raise OptionError(_unknown(name, known))
        if "max_new_tokens" in given and "max_length" in given:
            raise OptionError("max_new_tokens and max_length both say how long the result may be: give one of them")
        contrastive = bool(given.get("penalty_alpha"))
        asked = [name for name in SAMPLING_OPTIONS if name in given and not (contrastive and name == "top_k")]
        if given.get("do_sample") is False and asked:
            raise OptionError(f"do_sample=False contradicts {asked[0]}={given[asked[0]]!r}: leave one of them out")
        if asked:
            given["do_sample"] = True
        if given.get("temperature") == 0:
            given.update(do_sample=False, temperature=1.0)
        given.setdefault("eos_token_id", eos_token_id)
        return cls(**given, vocab_limit=vocab_limit)

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def new_tokens_after(self, prompt_length: int) -> int:
        """How many tokens a prompt of this length may be continued by; not above 0 where it is too long."""
        longest = None if self.max_length is None else self.max_length - prompt_length
        if self.max_new_tokens is None:
            assert longest is not None  # one of the two is always there
            return longest
        return self.max_new_tokens if longest is None else min(self.max_new_tokens, longest)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name; `from_kwargs` makes an equal value of them."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"unknown option {name}: {hint}"
