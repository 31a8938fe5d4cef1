"""How to decode: one frozen value that every strategy reads, checked before any work."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pellucid.errors import OptionError

# Any of these, given, asks for sampling.
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p")


@dataclass(frozen=True)
class GenerationOptions:
    """Transformers' names, with the neutral value as every default.

    max_new_tokens: how many tokens to add at most.
    do_sample: draw tokens from the distribution instead of taking the likeliest.
    temperature: logits are divided by it; 0 takes the likeliest token.
    top_k: only the k likeliest tokens (and ties with the k-th) may be drawn; None or 0: all.
    top_p: only the likeliest tokens that together have this probability may be drawn.
    num_beams: more than one searches with beams.
    length_penalty: a hypothesis scores (sum of log-probabilities) / (generated length ** length_penalty).
    early_stopping: when beam search ends: True, at num_beams finished hypotheses; False, when no running one
        is likely to do better; "never", when none can.
    num_return_sequences: sequences a prompt.
    seed: int, or one a prompt; the same seed gives the same draws. None draws anew each time.
    eos_token_ids: any of these ends a sequence.
    vocab_limit: ids from here on are never chosen; None: all of the model's rows may be.

    Raises `OptionError` for values out of range and for options that contradict each other.
    """

    max_new_tokens: int = 40
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    seed: int | Sequence[int] | None = None
    eos_token_ids: tuple[int, ...] = ()
    vocab_limit: int | None = None

    def __post_init__(self) -> None:
        _check_int("max_new_tokens", self.max_new_tokens, minimum=1)
        _check_int("num_beams", self.num_beams, minimum=1)
        _check_int("num_return_sequences", self.num_return_sequences, minimum=1)
        if self.top_k is not None:
            _check_int("top_k", self.top_k, minimum=0)
        _check_number("temperature", self.temperature, "at least 0", lambda value: value >= 0)
        _check_number("top_p", self.top_p, "above 0 and at most 1", lambda value: 0 < value <= 1)
        _check_number("length_penalty", self.length_penalty, "a finite number", lambda value: True)
        if self.early_stopping not in (True, False, "never"):
            raise OptionError(f'early_stopping is {self.early_stopping!r}; it must be True, False or "never"')
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise OptionError(
                f"num_return_sequences ({self.num_return_sequences}) is more than num_beams ({self.num_beams}): "
                "a beam search returns at most one sequence a beam"
            )
        if not self.do_sample and self.num_beams == 1 and self.num_return_sequences > 1:
            raise OptionError(
                "num_return_sequences is more than 1, but greedy decoding has one result: "
                "sample (do_sample=True) or use beams (num_beams=...)"
            )
        if self.do_sample and self.num_beams > 1:
            raise OptionError("sampling and num_beams > 1 cannot be combined: choose one of them")

    @classmethod
    def from_kwargs(cls, options: Mapping[str, Any], **fixed: Any) -> Self:
        """From options as people give them: greedy unless a sampling option or `do_sample` says otherwise.

        Options that are None count as not given; temperature=0 is greedy. `fixed` are fields the caller sets.
        """
        given = {name: value for name, value in options.items() if value is not None}
        known = {f.name for f in dataclasses.fields(cls)} - set(fixed)
        for name in given:
            if name not in known:
                raise OptionError(_unknown(name, known))
        asked = [name for name in SAMPLING_OPTIONS if name in given]
        if given.get("do_sample") is False and asked:
            raise OptionError(f"do_sample=False contradicts {asked[0]}={given[asked[0]]!r}: leave one of them out")
        if asked:
            given["do_sample"] = True
        if given.get("temperature") == 0:
            given.update(do_sample=False, temperature=1.0)
        return cls(**given, **fixed)

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"unknown option {name}: {hint}"


def _check_int(name: str, value: object, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise OptionError(f"{name} is {value!r}; it must be a whole number of at least {minimum}")


def _check_number(name: str, value: object, rule: str, holds: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):  # type: ignore[arg-type]
        raise OptionError(f"{name} is {value!r}; it must be {rule}")
