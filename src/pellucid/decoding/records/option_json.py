"""Options as a record keeps them: values that JSON has, and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pellucid.decoding.options import GenerationOptions
from pellucid.errors import OptionError, RecordError
from pellucid.quoting import clipped, quoted

# What only a program can give; a record tells their names.
FUNCTION_OPTIONS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")


def plain_options(options: GenerationOptions) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON values."""
    return {name: _plain(value) for name, value in options.given().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # a sequence_bias may be "inf" or "-inf", for which JSON has no number
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value


def options_from_plain(plain: Mapping[str, Any], functions: Mapping[str, Any]) -> GenerationOptions:
    """The options that a record was made with.

    functions: the caller's own functions by option, of which a record has only the names. Raises `RecordError` where
    one is missing or an option is unknown, `OptionError` where a value is out of range.
    """
    for name in functions:
        if name not in FUNCTION_OPTIONS:
            raise OptionError(f"replay takes {', '.join(FUNCTION_OPTIONS)}; it has no {clipped(name)}")
    known = {field.name for field in dataclasses.fields(GenerationOptions)}
    for name in plain:
        if name not in known:
            raise RecordError(f"the record has an unknown option: {clipped(name)}")
    values = dict(plain)
    for name in FUNCTION_OPTIONS:
        if name in values and name not in functions:
            raise RecordError(
                f"the record was made with {name}={quoted(values[name])}, which a file cannot hold: give it again"
            )
    values.update({name: function for name, function in functions.items() if function is not None})
    if isinstance(biases := values.get("sequence_bias"), list):
        values["sequence_bias"] = list(map(_read_bias, biases))
    return GenerationOptions(**values)


def _read_bias(pair: Any) -> Any:
    """A pair of ids and a bias, which may be a string where it is infinite."""
    if isinstance(pair, list) and len(pair) == 2 and pair[1] in ("inf", "-inf"):
        return [pair[0], float(pair[1])]
    return pair
