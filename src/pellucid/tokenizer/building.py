"""How a tokenizer is put together: BPE model, pipeline, special tokens, settings.

Settings are those of a `tokenizer_config.json`, by its names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from pellucid.errors import TokenizerError
from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.batch_encoding import Side, check_side
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, NO_LENGTH_LIMIT, SPECIAL_TOKEN_NAMES, TokenizerParts

TOKEN_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
_KEPT_SETTINGS = ("add_prefix_space", "split_special_tokens", "add_bos_token", "add_eos_token")


def parts_from_vocabulary(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], settings: Mapping[str, Any], where: str
) -> TokenizerParts:
    """A byte-level BPE tokenizer from a vocabulary and its merges, best first. Errors name `where`."""
    with blaming(where):
        return gpt2_parts(build_bpe(vocab, merges, where, where), settings, {})


@contextmanager
def blaming(where: str | Path) -> Iterator[None]:
    """Errors met inside are those of a damaged file; say which."""
    try:
        yield
    except TokenizerError as error:
        raise error if str(where) in str(error) else TokenizerError(f"{where}: {error}") from None
    except KeyError as error:
        raise TokenizerError(f"{where} is damaged or incomplete: it has no {error}") from error
    except BaseException as error:  # the tokenizers library raises plain Exceptions, and panics that are not even that
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TokenizerError(f"{where} is damaged: {reason}") from error


def build_bpe(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], vocab_source: str | Path, merge_source: str | Path
) -> BPE:
    """The BPE model; a `TokenizerError` names the source that is at fault."""
    if not isinstance(vocab, Mapping) or not all(
        type(token_id) is int and token_id >= 0 for token_id in vocab.values()
    ):
        raise TokenizerError(f"{vocab_source}: the vocabulary must map each token to an id, a whole number from 0")
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError(f"{vocab_source}: two tokens of the vocabulary share one id")
    pairs = merge_pairs(vocab, merges, merge_source)
    with blaming(merge_source):
        return BPE(vocab=dict(vocab), merges=pairs)


def merge_pairs(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], where: str | Path, prefix: str = ""
) -> list[tuple[str, str]]:
    """The merges as pairs, checked here because the library panics over some that contradict the vocabulary."""
    pairs = []
    for number, merge in enumerate(merges, start=1):
        try:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            merged = left + right.removeprefix(prefix)
        except (TypeError, ValueError, AttributeError):
            raise TokenizerError(f"{where}: merge {number} is {merge!r}; it must be two tokens") from None
        if left not in vocab or right not in vocab or merged not in vocab:
            missing = next(token for token in (left, right, merged) if token not in vocab)
            raise TokenizerError(f"{where}: merge {number} is {merge!r}, but the vocabulary has no {missing!r}")
        pairs.append((left, right))
    return pairs


def gpt2_parts(
    model: BPE,
    settings: Mapping[str, Any],
    added: Mapping[int, AddedToken],
    post_processor: processors.PostProcessor | None = None,
) -> TokenizerParts:
    """The GPT-2 pipeline around a BPE model: byte-level in, byte-level out, no normalisation."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    parts = finish(backend, {**GPT2_SPECIAL_TOKENS, **settings}, added, "GPT2Tokenizer")
    if post_processor is not None:
        backend.post_processor = post_processor
    else:
        names = [name for name in ("bos_token", "eos_token") if settings.get(f"add_{name}")]
        added_to_text = {name: parts.special_tokens[name] for name in names if name in parts.special_tokens}
        if added_to_text:
            backend.post_processor = _template(backend, **added_to_text)
    return parts


def _template(
    backend: Tokenizer, bos_token: str | None = None, eos_token: str | None = None
) -> processors.TemplateProcessing:
    """Puts the bos token before each text and the eos token after it."""
    single = [token for token in (bos_token, "$A", eos_token) if token is not None]
    ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys((bos_token, eos_token)) if token is not None]
    return processors.TemplateProcessing(single=single, pair=[*single, "$B:1"], special_tokens=ids)


def finish(
    backend: Tokenizer, settings: Mapping[str, Any], added: Mapping[int, AddedToken], tokenizer_class: str
) -> TokenizerParts:
    """Add to the pipeline the tokens that the files name, and gather the parts."""
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    named, extra = named_tokens(settings), extra_tokens(settings)
    roles = {token_text(value) for value in named.values()}
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    tokens = {token.content: token for _, token in sorted(added.items()) if token.content not in known}
    for token in tokens.values():
        token.special = token.special or token.content in roles
    for value in (*named.values(), *extra):
        if token_text(value) not in known:
            tokens.setdefault(token_text(value), added_token(value, special=True))
    backend.add_tokens(list(tokens.values()))
    padding_side, truncation_side = _sides(settings)
    return TokenizerParts(
        backend=Backend(backend),
        special_tokens={name: token_text(value) for name, value in named.items()},
        extra_special_tokens=[token_text(value) for value in extra],
        tokenizer_class=tokenizer_class,
        model_max_length=_length_limit(settings),
        padding_side=padding_side,
        truncation_side=truncation_side,
        settings={name: settings[name] for name in _KEPT_SETTINGS if name in settings},
    )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Read what `finish` will read, so that an error names the file that it is in."""
    _length_limit(settings)
    _sides(settings)
    for value in (*named_tokens(settings).values(), *extra_tokens(settings)):
        token_text(value)


def named_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens by name: the usual names, then, as in Transformers, any other `..._token` with a string."""
    usual = {name: settings[name] for name in SPECIAL_TOKEN_NAMES if settings.get(name)}
    other = {name: value for name, value in settings.items() if name.endswith("_token") and isinstance(value, str)}
    return usual | {name: value for name, value in other.items() if value}


def extra_tokens(settings: Mapping[str, Any]) -> list[Any]:
    """The special tokens without a name."""
    return tokens_of(settings.get("extra_special_tokens"))


def tokens_of(value: Any) -> list[Any]:
    """`extra_special_tokens` is a list of tokens, or an object that gives each a name."""
    return list(value.values()) if isinstance(value, dict) else list(value or ())


def token_text(value: str | Mapping[str, Any]) -> str:
    """The text of a token, which files give as a string or as an object with flags."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        return str(value["content"])
    raise TokenizerError(f"{value!r} is not a token; it must be a string, or an object with its content")


def added_token(value: str | Mapping[str, Any], **flags: bool) -> AddedToken:
    """The token with its flags; those passed here go before the file's."""
    given = {} if isinstance(value, str) else {name: value[name] for name in TOKEN_FLAGS if name in value}
    return AddedToken(token_text(value), **{**given, **flags})


def _sides(settings: Mapping[str, Any]) -> tuple[Side, Side]:
    """On which sides padding and truncation happen."""
    padding, truncation = settings.get("padding_side", "right"), settings.get("truncation_side", "right")
    return check_side("padding_side", padding), check_side("truncation_side", truncation)


def _length_limit(settings: Mapping[str, Any]) -> int:
    length = settings.get("model_max_length", settings.get("max_len"))
    if length is None:
        return NO_LENGTH_LIMIT
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
        raise TokenizerError(f"model_max_length is {length!r}; it must be a number of tokens")
    return int(min(length, NO_LENGTH_LIMIT))
