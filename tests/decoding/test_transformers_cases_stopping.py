"""The cases of Transformers' tests/generation/test_stopping_criteria.py (The HuggingFace Team, Apache-2.0), rewritten.

The cases for the special tokens of one tokenizer and for byte-fallback vocabularies do not apply to GPT-2.
test_stopping.py compares stop strings with Transformers on arbitrary texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pellucid.decoding import stopping
from pellucid.decoding.history import TokenHistory
from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.stopping import build_stopping
from pellucid.tokenizer import GPT2Tokenizer

NO_LOGITS = np.zeros(0, dtype=np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer.bundled()


def says(tokenizer: GPT2Tokenizer, ids: Sequence[int], prompt_length: int = 1, **options: object) -> str | None:
    """The reason for which a text of these ids ends at its last one."""
    settled = GenerationOptions.from_kwargs({"max_length": 1000, **options})
    history = TokenHistory(ids[:prompt_length])
    for token in ids[prompt_length:]:
        history.append(token)
    return build_stopping(settled, tokenizer.token_bytes).reason(history, NO_LOGITS)


@pytest.mark.parametrize(("length", "reason"), [(5, None), (9, None), (10, "length")])
def test_a_maximum_length_ends_a_text(tokenizer: GPT2Tokenizer, length: int, reason: str | None) -> None:
    assert says(tokenizer, [7] * length, max_length=10) == reason
    assert says(tokenizer, [7] * length, max_length=10, max_time=100.0) == reason


@pytest.mark.parametrize(("elapsed", "reason"), [(0.0, None), (0.2, "length")])
def test_a_maximum_time_ends_a_text(monkeypatch: pytest.MonkeyPatch, elapsed: float, reason: str | None) -> None:
    now = [50.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    rules = build_stopping(GenerationOptions(max_time=0.1), None)
    now[0] += elapsed
    assert rules.reason(TokenHistory([7] * 5), NO_LOGITS) == reason


@pytest.mark.parametrize(("last", "reason"), [(0, "eos"), (1, None)])
def test_an_eos_ends_a_text(tokenizer: GPT2Tokenizer, last: int, reason: str | None) -> None:
    assert says(tokenizer, [7, 7, 7, 7, last], eos_token_id=0) == reason


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("<|im_start|><|im_end|>", True),
        ("<|im_start|><|im_end|<|im_end|>", True),
        (">><|im_start|>>stop", True),
        ("stop", True),
        ("e nd", True),
        ("<|im_start|><|im_end|", False),
        ("<|im_start|><|im_end|<|im_end|", False),
        ("<|im_end|><|im_start|>", False),
        ("<|im_end|<>stop<|im_end|", False),
        ("end", False),
        ("en d", False),
        ("eNd", False),
        ("<|im_end|", False),
        ("|im_end|>", False),
        ("s", False),
    ],
)
def test_stop_strings(tokenizer: GPT2Tokenizer, text: str, is_found: bool) -> None:
    reason = says(tokenizer, tokenizer.encode(text), stop_strings=["<|im_end|>", "stop", "e nd"])
    assert reason == ("stop" if is_found else None)


# Stop strings of characters that the vocabulary splits into bytes; the original cases use other vocabularies.
@pytest.mark.parametrize(
    ("text", "string", "is_found"),
    [("대화 끝", "끝", True), ("작업 완료", "완료", True), ("대화 끝 다음", "끝", False), ("abc 끝!", "끝!", True)],
)
def test_stop_strings_in_pieces_of_characters(tokenizer: GPT2Tokenizer, text: str, string: str, is_found: bool) -> None:
    assert says(tokenizer, tokenizer.encode(text), stop_strings=string) == ("stop" if is_found else None)


@pytest.mark.parametrize(
    ("text", "string", "is_found"),
    [
        ("the end", "end", True),
        ("end of", "end", False),
        ("a", "a", True),
        ("baa", "a", True),
        ("abc", "a", True),  # a single token
        ("abbbbbbb", "a", False),  # several tokens, of which the last does not have it
        ("b", "a", False),
    ],
)
def test_stop_strings_within_a_token(tokenizer: GPT2Tokenizer, text: str, string: str, is_found: bool) -> None:
    assert says(tokenizer, tokenizer.encode(text), stop_strings=string) == ("stop" if is_found else None)


def test_ids_past_the_vocabulary_match_nothing(tokenizer: GPT2Tokenizer) -> None:
    for ids in ([len(tokenizer) + 1024, 1, 2], [1, 2, len(tokenizer) + 1024]):
        assert says(tokenizer, ids, stop_strings="test") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("They completed the challenging puzzle, revealing the hidden image at the end", "stop"),
        ("Today a dragon flew over France", None),
        ("The aroma of freshly baked pizza filled the kitchen", None),
    ],
)
def test_each_row_ends_separately(tokenizer: GPT2Tokenizer, text: str, reason: str | None) -> None:
    ids = tokenizer.encode(text)
    assert says(tokenizer, ids, max_length=20, stop_strings=["end"]) == reason
    assert says(tokenizer, ids[:-1], max_length=20, stop_strings=["end"]) is None
