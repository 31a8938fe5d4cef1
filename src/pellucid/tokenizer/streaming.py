"""Decoding one id at a time, in whole characters."""

from __future__ import annotations

import codecs
import re

from pellucid.tokenizer.arguments import check_id
from pellucid.tokenizer.gpt2_tokenizer import GPT2Tokenizer

# A token for a single byte in vocabularies with byte fallback.
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class StreamDecoder:
    """Decodes a sequence id by id, in pieces of whole characters.

    The pieces, with that of `flush()`, concatenate to `tokenizer.decode(all_ids)`. Bytes that are not UTF-8 become
    U+FFFD as soon as no continuation can complete a character. A push takes constant time with a byte-level
    vocabulary; with any other it decodes the whole sequence again.
    """

    def __init__(self, tokenizer: GPT2Tokenizer, skip_special_tokens: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skipped_ids = tokenizer.skipped_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []
        self._emitted = ""

    def push(self, token_id: int) -> str:
        """The text that this id completes; empty while bytes of a character are missing."""
        token_id = check_id(token_id)
        if token_id in self._skipped_ids:
            return ""
        if self._tokenizer.is_byte_level:
            return self._utf8.decode(self._tokenizer.token_bytes(token_id))
        return self._push_whole(token_id)

    def flush(self) -> str:
        """End the sequence: U+FFFD for an incomplete character, else nothing. Another sequence may follow."""
        if self._tokenizer.is_byte_level:
            return self._utf8.decode(b"", final=True)
        rest = self._decode_all()[len(self._emitted) :]
        self._ids, self._emitted = [], ""
        return rest

    def _push_whole(self, token_id: int) -> str:
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:
            return ""
        self._ids.append(token_id)
        # A run of byte tokens is decoded as a whole, so its text is not known before its end.
        if _BYTE_TOKEN.fullmatch(token):
            return ""
        text = self._decode_all()
        if not text.startswith(self._emitted):
            return ""
        piece = text[len(self._emitted) :]
        self._emitted = text
        return piece

    def _decode_all(self) -> str:
        return self._tokenizer.decode(self._ids)
