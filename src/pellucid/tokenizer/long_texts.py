"""Long texts: encoding in parts, so that memory stays bounded, and a bound on the number of ids from the length alone.

A part ends between a letter or digit and a space, a line feed or a CJK full stop or comma. GPT-2's splitting rule has a
word boundary there whatever surrounds it, and BPE never merges over a word boundary, so the ids of the parts are the
ids of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tokenizers import Tokenizer
from tokenizers.models import BPE

from pellucid.tokenizer.byte_pairs import BYTE_CHARACTERS, spelt_bytes

# Characters in a part: the library takes about 100 bytes of memory for each while it encodes them.
PART_LENGTH = 1 << 16

_SEPARATORS = " \n，。"


def parts(pipeline: Tokenizer, text: str) -> Iterator[str]:
    """The text in parts of at least `PART_LENGTH` characters, but for the last. Their ids are the text's, one after
    the other."""
    start, cut = 0, _cut(pipeline)
    while cut is not None and (found := cut.search(text, start + PART_LENGTH)):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def longest_token(pipeline: Tokenizer) -> int | None:
    """The most bytes of text that one id can stand for; None where there is no bound."""
    added = pipeline.get_added_tokens_decoder().values()
    if not _is_gpt2s(pipeline) or any(token.lstrip or token.rstrip for token in added):
        return None  # an added token that strips takes any amount of white space with it
    vocabulary = pipeline.get_vocab(with_added_tokens=False)
    if not vocabulary.keys() >= BYTE_CHARACTERS:
        return None  # bytes without a token are left out of the ids
    return max(map(len, (*map(spelt_bytes, vocabulary), *(token.content.encode() for token in added))))


def _is_gpt2s(pipeline: Tokenizer) -> bool:
    """Whether ids are those of byte-level BPE under GPT-2's splitting rule."""
    if pipeline.normalizer is not None or pipeline.pre_tokenizer is None or not isinstance(pipeline.model, BPE):
        return False
    step = json.loads(pipeline.pre_tokenizer.__getstate__())
    return step["type"] == "ByteLevel" and bool(step["use_regex"]) and pipeline.model.dropout is None


def _cut(pipeline: Tokenizer) -> re.Pattern[str] | None:
    """Where a text can be cut, at the beginning of a match; None where no place is safe."""
    if not _is_gpt2s(pipeline):
        return None
    # With a prefix space, a part that begins with anything but a space would get one.
    characters = " " if pipeline.pre_tokenizer.add_prefix_space else _SEPARATORS
    for token in pipeline.get_added_tokens_decoder().values():
        depends_on_surroundings = token.lstrip or token.rstrip or token.single_word
        if depends_on_surroundings or any(character in token.content[1:] for character in characters):
            return None
    return re.compile(rf"(?<=[^\W_])[{characters}]")
