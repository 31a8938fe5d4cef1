"""Transformers' names, defaults and precedence of `generate`'s arguments, converted to `GenerationOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pellucid.config import GPT2Config, as_token_ids
from pellucid.decoding.options import OPTION_NAMES, SAMPLING_OPTIONS, GenerationOptions, rules
from pellucid.errors import ContextLengthError, OptionError

# Defaults of Transformers 5.23. All its other defaults have no effect.
DEFAULT_NEW_TOKENS, DEFAULT_TOP_K = 20, 50

# Options of Transformers that are not supported, and their values without effect, which files and calls may have.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "guidance_scale": (1.0,),
    "output_logits": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "return_legacy_cache": (True, False),
    "use_cache": (True, False),
    "low_memory": (True, False),
    "trust_remote_code": (True, False),
    "num_assistant_tokens_schedule": ("constant",),
    "assistant_confidence_threshold": (0.0, 0.4),
    "is_assistant": (False,),
    "token_healing": (False,),
    "disable_compile": (True, False),
}

# Fields of a generation_config.json that do not concern decoding.
BOOKKEEPING = ("transformers_version", "_from_model_config", "cache_implementation", "cache_config", "_commit_hash")

_BEAM_OPTIONS = ("length_penalty", "early_stopping")
_POSITIVE, _COUNT = rules.WholeNumber(1), rules.WholeNumber(0)

# Every argument that a call or a generation_config.json may have.
ARGUMENT_NAMES = frozenset(
    (*OPTION_NAMES, *_NEUTRAL, "pad_token_id", "bos_token_id", "return_dict_in_generate", "output_scores")
)


@dataclass(frozen=True)
class GenerateCall:
    """The arguments of a call of `generate`: options for decoding, the id that pads short rows, and whether the result
    is a `GenerateOutput`, with scores."""

    options: GenerationOptions
    pad_token_id: int
    return_dict: bool
    output_scores: bool


def settle(
    kwargs: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    config: GPT2Config,
    prompt_length: int,
) -> GenerateCall:
    """Merge a call's arguments over generation_config.json over the defaults, as Transformers 5.23 does.

    prompt_length: the width of `input_ids`, padding included, which `max_length` and `min_length` include.

    As in Transformers, sampling options are ignored without do_sample=True, and options of beam search without beams.
    Raises `OptionError` for an option that is unknown or not supported.
    """
    stored = {name: value for name, value in generation_config.items() if name not in BOOKKEEPING}
    merged = {**stored, **{name: value for name, value in kwargs.items() if value is not None}}
    merged = {name: value for name, value in merged.items() if value is not None}
    eos = as_token_ids(merged.pop("eos_token_id", config.eos_token_id))
    eos_token_ids = rules.token_ids("eos_token_id", [token for token in eos if token != -1])  # -1 means none
    pad_token_id = merged.pop("pad_token_id", config.pad_token_id)
    merged.pop("bos_token_id", None)
    return_dict = bool(merged.pop("return_dict_in_generate", False))
    output_scores = bool(merged.pop("output_scores", False))
    lengths = _lengths(merged, config, prompt_length)
    values = {name: merged.pop(name) for name in list(merged) if name in OPTION_NAMES}
    _check_rest(merged)
    _drop_ignored_options(values, prompt_length)
    options = GenerationOptions(**values, **lengths, eos_token_id=eos_token_ids, pad_token_id=pad_token_id)
    if pad_token_id is None:
        pad_token_id = eos_token_ids[0] if eos_token_ids else 0
    return GenerateCall(options, pad_token_id, return_dict, output_scores)


def _lengths(merged: dict[str, Any], config: GPT2Config, prompt_length: int) -> dict[str, Any]:
    """Limits on the whole length, padding included, as limits on new tokens. min_new_tokens overrides min_length."""
    lengths = {"max_new_tokens": _max_new_tokens(merged, config, prompt_length)}
    from_the_left = max(0, _COUNT("min_length", merged.pop("min_length", 0)) - prompt_length)
    least = _COUNT("min_new_tokens", merged.pop("min_new_tokens", from_the_left))
    if least:
        # A minimum above the maximum forbids eos throughout, as does a minimum equal to it.
        lengths["min_new_tokens"] = min(least, lengths["max_new_tokens"])
    return lengths


def _drop_ignored_options(values: dict[str, Any], prompt_length: int) -> None:
    """Drop the options that Transformers ignores, and set its defaults in their place."""
    beams, sampling = values.get("num_beams", 1) != 1, bool(values.get("do_sample", False))
    values.setdefault("top_k", DEFAULT_TOP_K)
    contrastive = not beams and not sampling and values.get("penalty_alpha", 0) > 0 and values["top_k"] > 1
    if not contrastive:
        values.pop("penalty_alpha", None)
    if sampling and values.get("temperature", 1.0) == 0:
        values["do_sample"] = sampling = False
    if not sampling:
        for name in SAMPLING_OPTIONS:
            if not (contrastive and name == "top_k"):
                values.pop(name, None)
    if not beams:
        for name in _BEAM_OPTIONS:
            values.pop(name, None)
    if prompt_length != 1:
        values.pop("forced_bos_token_id", None)


def _max_new_tokens(merged: dict[str, Any], config: GPT2Config, prompt_length: int) -> int:
    """max_new_tokens, which overrides max_length; 20 by default, or as many as positions allow."""
    max_length, max_new_tokens = merged.pop("max_length", None), merged.pop("max_new_tokens", None)
    if max_new_tokens is not None:
        return _POSITIVE("max_new_tokens", max_new_tokens)
    if max_length is None:
        room = config.n_positions - prompt_length
        if merged.get("context") == "slide":
            room = DEFAULT_NEW_TOKENS
        if room < 1:
            raise ContextLengthError(
                f"the prompt's {prompt_length} tokens leave no room in the model's {config.n_positions} positions"
            )
        return min(DEFAULT_NEW_TOKENS, room)
    if _POSITIVE("max_length", max_length) <= prompt_length:
        raise OptionError(
            f"max_length is {max_length}, but the prompt already has {prompt_length} tokens: "
            "raise it, or give max_new_tokens"
        )
    return max_length - prompt_length  # type: ignore[no-any-return]


def _check_rest(rest: Mapping[str, Any]) -> None:
    for name, value in rest.items():
        if name not in _NEUTRAL:
            near = get_close_matches(name, ARGUMENT_NAMES, n=1)
            raise OptionError(f"generate has no option {name}" + (f"; did you mean {near[0]}?" if near else ""))
        if value not in _NEUTRAL[name]:
            raise OptionError(f"{name}={value!r} is not available; leave it out or give {_NEUTRAL[name][0]!r}")
