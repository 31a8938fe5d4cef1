"""Building a tokenizer from its files' contents: BPE model, pipeline, special tokens, settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from pellucid.errors import TokenizerError
from pellucid.tokenizer.backend import Backend
from pellucid.tokenizer.failures import reason_of
from pellucid.tokenizer.parts import GPT2_SPECIAL_TOKENS, TokenizerParts
from pellucid.tokenizer.post_processor import set_bos_and_eos
from pellucid.tokenizer.settings import (
    added_token,
    extra_tokens,
    input_names,
    length_limit,
    named_tokens,
    sides,
    token_text,
)


def parts_from_vocabulary(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], settings: Mapping[str, Any], where: str
) -> TokenizerParts:
    """A byte-level BPE tokenizer from a vocabulary and its merges, best first. Errors name `where`."""
    with damage_in(where):
        return gpt2_parts(build_bpe(vocab, merges, where, where), settings, {})


@contextmanager
def damage_in(where: str | Path) -> Iterator[None]:
    """Turn errors that a damaged file causes into a `TokenizerError` that names it."""
    try:
        yield
    except TokenizerError as error:
        raise error if str(where) in str(error) else TokenizerError(f"{where}: {error}") from None
    except KeyError as error:
        raise TokenizerError(f"{where} is damaged or incomplete: it has no {error}") from error
    except BaseException as error:
        raise TokenizerError(f"{where} is damaged: {reason_of(error)}") from error


def build_bpe(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], vocab_source: str | Path, merge_source: str | Path
) -> BPE:
    """The BPE model. Raises `TokenizerError` naming the source that is damaged."""
    if not isinstance(vocab, Mapping) or not all(
        type(token_id) is int and token_id >= 0 for token_id in vocab.values()
    ):
        raise TokenizerError(f"{vocab_source}: the vocabulary must map each token to an id, a whole number from 0")
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError(f"{vocab_source}: two tokens of the vocabulary share one id")
    pairs = merge_pairs(vocab, merges, merge_source)
    with damage_in(merge_source):
        return BPE(vocab=dict(vocab), merges=pairs)


def merge_pairs(
    vocab: Mapping[str, int], merges: Iterable[str | Sequence[str]], where: str | Path, prefix: str = ""
) -> list[tuple[str, str]]:
    """The merges as pairs. Checked here because the library panics on some merges that contradict the vocabulary."""
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
    """The GPT-2 pipeline around a BPE model: byte-level pre-tokenizer and decoder, no normalizer.

    post_processor: that of a file; the settings `add_bos_token` and `add_eos_token` replace it.
    """
    pipeline = Tokenizer(model)
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space")))
    pipeline.decoder = decoders.ByteLevel()
    if post_processor is not None:
        pipeline.post_processor = post_processor
    return finish(pipeline, {**GPT2_SPECIAL_TOKENS, **settings}, added, "GPT2Tokenizer")


def finish(
    pipeline: Tokenizer, settings: Mapping[str, Any], added: Mapping[int, AddedToken], tokenizer_class: str
) -> TokenizerParts:
    """Apply the settings to the pipeline, add the tokens that they name, and gather the parts."""
    pipeline.no_padding()
    pipeline.no_truncation()
    pipeline.encode_special_tokens = bool(settings.get("split_special_tokens"))
    named, extra = named_tokens(settings), extra_tokens(settings)
    roles = {token_text(value) for value in named.values()}
    known = {token.content for token in pipeline.get_added_tokens_decoder().values()}
    tokens = {token.content: token for _, token in sorted(added.items()) if token.content not in known}
    for token in tokens.values():
        token.special = token.special or token.content in roles
    for value in (*named.values(), *extra):
        text = token_text(value)
        # As in Transformers, an AddedToken without a name keeps its own flag.
        is_special = text in roles or not isinstance(value, AddedToken) or value.special
        if text not in known:
            tokens.setdefault(text, added_token(value, special=is_special))
    pipeline.add_tokens(list(tokens.values()))
    special_tokens = {name: token_text(value) for name, value in named.items()}
    if "add_bos_token" in settings or "add_eos_token" in settings:
        around = {name: special_tokens.get(name) for name in ("bos_token", "eos_token") if settings.get(f"add_{name}")}
        set_bos_and_eos(pipeline, around.get("bos_token"), around.get("eos_token"))
    padding_side, truncation_side = sides(settings)
    return TokenizerParts(
        backend=Backend(pipeline),
        special_tokens=special_tokens,
        extra_special_tokens=[token_text(value) for value in extra],
        tokenizer_class=tokenizer_class,
        model_max_length=length_limit(settings),
        padding_side=padding_side,
        truncation_side=truncation_side,
        add_prefix_space=bool(settings.get("add_prefix_space")),
        input_names=input_names(settings),
    )
