"""The decoding options of the command line: the fields of `GenerationOptions`, except those that take functions.

An option has its field's name, with dashes for underscores. Its help and its panel come from the field's definition.
"""

# Annotations are not postponed here: typer evaluates those of a command, which is slower for strings.

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from pellucid.decoding.options import GenerationOptions, rules
from pellucid.decoding.options.option import Option, options_of
from pellucid.errors import OptionError

# The options that have another name than their field, or a short name too.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "max_new_tokens": ("--max-new-tokens", "-n"),
    "do_sample": ("--do-sample/--no-do-sample",),
    "bad_words_ids": ("--bad-words",),
    "force_words_ids": ("--force-words",),
}

# The type that typer parses, by the rule for an option's values. Words and biases are parsed as text.
_TYPES: Mapping[Any, Any] = {
    rules.token_id: int,
    rules.token_ids: list[int],
    rules.seed: int,
    rules.decay: str,
    rules.strings: list[str],
    rules.token_sequences: list[str],
    rules.force_words: list[str],
    rules.sequence_bias: list[str],
}
_FUNCTIONS = (rules.function, rules.functions)
_YES_OR_NO = rules.OneOf((True, False))


def _type(name: str, rule: rules.Rule) -> Any:
    match rule:
        case rules.WholeNumber():
            return int
        case rules.Number():
            return float
        case rules.OneOf((True, False)):
            return bool
        case rules.OneOf(values):
            choices = [str(value).lower() for value in values]
            return StrEnum(name, {choice: choice for choice in choices})
    return _TYPES[rule]


def _typer_option(name: str, defined: Option) -> Any:
    spelled = name.replace("_", "-")
    names = _NAMES.get(name, (f"--{spelled}",))
    several = defined.rule in _TYPES and _TYPES[defined.rule] in (list[int], list[str])
    help = f"{defined.help.removesuffix('.')}; may be repeated." if several else defined.help
    return typer.Option(
        *names, metavar=defined.placeholder, help=help, rich_help_panel=defined.group, show_default=False
    )


_DEFINED = {name: defined for name, defined, _ in options_of(GenerationOptions)}

MaxNewTokens = Annotated[int | None, _typer_option("max_new_tokens", _DEFINED["max_new_tokens"])]
Seed = Annotated[int | None, _typer_option("seed", _DEFINED["seed"])]
_Assistant = Annotated[
    str | None,
    typer.Option(
        "--assistant-model",
        metavar="NAME",
        help="A smaller model with the same vocabulary that drafts tokens.",
        rich_help_panel=_DEFINED["num_assistant_tokens"].group,
        show_default=False,
    ),
]


def _parameters() -> Iterator[inspect.Parameter]:
    """A signature parameter for each option, for typer. Its default, None or for a flag False, means "not given"."""
    for name, defined in _DEFINED.items():
        if defined.of_the_model or defined.rule in _FUNCTIONS:
            continue
        if name == "num_assistant_tokens":
            yield _parameter("assistant_model", _Assistant, None)
        kind, option = _type(name, defined.rule), _typer_option(name, defined)
        if defined.rule == _YES_OR_NO and name != "do_sample":
            yield _parameter(name, Annotated[kind, option], False)
        else:
            yield _parameter(name, Annotated[kind | None, option], None)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def takes_decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: replace its `**` parameter by one parameter for each decoding option."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*own, *_parameters()])  # type: ignore[attr-defined]
    return command


def keywords(given: Mapping[str, Any], encode: Callable[[str], Sequence[int]]) -> dict[str, Any]:
    """The given options as keyword arguments of `LanguageModel.generate`. encode: text to token ids."""
    options = {name: value for name, value in given.items() if value is not None and value != []}
    read: dict[str, Callable[[Any], Any]] = {
        "context": lambda value: value.value,
        "early_stopping": lambda value: {"true": True, "false": False}.get(value.value, value.value),
        "exponential_decay_length_penalty": _decay,
        "bad_words_ids": lambda words: [ids for word in words for ids in _forms("bad_words_ids", word, encode)],
        "force_words_ids": lambda words: [_forms("force_words_ids", word, encode) for word in words],
        "sequence_bias": lambda pairs: [pair for text in pairs for pair in _biases(text, encode)],
    }
    return {name: read[name](value) if name in read else value for name, value in options.items()}


def check(given: Mapping[str, Any]) -> None:
    """Check the options before a model is loaded. Raises `OptionError` for bad values and contradictions."""
    from pellucid.decoding.options.contradictions import check_with_assistant

    # Without a model, the ids of words and of eos are unknown. The checks need ids, but not their values.
    placeholders = itertools.count(1)
    options = keywords(given, lambda text: [next(placeholders)])
    assisted = options.pop("assistant_model", None) is not None
    checked = GenerationOptions.from_kwargs(options, eos_token_id=(0,))
    if assisted:
        check_with_assistant(checked)


def _forms(name: str, word: str, encode: Callable[[str], Sequence[int]]) -> list[Sequence[int]]:
    """The ids of a word at the start of a text, and with a space before it for a word within a text."""
    if not word:
        raise OptionError(f"{name} is '': a word has at least one character")
    return [encode(word)] if word[0].isspace() else [encode(word), encode(f" {word}")]


def _biases(text: str, encode: Callable[[str], Sequence[int]]) -> list[tuple[Sequence[int], float]]:
    word, _, number = text.rpartition("=")
    try:
        bias = float(number)
    except ValueError:
        bias = float("nan")
    if not word or bias != bias:
        raise OptionError(f"sequence_bias is {text!r}; it must be a text, an equals sign and a number: word=2.5")
    return [(ids, bias) for ids in _forms("sequence_bias", word, encode)]


def _decay(text: str) -> tuple[int, float]:
    start, _, factor = text.partition(",")
    try:
        return int(start), float(factor)
    except ValueError as error:
        raise OptionError(
            f"exponential_decay_length_penalty is {text!r}; it must be a start and a factor: 20,1.05"
        ) from error
