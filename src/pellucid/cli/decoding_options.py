"""The decoding options that a command line can spell: all of `GenerationOptions` but functions, named like its
fields with dashes for underscores."""

# Annotations are not put off here, as they are elsewhere: typer asks for every one, and making them of text takes time.

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from pellucid.errors import OptionError


class EarlyStopping(StrEnum):
    true = "true"
    false = "false"
    never = "never"


class Context(StrEnum):
    error = "error"
    slide = "slide"


_HOW_LONG = "How long"
_DRAWN = "What is drawn"
_FAVOURED = "What is favoured or excluded"
_SEARCHED = "How it is searched"


def _option(panel: str, metavar: str | None, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, show_default=False)


MaxNewTokens = Annotated[
    int | None,
    _option(_HOW_LONG, "N", "How many tokens to add at most; 40 unless given.", "--max-new-tokens", "-n"),
]
Seed = Annotated[int | None, _option(_DRAWN, "N", "The same seed draws the same tokens.", "--seed")]

_Whole = int | None
_Number = float | None
_Ids = list[int] | None
_Texts = list[str] | None


class DecodingOptions:
    """A field for every option, as `GenerationOptions` names it. The words of `bad_words_ids`, `force_words_ids` and
    `sequence_bias` are given as text."""

    max_new_tokens: MaxNewTokens = None
    max_length: Annotated[_Whole, _option(_HOW_LONG, "N", "How many tokens prompt and continuation may have.")] = None
    min_new_tokens: Annotated[_Whole, _option(_HOW_LONG, "N", "No eos before N tokens are added.")] = None
    min_length: Annotated[_Whole, _option(_HOW_LONG, "N", "No eos before prompt and continuation have N tokens.")] = (
        None
    )
    max_time: Annotated[_Number, _option(_HOW_LONG, "SECONDS", "Stop after so many seconds.")] = None
    eos_token_id: Annotated[
        _Ids, _option(_HOW_LONG, "ID", "Stop at this token; may be repeated. The model's own unless given.")
    ] = None
    stop_strings: Annotated[_Texts, _option(_HOW_LONG, "TEXT", "Stop where this text occurs; may be repeated.")] = None
    include_stop_string: Annotated[
        bool, _option(_HOW_LONG, None, "Keep the stop string in the text.", "--include-stop-string")
    ] = False
    context: Annotated[
        Context | None,
        _option(
            _HOW_LONG,
            None,
            "At the end of the model's positions: an error before any work (the default), or slide, which reads the "
            "first token and the latest half anew.",
        ),
    ] = None

    do_sample: Annotated[
        bool | None,
        _option(
            _DRAWN,
            None,
            "Sample, or be greedy; greedy unless a sampling option is given.",
            "--do-sample/--no-do-sample",
        ),
    ] = None
    temperature: Annotated[_Number, _option(_DRAWN, "T", "Sample, with logits divided by T; 0 is greedy.")] = None
    top_k: Annotated[_Whole, _option(_DRAWN, "K", "Sample from the K likeliest tokens.")] = None
    top_p: Annotated[
        _Number, _option(_DRAWN, "P", "Sample from the likeliest tokens that together have probability P.")
    ] = None
    min_p: Annotated[
        _Number, _option(_DRAWN, "P", "Sample from tokens at least P times as likely as the likeliest.")
    ] = None
    typical_p: Annotated[
        _Number, _option(_DRAWN, "P", "Sample from the tokens nearest to the expected surprise that have P together.")
    ] = None
    epsilon_cutoff: Annotated[_Number, _option(_DRAWN, "P", "Sample from tokens of at least probability P.")] = None
    eta_cutoff: Annotated[_Number, _option(_DRAWN, "P", "The same, with P lowered where the entropy is high.")] = None
    renormalize_logits: Annotated[
        bool, _option(_DRAWN, None, "Normalise what the processors left.", "--renormalize-logits")
    ] = False
    seed: Seed = None

    repetition_penalty: Annotated[
        _Number, _option(_FAVOURED, "X", "Divide the logits of tokens that occurred; below 1 favours them.")
    ] = None
    frequency_penalty: Annotated[_Number, _option(_FAVOURED, "X", "Subtract X for each time a token was added.")] = None
    presence_penalty: Annotated[_Number, _option(_FAVOURED, "X", "Subtract X once for a token that was added.")] = None
    no_repeat_ngram_size: Annotated[_Whole, _option(_FAVOURED, "N", "Write no N tokens in a row twice.")] = None
    bad_words_ids: Annotated[
        _Texts, _option(_FAVOURED, "TEXT", "Never write this word; may be repeated.", "--bad-words")
    ] = None
    force_words_ids: Annotated[
        _Texts,
        _option(_FAVOURED, "TEXT", "Beams: every result has this word; may be repeated.", "--force-words"),
    ] = None
    sequence_bias: Annotated[
        _Texts, _option(_FAVOURED, "TEXT=X", "Add X to the logit that completes this word; may be repeated.")
    ] = None
    suppress_tokens: Annotated[_Ids, _option(_FAVOURED, "ID", "Never write this token; may be repeated.")] = None
    begin_suppress_tokens: Annotated[
        _Ids, _option(_FAVOURED, "ID", "Never begin with this token; may be repeated.")
    ] = None
    forced_bos_token_id: Annotated[
        _Whole, _option(_FAVOURED, "ID", "The second token of a sequence whose prompt is a single token.")
    ] = None
    forced_eos_token_id: Annotated[
        _Ids, _option(_FAVOURED, "ID", "The last token where the length runs out; may be repeated.")
    ] = None
    exponential_decay_length_penalty: Annotated[
        str | None,
        _option(_FAVOURED, "N,X", "Make eos likelier, X times a token, from new token N on."),
    ] = None
    remove_invalid_values: Annotated[
        bool,
        _option(_FAVOURED, None, "Decode logits with NaN or infinities instead of failing.", "--remove-invalid-values"),
    ] = False

    num_beams: Annotated[_Whole, _option(_SEARCHED, "N", "Search with N beams.")] = None
    num_return_sequences: Annotated[_Whole, _option(_SEARCHED, "N", "How many continuations.")] = None
    length_penalty: Annotated[
        _Number, _option(_SEARCHED, "X", "Beams: above 0 favours long hypotheses, below 0 short ones.")
    ] = None
    early_stopping: Annotated[
        EarlyStopping | None,
        _option(
            _SEARCHED,
            "WHEN",
            "Beams: stop at num-beams finished hypotheses (true), when a better one is unlikely (false), or "
            "impossible (never).",
        ),
    ] = None
    num_beam_groups: Annotated[_Whole, _option(_SEARCHED, "N", "Beams: in N groups that differ.")] = None
    diversity_penalty: Annotated[
        _Number, _option(_SEARCHED, "X", "Groups: subtract X for what earlier groups chose in the same step.")
    ] = None
    penalty_alpha: Annotated[
        _Number,
        _option(_SEARCHED, "X", "Contrastive search among the top-k: how much likeness to the text counts against."),
    ] = None
    prompt_lookup_num_tokens: Annotated[
        _Whole, _option(_SEARCHED, "N", "Try N tokens at once that followed the same words before.")
    ] = None
    max_matching_ngram_size: Annotated[
        _Whole, _option(_SEARCHED, "N", "Prompt lookup: how many of the same words at most; 2 unless given.")
    ] = None
    assistant_model: Annotated[
        str | None, _option(_SEARCHED, "NAME", "A smaller model with the same vocabulary that drafts tokens.")
    ] = None
    num_assistant_tokens: Annotated[
        _Whole, _option(_SEARCHED, "N", "How many tokens it drafts at a time; 5 unless given.")
    ] = None


def takes_decoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Put every decoding option in the place of a command's `**` parameter."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(DecodingOptions, name), annotation=hint)
        for name, hint in get_type_hints(DecodingOptions, include_extras=True).items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return command


def settled(given: Mapping[str, Any], encode: Callable[[str], Sequence[int]]) -> dict[str, Any]:
    """What was given on the command line, as `LanguageModel.generate` takes it. encode: makes ids of a text."""
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
    """Tell what is wrong with the options, or contradicts itself, before a model is loaded."""
    from pellucid.decoding.options import GenerationOptions
    from pellucid.decoding.options.contradictions import check_with_assistant

    # Which ids words have, and which the model's eos is, is not known yet: here it matters that there are some.
    stand_ins = itertools.count(1)
    options = settled(given, lambda text: [next(stand_ins)])
    assisted = options.pop("assistant_model", None) is not None
    checked = GenerationOptions.from_kwargs(options, eos_token_id=(0,))
    if assisted:
        check_with_assistant(checked)


def _forms(name: str, word: str, encode: Callable[[str], Sequence[int]]) -> list[Sequence[int]]:
    """A word as it begins a text and, with a space before it, as it stands within one."""
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
