"""Tokenizer files that load and then fail, hang or explode: a `TokenizerError`, and bounded time and memory."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .conftest import MakeFolder, Train

OTHER_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}


def replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def charsmap(replacement: bytes) -> str:
    return base64.b64encode((0).to_bytes(4, "little") + replacement + b"\0").decode()


@pytest.fixture
def load(train: Train, make_folder: MakeFolder) -> Any:
    """Loads a tokenizer.json with some of its fields changed, as a pipeline of another class than GPT-2's."""

    def build(config: dict[str, Any] = OTHER_CLASS, **changes: Any) -> GPT2Tokenizer:
        folder = make_folder(train(), tokenizer_config=config)
        document = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(document | changes))
        return GPT2Tokenizer.from_folder(folder)

    return build


SEQUENCE_A, SEQUENCE_B = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
PAIR = [SEQUENCE_A, SEQUENCE_B]


def template(single: list[Any], pair: list[Any] = PAIR) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {}}


EXPLODING: list[tuple[dict[str, Any], str]] = [
    ({"normalizer": {"type": "Sequence", "normalizers": [replace({"String": "a"}, "aa")] * 40}}, "normalizer .*longer"),
    ({"normalizer": replace({"String": ""}, "x" * 1000)}, "normalizer .*longer"),
    ({"normalizer": replace({"Regex": "b*"}, "x" * 1000)}, "normalizer .*longer"),
    ({"normalizer": {"type": "Prepend", "prepend": "x" * 100_000}}, "characters before each text"),
    ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(b"x" * 10_000)}}, "normalizer .*longer"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": False,
                                                               "trim_offsets": True, "use_regex": False}] * 40}},
     "pre_tokenizer .*longer"),
    ({"decoder": {"type": "Sequence", "decoders": [replace({"String": "a"}, "aa")] * 40}}, "decoder .*longer"),
    ({"post_processor": template([SEQUENCE_A] * 100_000)}, "repeats the text in single"),
    ({"post_processor": template([SEQUENCE_A], PAIR * 100_000)}, "repeats the text in pair"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), EXPLODING, ids=range(len(EXPLODING)))
def test_a_pipeline_that_multiplies_texts_is_refused(load: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json.*{said}"):
        load(**changes)


def test_a_template_with_an_unknown_token_is_refused(load: Any) -> None:
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, SEQUENCE_A]
    with pytest.raises(TokenizerError, match="adds '<s>', which its special_tokens do not have"):
        load(config={}, post_processor=template(single))


def test_ordinary_normalizers_are_taken(load: Any) -> None:
    steps = [
        {"type": "NFKC"},
        {"type": "Prepend", "prepend": "▁"},
        replace({"String": " "}, "▁"),
        replace({"Regex": " {2,}"}, " "),
    ]
    assert load(normalizer={"type": "Sequence", "normalizers": steps}).encode("the") != []


FAILING: list[dict[str, Any]] = [
    {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}},
    {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}},
    {"pre_tokenizer": {"type": "FixedLength", "length": 0}},  # a panic
    {"normalizer": replace({"Regex": "(x+x+)+y"}, "")},  # more retries than the library allows: a panic
]
CALLS: list[Any] = [
    lambda tokenizer, text: tokenizer.encode(text),
    lambda tokenizer, text: tokenizer([text, text]),
    lambda tokenizer, text: tokenizer(text, truncation=True, max_length=2),
    lambda tokenizer, text: tokenizer.tokenize(text),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("changes", FAILING, ids=range(len(FAILING)))
def test_a_tokenizer_that_fails_only_at_a_text_is_one_error(load: Any, changes: dict[str, Any], call: Any) -> None:
    tokenizer = load(**changes)
    with pytest.raises(TokenizerError, match="failed to encode this text") as caught:
        call(tokenizer, "x" * 40)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "merges.txt"])
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_file_that_never_ends_is_one_error(train: Train, make_folder: MakeFolder, name: str, kind: str) -> None:
    folder: Path = make_folder(train(), split=name == "merges.txt")
    (folder / name).unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    with pytest.raises(TokenizerError, match=f"{name} cannot be read"):
        GPT2Tokenizer.from_folder(folder)
