"""Decoding one id at a time, never half a character."""

from __future__ import annotations

import codecs
import re

from pellucid.tokenizer.arguments import check_id
from pellucid.tokenizer.gpt2_tokenizer import GPT2Tokenizer

# How vocabularies that are not byte-level spell a byte for which they have no token.
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class StreamDecoder:
    """Turns ids into text as they come; each piece holds whole characters only.

    The pieces, `flush()` included, concatenate to `tokenizer.decode(all_ids)`, bytes that are no UTF-8 included:
    those become U+FFFD as soon as no continuation could make a character of them. With a byte-level vocabulary a
    token costs its own bytes, whatever came before; with another one each push decodes the sequence again.
    """

    def __init__(self, tokenizer: GPT2Tokenizer, skip_special_tokens: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skipped_ids = tokenizer.skipped_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []
        self._emitted = ""

    def push(self, token_id: int) -> str:
        """The text that this id completes: empty while a character is still missing bytes."""
        token_id = check_id(token_id)
        if token_id in self._skipped_ids:
            return ""
        if self._tokenizer.is_byte_level:
            return self._utf8.decode(self._tokenizer.token_bytes(token_id))
        return self._push_whole(token_id)

    def flush(self) -> str:
        """What is left at the end of a sequence: U+FFFD for an unfinished character. Ready for the next sequence."""
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
        # A run of tokens for single bytes is text only where the whole run is UTF-8, so its end is waited for.
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
