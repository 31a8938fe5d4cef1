"""The settings of a tokenizer, by their names in `tokenizer_config.json`: what each one is and may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from pellucid.errors import TokenizerError
from pellucid.keywords import Unsupported, check_keywords
from pellucid.tokenizer.batch_encoding import NO_LENGTH_LIMIT, Side, check_side
from pellucid.tokenizer.parts import SPECIAL_TOKEN_NAMES

if TYPE_CHECKING:
    from tokenizers import AddedToken

TOKEN_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
_BOOLEANS = ("add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens")
_INPUT_NAMES = ("input_ids", "token_type_ids", "attention_mask")


class TokenizerSettings(TypedDict, total=False):
    """Settings that can be given where a tokenizer is made; they override those in its files.

    bos_token, ..., mask_token: a special token, added to the vocabulary where it is missing; None removes the name.
    extra_special_tokens: more special tokens, a list, or a dict that names them; additional_special_tokens is its
        older name.
    add_prefix_space: put a space before a text that begins with none, so that its first word is encoded as any other.
    add_bos_token, add_eos_token: put the bos token before each text, the eos token after it.
    split_special_tokens: encode special tokens in a text as ordinary characters.
    padding_side, truncation_side: "left" or "right". model_max_length: tokens that the model takes.
    model_input_names: what calling the tokenizer returns.
    """

    bos_token: str | AddedToken | None
    eos_token: str | AddedToken | None
    unk_token: str | AddedToken | None
    sep_token: str | AddedToken | None
    pad_token: str | AddedToken | None
    cls_token: str | AddedToken | None
    mask_token: str | AddedToken | None
    extra_special_tokens: Sequence[str | AddedToken] | Mapping[str, str | AddedToken] | None
    additional_special_tokens: Sequence[str | AddedToken] | None
    add_prefix_space: bool
    add_bos_token: bool
    add_eos_token: bool
    split_special_tokens: bool
    padding_side: Side
    truncation_side: Side
    model_max_length: int | None
    model_input_names: Sequence[str]


_ONE_KIND = "there is one kind of GPT-2 tokenizer here"
_UNSUPPORTED = {
    "use_fast": Unsupported((True, False, None), _ONE_KIND),
    "trust_remote_code": Unsupported((True, False, None), "no code of a repository is ever run"),
    "tokenizer_type": Unsupported((None, "gpt2"), _ONE_KIND),
    "verbose": Unsupported((True, False), "give True or False"),
    "errors": Unsupported(
        ("replace",), "bytes that are not UTF-8 decode to U+FFFD; token_bytes(id) has the bytes themselves"
    ),
    "clean_up_tokenization_spaces": Unsupported(
        (False, None), "spaces are never cleaned up; decoding gives the text of the tokens"
    ),
    "pad_token_id": Unsupported((), "give pad_token, or set tokenizer.pad_token_id afterwards"),
    "max_len": Unsupported((), "give model_max_length"),
    "max_length": Unsupported((None,), "give max_length, with truncation=True, when you call the tokenizer"),
    "padding": Unsupported((False, None), "give padding when you call the tokenizer"),
    "truncation": Unsupported((False, None), "give truncation when you call the tokenizer"),
    "return_tensors": Unsupported((None,), "give return_tensors when you call the tokenizer"),
    "add_special_tokens": Unsupported((), "give add_special_tokens when you call the tokenizer"),
    "chat_template": Unsupported((None,), "GPT-2 has no chat format; write the prompt as one text"),
}


def given_settings(call: str, given: Mapping[str, Any], *, others: Mapping[str, Unsupported] = {}) -> dict[str, Any]:
    """Settings that a caller gives, checked, under their newest names.

    others: unsupported arguments of the call beside those of every tokenizer. Raises `TokenizerError`.
    """
    supported = TokenizerSettings.__annotations__
    settings = check_keywords(call, given, supported, {**_UNSUPPORTED, **others}, TokenizerError)
    if "additional_special_tokens" in settings:
        if "extra_special_tokens" in settings:
            raise TokenizerError(
                "additional_special_tokens is the older name of extra_special_tokens: give one of them"
            )
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    for name in _BOOLEANS:
        if settings.get(name, False) is None:
            raise TokenizerError(f"{name} is None; it must be True or False")
    check_settings(settings)
    extra = settings.get("extra_special_tokens")
    for name in extra if isinstance(extra, Mapping) else ():
        if not str(name).endswith("_token"):
            raise TokenizerError(f"extra_special_tokens names a token {name!r}; the name must end in _token")
    return settings


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `TokenizerError` for a setting of the wrong type or value."""
    for name in _BOOLEANS:
        if not isinstance(settings.get(name, False), bool | None):
            raise TokenizerError(f"{name} is {settings[name]!r}; it must be True or False")
    length_limit(settings)
    sides(settings)
    input_names(settings)
    for name in SPECIAL_TOKEN_NAMES:
        if settings.get(name) is not None:
            token_text(settings[name])
    extra = settings.get("extra_special_tokens")
    if not isinstance(extra, Mapping | list | tuple | None):
        raise TokenizerError(f"extra_special_tokens is {extra!r}; it must be a list of tokens, or a dict of named ones")
    for value in (*named_tokens(settings).values(), *extra_tokens(settings)):
        token_text(value)


def named_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens by name: the usual ones, then, as in Transformers, any other `..._token` that is a string,
    and the named ones of `extra_special_tokens`."""
    usual = {name: settings[name] for name in SPECIAL_TOKEN_NAMES if settings.get(name)}
    other = {
        name: value
        for name, value in settings.items()
        if name.endswith("_token") and name not in SPECIAL_TOKEN_NAMES and isinstance(value, str) and value
    }
    extra = settings.get("extra_special_tokens")
    return usual | other | (dict(extra) if isinstance(extra, Mapping) else {})


def extra_tokens(settings: Mapping[str, Any]) -> list[Any]:
    """The special tokens without a name."""
    extra = settings.get("extra_special_tokens")
    return [] if extra is None or isinstance(extra, Mapping) else list(extra)


def token_text(value: Any) -> str:
    """The text of a token: a string, an `AddedToken`, or an object of a file with the token's content and flags."""
    content = value.get("content") if isinstance(value, Mapping) else getattr(value, "content", value)
    if not isinstance(content, str):
        raise TokenizerError(f"{value!r} is not a token; it must be a string, or an object with its content")
    return content


def added_token(value: Any, **flags: bool) -> AddedToken:
    """The token with its flags; those passed here override its own."""
    from tokenizers import AddedToken

    if isinstance(value, AddedToken):
        own = {name: getattr(value, name) for name in TOKEN_FLAGS}
    else:
        own = {name: value[name] for name in TOKEN_FLAGS if name in value} if isinstance(value, Mapping) else {}
    return AddedToken(token_text(value), **{**own, **flags})


def sides(settings: Mapping[str, Any]) -> tuple[Side, Side]:
    """The sides of padding and of truncation."""
    padding, truncation = settings.get("padding_side", "right"), settings.get("truncation_side", "right")
    return check_side("padding_side", padding), check_side("truncation_side", truncation)


def length_limit(settings: Mapping[str, Any]) -> int:
    """The number of tokens that the model takes; `NO_LENGTH_LIMIT` where it is not known."""
    return check_length(settings.get("model_max_length", settings.get("max_len")))


def check_length(length: Any) -> int:
    """A number of tokens, or None, as a number of tokens. Raises `TokenizerError` for anything else."""
    if length is None:
        return NO_LENGTH_LIMIT
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
        raise TokenizerError(f"model_max_length is {length!r}; it must be a number of tokens")
    return int(min(length, NO_LENGTH_LIMIT))


def input_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What calling the tokenizer returns, by default ids and attention mask."""
    names = settings.get("model_input_names")
    if names is None:
        return ("input_ids", "attention_mask")
    if not isinstance(names, list | tuple) or "input_ids" not in names or not set(names) <= set(_INPUT_NAMES):
        raise TokenizerError(f"model_input_names is {names!r}; it must be a list with input_ids, of {_INPUT_NAMES}")
    return tuple(names)
