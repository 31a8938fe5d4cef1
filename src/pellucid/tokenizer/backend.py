"""What does a tokenizer's work: the `tokenizers` library, or byte pairs until it is needed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from pellucid.tokenizer.byte_pairs import BytePairs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# About as much text as takes byte pairs no longer than the library takes to read OpenAI's vocabulary.
_CHARACTERS_WITHOUT_LIBRARY = 16_384

_IDS_WITHOUT_LIBRARY = 4_096

# One for all: a tokenizer with a lock of its own could not be pickled.
_MAKING = Lock()


class Backend:
    """The pipeline in the `tokenizers` library.

    With `byte_pairs` it is made when it is needed, for that takes a tenth of a second: until then they know the
    tokens and encode short, plain texts. From then on it alone answers, for it may have been given more tokens.
    """

    def __init__(
        self,
        library: Tokenizer | None = None,
        *,
        make: Callable[[], Tokenizer] | None = None,
        byte_pairs: BytePairs | None = None,
    ) -> None:
        """library: the pipeline; or make: what makes it, and byte_pairs: what serves until then."""
        self._library = library
        self._make = make
        self.byte_pairs = byte_pairs
        # Whether tokens are strings of bytes. Only a tokenizer.json of another kind of tokenizer has others.
        self.is_byte_level = library is None or _is_byte_level(library)
        self._characters_left = _CHARACTERS_WITHOUT_LIBRARY

    @property
    def library(self) -> Tokenizer:
        """The pipeline, made where it has not been."""
        if self._library is None:
            assert self._make is not None
            with _MAKING:  # two threads must not get two, to add tokens to
                if self._library is None:
                    made = self._make()
                    self.byte_pairs = None
                    self._library = made
        return self._library

    def encode_plain(self, text: str) -> list[int] | None:
        """The ids of a text where byte pairs can tell, None where the library is to be asked."""
        byte_pairs = self.byte_pairs
        if byte_pairs is None or len(text) > self._characters_left:
            return None
        self._characters_left -= len(text)
        return byte_pairs.encode(text)

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """The text of ids. Bytes that are no UTF-8 become U+FFFD."""
        byte_pairs = self.byte_pairs
        if byte_pairs is None or len(ids) > _IDS_WITHOUT_LIBRARY:
            return self.library.decode(ids, skip_special_tokens=skip_special_tokens)
        return byte_pairs.decode(ids, skip_special_tokens)

    def special_ids(self) -> frozenset[int]:
        """The ids of the special tokens, which decoding can skip."""
        byte_pairs = self.byte_pairs
        if byte_pairs is not None:
            return frozenset((byte_pairs.end_of_text,))
        added = self.library.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    def token(self, token_id: int) -> str | None:
        """The token of an id; None for an id that no token has."""
        byte_pairs = self.byte_pairs
        return self.library.id_to_token(token_id) if byte_pairs is None else byte_pairs.token(token_id)

    def __len__(self) -> int:
        """The number of tokens, added ones included."""
        byte_pairs = self.byte_pairs
        return self.library.get_vocab_size(with_added_tokens=True) if byte_pairs is None else len(byte_pairs)


def _is_byte_level(library: Tokenizer) -> bool:
    from tokenizers.decoders import ByteLevel

    return isinstance(library.decoder, ByteLevel)
