"""Options as a record keeps them: values that JSON has, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pellucid.decoding.options import GenerationOptions
from pellucid.errors import RecordError

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

    functions: the caller's own functions, by option, in place of their names. Raises `RecordError` where one is
    missing, `OptionError` where a value is none.
    """
    values = dict(plain)
    for name in FUNCTION_OPTIONS:
        if name in values and name not in functions:
            raise RecordError(
                f"the record was made with {name}={values[name]}, which a file cannot hold: give it again"
            )
    values.update({name: function for name, function in functions.items() if function is not None})
    if "sequence_bias" in values:
        values["sequence_bias"] = [[ids, float(bias)] for ids, bias in values["sequence_bias"]]
    try:
        return GenerationOptions(**values)
    except TypeError as error:
        raise RecordError(f"the record has options that are none: {error}") from error
