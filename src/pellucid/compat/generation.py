"""Transformers' rules for `generate`'s arguments: its names, defaults and precedence, brought to our options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.config import GPT2Config, as_token_ids
from pellucid.decoding.options import GenerationOptions
from pellucid.errors import ContextLengthError, OptionError

# What Transformers 5.23 fills in where neither the call nor generation_config.json says anything.
DEFAULT_NEW_TOKENS = 20
_DEFAULTS: Mapping[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "num_return_sequences": 1,
}

# Options of Transformers whose neutral value asks for nothing, so that files and calls that spell it out work.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "min_length": (0,),
    "min_new_tokens": (0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "diversity_penalty": (0.0,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0.0,),
    "guidance_scale": (1.0,),
    "renormalize_logits": (False,),
    "remove_invalid_values": (False,),
    "return_dict_in_generate": (False,),
    "output_scores": (False,),
    "output_logits": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "return_legacy_cache": (True, False),
    "use_cache": (True, False),
}

# Fields of a generation_config.json that say nothing about decoding.
_BOOKKEEPING = ("transformers_version", "_from_model_config", "cache_implementation", "cache_config")


@dataclass(frozen=True)
class GenerateCall:
    """A call of `generate`, settled: the options for decoding and the id that fills short rows."""

    options: GenerationOptions
    pad_token_id: int


def settle(
    kwargs: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    config: GPT2Config,
    prompt_length: int,
) -> GenerateCall:
    """Merge a call's arguments over generation_config.json over the defaults, as Transformers 5.23 does.

    prompt_length: the width of `input_ids`, padding included; `max_length` counts from its left edge.

    Sampling options count only with do_sample=True; without it they are ignored, as there. Raises `OptionError`
    for an option that is unknown, or known there and not available here.
    """
    stored = {name: value for name, value in generation_config.items() if name not in _BOOKKEEPING}
    given = {name: value for name, value in kwargs.items() if value is not None}
    merged = {name: value for name, value in {**stored, **given}.items() if value is not None}
    eos = as_token_ids(merged.pop("eos_token_id", config.eos_token_id))
    eos_token_ids = tuple(token for token in eos if token >= 0)  # -1 is an old way to say "none"
    pad_token_id = merged.pop("pad_token_id", config.pad_token_id)
    merged.pop("bos_token_id", None)
    seed = merged.pop("seed", None)
    max_new_tokens = _max_new_tokens(merged, config, prompt_length)
    values = {name: merged.pop(name, default) for name, default in _DEFAULTS.items()}
    _check_rest(merged)
    if not values["do_sample"]:
        values.update(temperature=1.0, top_k=None, top_p=1.0)
    if values["do_sample"] and values["temperature"] == 0:
        values.update(do_sample=False, temperature=1.0)
    options = GenerationOptions(**values, max_new_tokens=max_new_tokens, seed=seed, eos_token_ids=eos_token_ids)
    if pad_token_id is None:
        pad_token_id = eos_token_ids[0] if eos_token_ids else 0
    return GenerateCall(options, pad_token_id)


def _max_new_tokens(merged: dict[str, Any], config: GPT2Config, prompt_length: int) -> int:
    """max_new_tokens, wherever it is given, wins over max_length; else 20, as far as positions reach."""
    max_length, max_new_tokens = merged.pop("max_length", None), merged.pop("max_new_tokens", None)
    if max_new_tokens is not None:
        return max_new_tokens  # type: ignore[no-any-return]
    if max_length is None:
        room = config.n_positions - prompt_length
        if room < 1:
            raise ContextLengthError(
                f"the prompt's {prompt_length} tokens leave no room in the model's {config.n_positions} positions"
            )
        return min(DEFAULT_NEW_TOKENS, room)
    if max_length <= prompt_length:
        raise OptionError(
            f"max_length is {max_length}, but the prompt already has {prompt_length} tokens: "
            "raise it, or give max_new_tokens"
        )
    return max_length - prompt_length  # type: ignore[no-any-return]


def _check_rest(rest: Mapping[str, Any]) -> None:
    for name, value in rest.items():
        if name not in _NEUTRAL:
            raise OptionError(f"generate has no option {name}")
        if value not in _NEUTRAL[name]:
            raise OptionError(f"{name}={value!r} is not available; leave it out or give {_NEUTRAL[name][0]!r}")
