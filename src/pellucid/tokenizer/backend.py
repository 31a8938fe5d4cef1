"""Encoding and decoding: the `tokenizers` library, and byte pairs of our own until it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from pellucid.tokenizer.byte_pairs import BytePairs
from pellucid.tokenizer.failures import library_call

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Encoding this many characters with byte pairs takes about as long as the library takes to read OpenAI's vocabulary.
_CHARACTERS_WITHOUT_LIBRARY = 16_384

_IDS_WITHOUT_LIBRARY = 4_096

# Texts of up to this many characters are encoded whole.
_SHORT_TEXT = 1 << 17

# Shared by all tokenizers: one with a lock of its own could not be pickled.
_BUILDING = Lock()


class Backend:
    """The pipeline in the `tokenizers` library.

    With `byte_pairs` the pipeline is built at first need, because that takes a tenth of a second. Until then byte
    pairs encode and decode short plain texts. Afterwards only the pipeline is used, because tokens may be added to it.
    """

    def __init__(
        self,
        library: Tokenizer | None = None,
        *,
        make: Callable[[], Tokenizer] | None = None,
        byte_pairs: BytePairs | None = None,
    ) -> None:
        """library: the pipeline; or make, which builds it, and byte_pairs, used until then."""
        self._library = library
        self._make = make
        self.byte_pairs = byte_pairs
        # Whether tokens are strings of bytes, as GPT-2's are. A tokenizer.json may hold another kind.
        self.is_byte_level = library is None or _is_byte_level(library)
        self._characters_left = _CHARACTERS_WITHOUT_LIBRARY
        self._longest: tuple[int, int | None] | None = None  # by the number of tokens

    @property
    def library(self) -> Tokenizer:
        """The pipeline, built where it has not been."""
        if self._library is None:
            assert self._make is not None
            with _BUILDING:  # two threads must not get two pipelines, of which one would lose added tokens
                if self._library is None:
                    made = self._make()
                    self.byte_pairs = None
                    self._library = made
        return self._library

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The ids of a text."""
        byte_pairs = self.byte_pairs
        if byte_pairs is not None and len(text) <= self._characters_left:
            self._characters_left -= len(text)
            plain = byte_pairs.encode(text)
            if plain is not None:
                return plain
        with library_call("encode this text"):
            if len(text) <= _SHORT_TEXT:
                return self.library.encode(text, add_special_tokens=add_special_tokens).ids
            from pellucid.tokenizer.long_texts import parts

            ids = [
                token_id
                for part in parts(self.library, text)
                for token_id in self.library.encode(part, add_special_tokens=False).ids
            ]
            return self._with_special_tokens(ids) if add_special_tokens else ids

    def _with_special_tokens(self, ids: list[int]) -> list[int]:
        """The ids with those that the post-processor puts around any text."""
        if not self.library.num_special_tokens_to_add(False):
            return ids
        probe = self.library.encode("a", add_special_tokens=False).ids
        around = self.library.encode("a").ids
        start = next(i for i in range(len(around)) if around[i : i + len(probe)] == probe)
        return [*around[:start], *ids, *around[start + len(probe) :]]

    def encodings(
        self, texts: Sequence[str], add_special_tokens: bool, limit: int | None = None, side: str = "right"
    ) -> list[Encoding]:
        """The library's encoding of each text, of at most `limit` ids, special tokens included."""
        library = self.library
        with library_call("encode this text"):
            if limit is None:
                if len(texts) == 1:
                    return [library.encode(texts[0], add_special_tokens=add_special_tokens)]
                return library.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
            # The library's own truncation is a setting of the shared pipeline, so one thread's would reach another's.
            room = limit - (library.num_special_tokens_to_add(False) if add_special_tokens else 0)
            encodings = library.encode_batch_fast(list(texts), add_special_tokens=False)
            for encoding in encodings:
                if len(encoding) > room:
                    encoding.truncate(max(0, room), direction=side)
            return [library.post_process(encoding, add_special_tokens=add_special_tokens) for encoding in encodings]

    def surely_exceeds(self, text: str, limit: int) -> bool:
        """Whether a text has more than `limit` ids, told from its length: False where only encoding can tell."""
        if len(text) <= limit:
            return False
        longest = self._longest_token()
        return longest is not None and len(text.encode()) > limit * longest

    def _longest_token(self) -> int | None:
        size = len(self)
        if self._longest is None or self._longest[0] != size:  # tokens have been added since
            byte_pairs = self.byte_pairs
            if byte_pairs is not None:
                self._longest = size, byte_pairs.longest_token
            else:
                from pellucid.tokenizer.long_texts import longest_token

                self._longest = size, longest_token(self.library)
        return self._longest[1]

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """The text of ids. Bytes that are not UTF-8 become U+FFFD."""
        byte_pairs = self.byte_pairs
        if byte_pairs is None or len(ids) > _IDS_WITHOUT_LIBRARY:
            with library_call("decode these ids"):
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
