"""How to decode: one frozen value that every strategy reads, checked before any work.

An option is defined once, as a field here: its values, its default and what it does. Validation, the command line and
the tests of the documents read these definitions.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pellucid.decoding.options import rules
from pellucid.decoding.options.contradictions import check_together
from pellucid.decoding.options.option import Group, option, options_of
from pellucid.errors import OptionError
from pellucid.quoting import clipped, quoted

DEFAULT_NEW_TOKENS = 40

# Any of these, given, asks for sampling.
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")

# What other programs call these options.
_OTHER_NAMES: Mapping[str, str] = {
    "stop": "stop_strings",
    "stop_sequences": "stop_strings",
    "stop_words": "stop_strings",
    "max_tokens": "max_new_tokens",
    "n_predict": "max_new_tokens",
    "num_predict": "max_new_tokens",
    "temp": "temperature",
    "n": "num_return_sequences",
    "num_samples": "num_return_sequences",
    "beam_size": "num_beams",
    "beam_width": "num_beams",
    "logit_bias": "sequence_bias",
    "repeat_penalty": "repetition_penalty",
    "typical": "typical_p",
    "random_seed": "seed",
}

# A search keeps a row of logits over the whole vocabulary for each of its beams.
MOST_BEAMS = 1024
_MOST_SEQUENCES = 4096

_AT_LEAST_0 = rules.Number(least=0)
_PROBABILITY = rules.Number(above=0, most=1)
_FRACTION = rules.Number(least=0, most=1)
_CUTOFF = rules.Number(least=0, below=1)
# Counts times such a penalty, added to a logit, keep what float32 tells apart.
_PENALTY = rules.Number(least=-1000, most=1000)
_YES_OR_NO = rules.OneOf((True, False))
_POSITIVE, _COUNT = rules.WholeNumber(1), rules.WholeNumber(0)
_BEAMS = rules.WholeNumber(1, MOST_BEAMS)

_LENGTH: Group = "How long"
_DRAWN: Group = "What is drawn"
_FAVOURED: Group = "What is favoured or excluded"
_SEARCHED: Group = "How it is searched"


@dataclass(frozen=True)
class GenerationOptions:
    """How to decode. `docs/decoding.md` explains the options.

    Raises `OptionError` for values out of range and for options that contradict each other.
    """

    max_new_tokens: int | None = option(
        None, _POSITIVE, f"How many tokens to add at most; {DEFAULT_NEW_TOKENS} by default.", _LENGTH, "N"
    )
    max_length: int | None = option(
        None, _POSITIVE, "How many tokens prompt and continuation may have at most.", _LENGTH, "N"
    )
    min_new_tokens: int = option(0, _COUNT, "No eos before N tokens are added.", _LENGTH, "N")
    min_length: int = option(0, _COUNT, "No eos before prompt and continuation have N tokens.", _LENGTH, "N")
    max_time: float | None = option(
        None,
        rules.Number(above=0),
        "Stop after so many seconds, with the token that is then decided.",
        _LENGTH,
        "SECONDS",
    )
    eos_token_id: tuple[int, ...] = option(
        (), rules.token_ids, "Stop at this token; the model's eos by default.", _LENGTH, "ID"
    )
    stop_strings: tuple[str, ...] = option(
        (), rules.strings, "Stop where this text occurs; the result ends before it.", _LENGTH, "TEXT"
    )
    include_stop_string: bool = option(False, _YES_OR_NO, "Keep the stop string in the text.", _LENGTH)
    stopping_criteria: tuple[Callable[..., Any], ...] = option(
        (), rules.functions, "Functions of (ids, logits [vocab]) that return True to stop.", _LENGTH
    )
    context: Literal["error", "slide"] = option(
        "error",
        rules.OneOf(("error", "slide")),
        "At the end of the model's positions: an error before any work (the default), or slide, which reads the first "
        "token and the latest half anew.",
        _LENGTH,
    )

    do_sample: bool = option(
        False, _YES_OR_NO, "Sample, or be greedy; greedy by default, unless a sampling option is given.", _DRAWN
    )
    temperature: float = option(1.0, _AT_LEAST_0, "Sample, with logits divided by T; 0 is greedy.", _DRAWN, "T")
    top_k: int | None = option(None, _COUNT, "Sample from the K likeliest tokens; 0 is all of them.", _DRAWN, "K")
    top_p: float = option(
        1.0, _PROBABILITY, "Sample from the likeliest tokens that together have probability P.", _DRAWN, "P"
    )
    min_p: float | None = option(
        None, _FRACTION, "Sample from tokens at least P times as likely as the likeliest.", _DRAWN, "P"
    )
    typical_p: float = option(
        1.0,
        _PROBABILITY,
        "Sample from the tokens nearest to the expected surprise that together have probability P.",
        _DRAWN,
        "P",
    )
    epsilon_cutoff: float = option(0.0, _CUTOFF, "Sample from tokens of at least probability P.", _DRAWN, "P")
    eta_cutoff: float = option(
        0.0, _CUTOFF, "As epsilon_cutoff, with P lowered where the entropy is high.", _DRAWN, "P"
    )
    renormalize_logits: bool = option(False, _YES_OR_NO, "Make log-probabilities of what the processors left.", _DRAWN)
    seed: int | tuple[int, ...] | None = option(
        None,
        rules.seed,
        "The same seed draws the same tokens; by default every call draws anew.",
        _DRAWN,
        "N",
    )

    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] | None = option(
        None, rules.sequence_bias, "Add X to the logit of the token that completes this sequence.", _FAVOURED, "TEXT=X"
    )
    repetition_penalty: float = option(
        1.0,
        rules.Number(least=1e-4, most=1e4),
        "Divide the logits of tokens that occurred (multiply negative ones); below 1 favours them.",
        _FAVOURED,
        "X",
    )
    frequency_penalty: float = option(
        0.0, _PENALTY, "Subtract X from a token's logit for each time it was added.", _FAVOURED, "X"
    )
    presence_penalty: float = option(
        0.0, _PENALTY, "Subtract X once from the logit of a token that was added.", _FAVOURED, "X"
    )
    no_repeat_ngram_size: int = option(0, _COUNT, "Write no N tokens in a row twice.", _FAVOURED, "N")
    bad_words_ids: tuple[tuple[int, ...], ...] | None = option(
        None, rules.token_sequences, "Never write this sequence of tokens.", _FAVOURED, "TEXT"
    )
    prefix_allowed_tokens_fn: Callable[..., Any] | None = option(
        None, rules.function, "A function of (prompt number, ids) that returns the ids that may come next.", _FAVOURED
    )
    forced_bos_token_id: int | None = option(
        None,
        rules.token_id,
        "The second token of a sequence whose prompt is a single token.",
        _FAVOURED,
        "ID",
    )
    forced_eos_token_id: tuple[int, ...] = option(
        (), rules.token_ids, "The last token where the length runs out.", _FAVOURED, "ID"
    )
    remove_invalid_values: bool = option(
        False, _YES_OR_NO, "Decode logits with NaN or infinities instead of failing.", _FAVOURED
    )
    exponential_decay_length_penalty: tuple[int, float] | None = option(
        None, rules.decay, "Make eos likelier, X times per token, from new token N on.", _FAVOURED, "N,X"
    )
    suppress_tokens: tuple[int, ...] = option((), rules.token_ids, "Never write this token.", _FAVOURED, "ID")
    begin_suppress_tokens: tuple[int, ...] = option(
        (), rules.token_ids, "Never begin with this token.", _FAVOURED, "ID"
    )
    logits_processor: tuple[Callable[..., Any], ...] = option(
        (),
        rules.functions,
        "Functions of (ids, logits [vocab]) that return new logits, applied after all of the above.",
        _FAVOURED,
    )

    num_beams: int = option(1, _BEAMS, "Search with N beams; with do_sample, sample them.", _SEARCHED, "N")
    num_beam_groups: int = option(1, _BEAMS, "Beams: in N groups that differ.", _SEARCHED, "N")
    diversity_penalty: float = option(
        0.0,
        rules.Number(least=0, most=1000),
        "Beam groups: subtract X for each time earlier groups chose the token in the same step.",
        _SEARCHED,
        "X",
    )
    force_words_ids: tuple[tuple[tuple[int, ...], ...], ...] | None = option(
        None, rules.force_words, "Beams: every result has this word, or one of its alternatives.", _SEARCHED, "TEXT"
    )
    length_penalty: float = option(
        1.0,
        rules.Number(least=-10, most=10),
        "Beams: a hypothesis scores its log-probability / generated length ** X.",
        _SEARCHED,
        "X",
    )
    early_stopping: bool | Literal["never"] = option(
        False,
        rules.OneOf((True, False, "never")),
        "Beams: stop at num_beams finished hypotheses (true), when a better one is unlikely (false), or impossible "
        "(never).",
        _SEARCHED,
        "WHEN",
    )
    num_return_sequences: int = option(
        1, rules.WholeNumber(1, _MOST_SEQUENCES), "How many continuations per prompt.", _SEARCHED, "N"
    )
    penalty_alpha: float = option(
        0.0,
        _FRACTION,
        "Contrastive search among the top_k: how much likeness to the text counts against a token.",
        _SEARCHED,
        "X",
    )
    prompt_lookup_num_tokens: int | None = option(
        None, _POSITIVE, "Try N tokens at once that followed the same words before.", _SEARCHED, "N"
    )
    max_matching_ngram_size: int = option(
        2, _POSITIVE, "Prompt lookup: match at most N words; 2 by default.", _SEARCHED, "N"
    )
    num_assistant_tokens: int = option(
        5, _POSITIVE, "How many tokens an assistant model drafts at a time; 5 by default.", _SEARCHED, "N"
    )

    vocab_limit: int | None = option(
        None, _POSITIVE, "Ids from N on are never chosen; by default all may be.", _FAVOURED, "N", of_the_model=True
    )
    pad_token_id: int | None = option(
        None,
        rules.token_id,
        "What a group of beams that is done counts as choosing; the first eos by default.",
        _SEARCHED,
        "ID",
        of_the_model=True,
    )

    def __post_init__(self) -> None:
        for name, defined, default in options_of(self):
            value = getattr(self, name)
            if value is not default:
                object.__setattr__(self, name, defined.rule(name, value))
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
        for name in given:
            if name not in OPTION_NAMES:
                raise OptionError(_unknown(name))
        if "max_new_tokens" in given and "max_length" in given:
            raise OptionError("max_new_tokens and max_length both say how long the result may be: give one of them")
        contrastive = _FRACTION("penalty_alpha", given.get("penalty_alpha", 0.0)) > 0
        asked = [name for name in SAMPLING_OPTIONS if name in given and not (contrastive and name == "top_k")]
        if given.get("do_sample") is False and asked:
            raise OptionError(
                f"do_sample=False contradicts {asked[0]}={quoted(given[asked[0]])}: leave one of them out"
            )
        if asked:
            given["do_sample"] = True
        if _AT_LEAST_0("temperature", given.get("temperature", 1.0)) == 0:
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


# The options that a caller may give.
OPTION_NAMES = tuple(name for name, defined, _ in options_of(GenerationOptions) if not defined.of_the_model)


def _unknown(name: str) -> str:
    near = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else difflib.get_close_matches(name, OPTION_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(OPTION_NAMES))}"
    return f"unknown option {clipped(str(name))}: {hint}"
