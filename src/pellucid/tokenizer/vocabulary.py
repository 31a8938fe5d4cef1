"""The vocabulary of a tokenizer: tokens, ids, bytes, and special tokens by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self, overload

from pellucid.errors import TokenizerError
from pellucid.tokenizer.arguments import ArrayLike, as_ids, check_id, check_text
from pellucid.tokenizer.byte_pairs import spelt_bytes
from pellucid.tokenizer.failures import library_call
from pellucid.tokenizer.parts import SPECIAL_TOKEN_NAMES, TokenizerParts
from pellucid.tokenizer.settings import added_token, token_text

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer


class _TokenName:
    """Attribute for a special token, such as `tokenizer.bos_token`: its text, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, vocabulary: None, owner: type) -> Self: ...
    @overload
    def __get__(self, vocabulary: Vocabulary, owner: type) -> str | None: ...
    def __get__(self, vocabulary: Vocabulary | None, owner: type) -> Self | str | None:
        return self if vocabulary is None else vocabulary.special_tokens_map.get(self.name)

    def __set__(self, vocabulary: Vocabulary, token: str | AddedToken | None) -> None:
        vocabulary._name_special_token(self.name, token)


class _TokenIdName:
    """Attribute for the id of a special token, such as `tokenizer.bos_token_id`: an int, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.removesuffix("_id")

    @overload
    def __get__(self, vocabulary: None, owner: type) -> Self: ...
    @overload
    def __get__(self, vocabulary: Vocabulary, owner: type) -> int | None: ...
    def __get__(self, vocabulary: Vocabulary | None, owner: type) -> Self | int | None:
        if vocabulary is None:
            return self
        token = vocabulary.special_tokens_map.get(self.name)
        return None if token is None else vocabulary.backend_tokenizer.token_to_id(token)

    def __set__(self, vocabulary: Vocabulary, token_id: int | None) -> None:
        token = None if token_id is None else vocabulary.convert_ids_to_tokens(token_id)
        if token_id is not None and token is None:
            raise TokenizerError(f"{self.name}_id cannot be {token_id}: no token has that id")
        vocabulary._name_special_token(self.name, token)


class Vocabulary:
    """The tokens and ids of a tokenizer. Tokens are in GPT-2's spelling, one character a byte (`"Ġ"` is a space)."""

    bos_token = _TokenName()
    eos_token = _TokenName()
    unk_token = _TokenName()
    sep_token = _TokenName()
    pad_token = _TokenName()
    cls_token = _TokenName()
    mask_token = _TokenName()
    bos_token_id = _TokenIdName()
    eos_token_id = _TokenIdName()
    unk_token_id = _TokenIdName()
    sep_token_id = _TokenIdName()
    pad_token_id = _TokenIdName()
    cls_token_id = _TokenIdName()
    mask_token_id = _TokenIdName()

    def __init__(self, parts: TokenizerParts) -> None:
        if not isinstance(parts, TokenizerParts):
            raise TokenizerError(
                f"{type(self).__name__} is made by from_folder(folder), from_vocabulary(vocab, merges) or bundled()"
            )
        self._parts = parts
        self._special_tokens = dict(parts.special_tokens)
        self._extra_special_tokens = list(parts.extra_special_tokens)

    def __getattr__(self, name: str) -> str | int | None:
        """Special tokens under names of the tokenizer's own: `tokenizer.image_token`, `tokenizer.image_token_id`."""
        named: Mapping[str, str] = self.__dict__.get("_special_tokens", {})
        if (token := named.get(name.removesuffix("_id"))) is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{self._near(name)}")
        return self.backend_tokenizer.token_to_id(token) if name.endswith("_id") else token

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises `TokenizerError` for a public name that is no attribute, which would be ignored."""
        if name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        elif name in self._special_tokens:
            self._name_special_token(name, value)
        else:
            raise TokenizerError(f"a tokenizer has no attribute {name}{self._near(name)}")

    def _near(self, name: str) -> str:
        near = get_close_matches(name, [known for known in dir(type(self)) if not known.startswith("_")], n=1)
        return f"; did you mean {near[0]}?" if near else ""

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The pipeline in the `tokenizers` library."""
        return self._parts.backend.library

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are strings of bytes, as GPT-2's are; a `tokenizer.json` may hold another kind."""
        return self._parts.backend.is_byte_level

    def __len__(self) -> int:
        """The number of tokens, added ones included."""
        return len(self._parts.backend)

    def __bool__(self) -> bool:
        return True

    @property
    def vocab_size(self) -> int:
        """The number of tokens without the added ones."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=False)

    @property
    def vocab(self) -> dict[str, int]:
        """The same as `get_vocab()`."""
        return self.get_vocab()

    def get_vocab(self) -> dict[str, int]:
        """The id of every token, as a new dict."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def get_added_vocab(self) -> dict[str, int]:
        """The added tokens and their ids, by id."""
        return {token.content: token_id for token_id, token in sorted(self.added_tokens_decoder.items())}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id. Encoding finds them in a text before it splits the text."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    # Special tokens

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by name: `{"bos_token": "<|endoftext|>", ...}`. Names without a token are left out."""
        usual = {name: self._special_tokens[name] for name in SPECIAL_TOKEN_NAMES if name in self._special_tokens}
        return usual | self._special_tokens

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a name of their own."""
        return list(self._extra_special_tokens)

    @extra_special_tokens.setter
    def extra_special_tokens(self, tokens: Sequence[str | AddedToken]) -> None:
        if not isinstance(tokens, list | tuple):
            raise TokenizerError(f"extra_special_tokens is {tokens!r}; it must be a list of tokens")
        self._extra_special_tokens = [self._known_token("extra_special_tokens", token) for token in tokens]

    @property
    def all_special_tokens(self) -> list[str]:
        """All special tokens without duplicates, the named ones first."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return self._known_ids(self.all_special_tokens)

    @property
    def skipped_ids(self) -> frozenset[int]:
        """The ids that `skip_special_tokens=True` leaves out of a decoded text."""
        return self._parts.backend.special_ids()

    def add_tokens(self, tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """Find these tokens whole in text; returns how many were new to the vocabulary and got ids at its end.

        The model needs embeddings for new ids: `model.resize_token_embeddings(len(tokenizer))`.
        """
        listed = list(tokens) if isinstance(tokens, list | tuple) else [tokens]
        for token in listed:
            check_text(token_text(token), "a token")
        pipeline = self.backend_tokenizer
        return pipeline.add_special_tokens(listed) if special_tokens else pipeline.add_tokens(listed)

    def add_special_tokens(
        self,
        tokens: Mapping[str, str | AddedToken | Sequence[str | AddedToken]],
        replace_extra_special_tokens: bool = True,
    ) -> int:
        """Name special tokens, `{"pad_token": "<pad>"}`, and add those that the vocabulary lacks; returns how many.

        replace_extra_special_tokens: whether `extra_special_tokens` replaces the list that there was.
        """
        named, extra = self._special_tokens_to_add(tokens)
        listed = [added_token(token, special=True) for token in (*named.values(), *extra)]
        added = self.add_tokens(listed, special_tokens=True)
        self._special_tokens |= {name: token_text(token) for name, token in named.items()}
        if extra:
            kept = [] if replace_extra_special_tokens else self._extra_special_tokens
            self._extra_special_tokens = list(dict.fromkeys([*kept, *map(token_text, extra)]))
        return added

    def _special_tokens_to_add(self, tokens: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """The tokens with a name, and those without."""
        named: dict[str, Any] = {}
        extra: list[Any] = []
        for name, value in tokens.items():
            if name in ("extra_special_tokens", "additional_special_tokens") and isinstance(value, list | tuple):
                extra += value
            elif name in SPECIAL_TOKEN_NAMES or name in self._special_tokens:
                named[name] = value
            else:
                raise TokenizerError(
                    f"{name}={value!r} names no special token; names are {', '.join(SPECIAL_TOKEN_NAMES)}, and "
                    "extra_special_tokens for a list of others"
                )
        for token in (*named.values(), *extra):
            token_text(token)
        return named, extra

    def _name_special_token(self, name: str, token: str | AddedToken | None) -> None:
        if token is None:
            self._special_tokens.pop(name, None)
        else:
            self._special_tokens[name] = self._known_token(name, token)

    def _known_token(self, name: str, token: str | AddedToken) -> str:
        """The text of a token that the vocabulary has. Raises `TokenizerError` where it has not."""
        text = token_text(token)
        check_text(text, name)
        if self.backend_tokenizer.token_to_id(text) is None:
            value = [text] if name == "extra_special_tokens" else text
            raise TokenizerError(
                f"{name} cannot be {text!r}: the vocabulary has no such token. "
                f"Choose one that it has, or add it: add_special_tokens({{{name!r}: {value!r}}})"
            )
        return text

    # Ids and tokens

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str | None: ...
    @overload
    def convert_ids_to_tokens(
        self, ids: Sequence[int] | ArrayLike, skip_special_tokens: bool = False
    ) -> list[str | None]: ...
    def convert_ids_to_tokens(
        self, ids: int | Sequence[int] | ArrayLike, skip_special_tokens: bool = False
    ) -> str | list[str | None] | None:
        """The token of an id, or of each of several ids; None for an id without a token, as in Transformers."""
        converted = as_ids(ids)
        if isinstance(converted, int):
            return self._parts.backend.token(converted)
        if converted and isinstance(converted[0], list):
            raise TokenizerError("convert_ids_to_tokens takes one sequence of ids, not a batch: call it on each row")
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self._parts.backend.token(token_id) for token_id in converted if token_id not in skipped]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str] | tuple[str, ...]) -> int | list[int | None] | None:
        """The id of a token, or of each of several. An unknown token has the id of `unk_token`, or None without one."""
        if isinstance(tokens, str):
            check_text(tokens, "the token")
            token_id = self.backend_tokenizer.token_to_id(tokens)
            return self.unk_token_id if token_id is None else token_id
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of these tokens."""
        decoder = self.backend_tokenizer.decoder
        with library_call("decode tokens"):
            return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    def _known_ids(self, tokens: Sequence[str]) -> list[int]:
        ids = (self.backend_tokenizer.token_to_id(token) for token in tokens)
        return [token_id for token_id in ids if token_id is not None]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; empty for an id without a token.

        The bytes of the ids of a text, concatenated, are the UTF-8 of the text.
        """
        token = self._parts.backend.token(check_id(token_id))
        if token is None:
            return b""
        return spelt_bytes(token) if self.is_byte_level else token.encode()

    def display_token(self, token_id: int) -> str:
        r"""A token to display: its text, with bytes that are only part of a character as escapes (`\xe2\x80`)."""
        return self.token_bytes(token_id).decode("utf-8", errors="backslashreplace")
