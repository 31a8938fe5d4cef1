"""The tokens of a tokenizer: their ids, their bytes, and the special ones by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

from pellucid.errors import TokenizerError
from pellucid.tokenizer.byte_pairs import spelt_bytes
from pellucid.tokenizer.parts import SPECIAL_TOKEN_NAMES, TokenizerParts

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer


class ArrayLike(Protocol):
    """A numpy array or a torch tensor, of any number of axes."""

    def tolist(self) -> Any: ...


# The tokenizers library holds ids in 32 bits.
_ID_LIMIT = 2**32


class _TokenName:
    """`tokenizer.bos_token` and its like: the token's text, None where there is none."""

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
    """`tokenizer.bos_token_id` and its like: the id of the token of that name, None where there is none."""

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
    """Tokens and ids of one tokenizer. Tokens are written in GPT-2's spelling of bytes (`"Ġ"` is a space)."""

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
        self._parts = parts
        self._special_tokens = dict(parts.special_tokens)
        self._extra_special_tokens = list(parts.extra_special_tokens)

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The pipeline in the `tokenizers` library."""
        return self._parts.backend.library

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are strings of bytes. Only a tokenizer.json of another kind of tokenizer has others."""
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
        """Every token and its id, in a dict of the caller's own."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def get_added_vocab(self) -> dict[str, int]:
        """The added tokens and their ids, by id."""
        return {token.content: token_id for token_id, token in sorted(self.added_tokens_decoder.items())}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id: those found in text before anything else is."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    # Special tokens

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The named special tokens that there are: `{"bos_token": "<|endoftext|>", ...}`."""
        usual = {name: self._special_tokens[name] for name in SPECIAL_TOKEN_NAMES if name in self._special_tokens}
        return usual | self._special_tokens

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a name of their own."""
        return list(self._extra_special_tokens)

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, the named ones first."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return self._known_ids(self.all_special_tokens)

    @property
    def skipped_ids(self) -> frozenset[int]:
        """The ids that decoding with `skip_special_tokens=True` leaves out."""
        return self._parts.backend.special_ids()

    def add_tokens(self, tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """Have tokens found whole in text, at new ids at the end where the vocabulary lacks them; returns how many.

        The model needs rows for new ids.
        """
        from tokenizers import AddedToken

        tokens = [tokens] if isinstance(tokens, str | AddedToken) else list(tokens)
        for token in tokens:
            check_text(token.content if isinstance(token, AddedToken) else token, "a token")
        pipeline = self.backend_tokenizer
        return pipeline.add_special_tokens(tokens) if special_tokens else pipeline.add_tokens(tokens)

    def add_special_tokens(self, tokens: Mapping[str, str | Sequence[str]]) -> int:
        """Name special tokens, `{"pad_token": "<pad>"}`, as `add_tokens` does where need be; returns how many."""
        added = 0
        for name, value in tokens.items():
            if name in ("extra_special_tokens", "additional_special_tokens") and not isinstance(value, str):
                added += self.add_tokens(list(value), special_tokens=True)
                self._extra_special_tokens = list(dict.fromkeys([*self._extra_special_tokens, *value]))
            elif name in SPECIAL_TOKEN_NAMES and isinstance(value, str):
                added += self.add_tokens(value, special_tokens=True)
                self._special_tokens[name] = value
            else:
                raise TokenizerError(
                    f"{name}={value!r} names no special token; names are {', '.join(SPECIAL_TOKEN_NAMES)}"
                )
        return added

    def _name_special_token(self, name: str, token: str | AddedToken | None) -> None:
        if token is None:
            self._special_tokens.pop(name, None)
            return
        from tokenizers import AddedToken

        text = token.content if isinstance(token, AddedToken) else token
        check_text(text, name)
        if self.backend_tokenizer.token_to_id(text) is None:
            raise TokenizerError(
                f"{name} cannot be {text!r}: the vocabulary has no such token. "
                f"Choose one that it has, or add it: add_special_tokens({{{name!r}: {text!r}}})"
            )
        self._special_tokens[name] = text

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
        """The token of an id, or of each; None for an id from `len(self)` on, as in Transformers."""
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
        """The id of a token, or of each; for a token the vocabulary lacks the id of `unk_token`, None without one."""
        if isinstance(tokens, str):
            check_text(tokens, "the token")
            token_id = self.backend_tokenizer.token_to_id(tokens)
            return self.unk_token_id if token_id is None else token_id
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text that these tokens spell."""
        decoder = self.backend_tokenizer.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    def _known_ids(self, tokens: Sequence[str]) -> list[int]:
        ids = (self.backend_tokenizer.token_to_id(token) for token in tokens)
        return [token_id for token_id in ids if token_id is not None]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; none for an id from `len(self)` on.

        The bytes of a sequence of ids, one after the other, are the UTF-8 of its text.
        """
        token = self._parts.backend.token(check_id(token_id))
        if token is None:
            return b""
        return spelt_bytes(token) if self.is_byte_level else token.encode()

    def display_token(self, token_id: int) -> str:
        r"""A token for people to read: its text, with bytes that are only part of a character as `\xe2\x80`."""
        return self.token_bytes(token_id).decode("utf-8", errors="backslashreplace")


def as_ids(value: Any) -> Any:
    """Ids from what callers have: an int or a 0-d array gives an int, a sequence a list, a nested one lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping) and "input_ids" in value:
        return as_ids(value["input_ids"])
    if not isinstance(value, list | tuple | range):
        return check_id(value)
    if all(type(item) is int and 0 <= item < _ID_LIMIT for item in value):
        return list(value)
    ids = [as_ids(item) for item in value]
    nested = [isinstance(item, list) for item in ids]
    if any(nested) and not all(nested):
        raise TokenizerError("ids and sequences of ids are mixed in one list")
    return ids


def check_id(value: Any) -> int:
    """The id as an int. Raises `TokenizerError` for what cannot be one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, int) or not 0 <= value < _ID_LIMIT:
        raise TokenizerError(f"{value!r} is not a token id; ids are whole numbers from 0")
    return int(value)


def check_text(text: object, what: str) -> None:
    """Raise `TokenizerError` for what is not text, and for text that is not Unicode."""
    if not isinstance(text, str):
        raise TokenizerError(f"{what} is a {type(text).__name__}, not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"{what} has a lone surrogate (U+{ord(text[error.start]):04X}) at position {error.start}: "
            "half a character, which has no UTF-8. Decode the source with errors='replace', or remove it"
        ) from None
