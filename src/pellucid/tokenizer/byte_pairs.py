"""GPT-2's byte-pair encoding of ASCII text in pure Python, used until the `tokenizers` library is needed.

Source: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019), section 2.2, and OpenAI's
`encoder.py`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"


def _byte_of_character() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable bytes are the same characters, the others are those from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + rank): byte for rank, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()

BYTE_CHARACTERS = frozenset(_BYTE_OF_CHARACTER)

# The tokens of single bytes, in the order of their ids.
_CHARACTERS = tuple(_BYTE_OF_CHARACTER)
_ID_OF_BYTE = {byte: token_id for token_id, byte in enumerate(_BYTE_OF_CHARACTER.values())}

# GPT-2's pre-tokenizer: no token crosses a boundary of these words. OpenAI's pattern has \p{L} and \p{N}, which
# Python's `re` lacks. In ASCII, and only there, this pattern is equivalent.
_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)

# Encoding a word takes time quadratic in its length.
_LONGEST_WORD = 64


def spelt_bytes(token: str) -> bytes:
    """The bytes of a token from its spelling."""
    try:
        return bytes(map(_BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError:  # an added token, which is not in GPT-2's spelling
        return token.encode()


class BytePairs:
    """OpenAI's vocabulary, derived from its merges: the tokens of the 256 bytes, one token per merge in order of rank,
    and `<|endoftext|>`."""

    def __init__(self, merges: list[bytes]) -> None:
        """merges: pairs of tokens in GPT-2's spelling, best first, as bytes: `"Ġ t".encode()`. Bytes are quicker to
        read than strings."""
        self._merges = merges
        self._rank = dict(zip(merges, range(len(merges)), strict=True))

    @classmethod
    def read(cls, path: Path) -> BytePairs:
        """Read OpenAI's `vocab.bpe`: a line with the version, then one merge per line."""
        return cls(path.read_bytes().split(b"\n")[1:-1])

    def __len__(self) -> int:
        return len(_CHARACTERS) + len(self._merges) + 1

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`, the last one."""
        return len(self) - 1

    @property
    def longest_token(self) -> int:
        """The number of bytes of the longest token."""
        return max(len(merge.decode()) - 1 for merge in self._merges)

    def token(self, token_id: int) -> str | None:
        """The token of an id, in GPT-2's spelling; None for an id without a token."""
        if token_id < len(_CHARACTERS):
            return _CHARACTERS[token_id]
        rank = token_id - len(_CHARACTERS)
        if rank < len(self._merges):
            return self._merges[rank].decode().replace(" ", "")
        return END_OF_TEXT if rank == len(self._merges) else None

    def token_bytes(self, token_id: int) -> bytes:
        return spelt_bytes(self.token(token_id) or "")

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """The text of ids. Bytes that are not UTF-8 become U+FFFD."""
        skipped = self.end_of_text if skip_special_tokens else None
        kept = [token_id for token_id in ids if token_id != skipped]
        return b"".join(map(self.token_bytes, kept)).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int] | None:
        """The ids of an ASCII text without `<|endoftext|>` and without words of more than 64 characters; None for any
        other text."""
        if not text.isascii() or END_OF_TEXT in text:
            return None
        words = _WORD.findall(text)
        if max(map(len, words), default=0) > _LONGEST_WORD:
            return None
        return [token_id for word in words for token_id in self._encode_word(word)]

    def _encode_word(self, word: str) -> list[int]:
        """Start from the tokens of the bytes, and merge the adjacent pair of the best rank until none is left."""
        ids = [_ID_OF_BYTE[byte] for byte in word.encode()]
        tokens = [_CHARACTERS[token_id].encode() for token_id in ids]
        none = len(self._merges)
        while len(tokens) > 1:
            ranks = [self._rank.get(left + b" " + right, none) for left, right in pairwise(tokens)]
            best = min(ranks)
            if best == none:
                break
            place = ranks.index(best)
            tokens[place : place + 2] = [tokens[place] + tokens[place + 1]]
            ids[place : place + 2] = [len(_CHARACTERS) + best]
        return ids
