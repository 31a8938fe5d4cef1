"""Long texts: encoding in parts, so that memory stays bounded, and a bound on the number of ids from the length alone.

A part ends between a letter or digit and a space, a line feed or a CJK full stop or comma. GPT-2's splitting rule has a
word boundary there whatever surrounds it, and BPE never merges over a word boundary, so the ids of the parts are the
ids of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from pellucid.tokenizer.byte_pairs import BYTE_CHARACTERS, spelt_bytes

# Characters in a part: the library takes about 100 bytes of memory for each while it encodes them.
PART_LENGTH = 1 << 16

_SPACES, _STOPS = " \n", "，。"


@dataclass(frozen=True)
class LongTexts:
    """What is known of a pipeline's ids for any text.

    cut: where a text can be cut, None where nowhere. longest_token: the most bytes of text that one id can stand for,
    None where there is no bound.
    """

    cut: re.Pattern[str] | None
    longest_token: int | None

    @classmethod
    def of(cls, pipeline: Tokenizer) -> LongTexts:
        added = list(pipeline.get_added_tokens_decoder().values())
        if not _is_gpt2s(pipeline) or any(token.lstrip or token.rstrip for token in added):
            return cls(None, None)
        vocabulary = pipeline.get_vocab(with_added_tokens=False)
        longest = max(map(len, (*map(spelt_bytes, vocabulary), *(token.content.encode() for token in added))))
        # Bytes without a token are left out of the ids.
        return cls(_cut(pipeline, added), longest if vocabulary.keys() >= BYTE_CHARACTERS else None)

    def parts(self, text: str) -> Iterator[str]:
        """The text in parts of at least `PART_LENGTH` characters, but for the last."""
        start = 0
        while self.cut is not None and (found := self.cut.search(text, start + PART_LENGTH)):
            yield text[start : found.start()]
            start = found.start()
        yield text[start:]


def _is_gpt2s(pipeline: Tokenizer) -> bool:
    """Whether ids are those of byte-level BPE under GPT-2's splitting rule."""
    if pipeline.normalizer is not None or pipeline.pre_tokenizer is None or not isinstance(pipeline.model, BPE):
        return False
    step = json.loads(pipeline.pre_tokenizer.__getstate__())
    return step["type"] == "ByteLevel" and bool(step["use_regex"]) and pipeline.model.dropout is None


def _cut(pipeline: Tokenizer, added: list[AddedToken]) -> re.Pattern[str] | None:
    # With a prefix space, a part that begins with a full stop would get a space.
    characters = _SPACES if pipeline.pre_tokenizer.add_prefix_space else _SPACES + _STOPS
    # An added token that a cut could go through, or that depends on what surrounds it.
    if any(token.single_word or any(c in token.content[1:] for c in characters) for token in added):
        return None
    return re.compile(rf"(?<=[^\W_])[{characters}]")
