"""Tokenizers on disk: all file layouts, settings, saving, and damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, processors

from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .conftest import ASSETS, MakeFolder, Train

TEXTS = [
    "the quick brown fox doesn't",
    " a<|endoftext|>b",
    "x <s> y<pad>z <a> q  <b> r",
    "quick fox words word WORD",
    "日本語 🙂\n\n\t é\x00",
    "",
]


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"content": content, **plain, **flags}


def assert_same(ours: GPT2Tokenizer, theirs: Any) -> None:
    """Assert equality of everything that is read from a folder."""
    for text in TEXTS:
        for special in (True, False):
            assert ours.encode(text, add_special_tokens=special) == theirs.encode(text, add_special_tokens=special)
        ids = ours.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.encode(text, truncation=True, max_length=4) == theirs.encode(text, truncation=True, max_length=4)
    assert ours.vocab == theirs.get_vocab()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.all_special_ids == theirs.all_special_ids
    for name in ("padding_side", "truncation_side", "model_max_length", "vocab_size", "extra_special_tokens"):
        assert getattr(ours, name) == getattr(theirs, name), name


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "nothing": {},
    "prefix space": {"tokenizer_config": {"add_prefix_space": True}},
    "bos added to text": {"tokenizer_config": {"add_bos_token": True}},
    "bos and eos added to text": {"tokenizer_config": {"add_bos_token": True, "add_eos_token": True}},
    "sides and length": {
        "tokenizer_config": {"padding_side": "left", "truncation_side": "left", "model_max_length": 64}
    },
    "length by its older name": {"tokenizer_config": {"max_len": 17}},
    "special tokens as strings": {"tokenizer_config": {"bos_token": "<s>", "pad_token": "<pad>"}},
    "a special token with flags": {
        "tokenizer_config": {"pad_token": {"__type": "AddedToken", **token("<pad>", lstrip=True)}}
    },
    "no special tokens": {"tokenizer_config": dict.fromkeys(["bos_token", "eos_token", "unk_token"])},
    "a special token of another name": {"tokenizer_config": {"image_token": "<a>"}},
    "special tokens kept as text": {"tokenizer_config": {"split_special_tokens": True}},
    "special_tokens_map.json": {
        "tokenizer_config": {"eos_token": "<b>"},
        "special_tokens_map": {
            "bos_token": token("<s>", normalized=True),
            "eos_token": "<|endoftext|>",
            "pad_token": "<pad>",
            "additional_special_tokens": ["<a>", "<b>"],
        },
    },
    "extra special tokens in two files": {
        "tokenizer_config": {"extra_special_tokens": ["<a>"]},
        "special_tokens_map": {"additional_special_tokens": ["<b>"]},  # overridden by the list above
    },
    "a special token listed as an ordinary one": {
        "tokenizer_config": {"added_tokens_decoder": {"330": token("<a>", special=False)}, "pad_token": "<a>"},
    },
    "added_tokens.json": {
        "added_tokens": {"<a>": 330, "quick fox": 331, "<b>": 332},
        "special_tokens_map": {"pad_token": "<a>", "additional_special_tokens": ["<b>"]},
    },
    "an extra special token in added_tokens.json": {
        "added_tokens": {"<b>": 330},
        "tokenizer_config": {"extra_special_tokens": ["<b>"]},
    },
    "added tokens listed with the settings": {
        "tokenizer_config": {
            "added_tokens_decoder": {
                "0": token("<|endoftext|>"),
                "331": token("<b>", rstrip=True),
                "330": token("<a>", lstrip=True),
                "332": token("word", special=False, normalized=True, single_word=True),
            },
            "additional_special_tokens": ["<a>", "<pad>"],
        },
        "special_tokens_map": {"bos_token": "<s>"},  # ignored beside such a list
    },
}


@pytest.mark.parametrize("split", [False, True], ids=["tokenizer.json", "vocab.json with merges.txt"])
@pytest.mark.parametrize("special_tokens", [("<|endoftext|>",), ()], ids=["end of text", "no end of text"])
@pytest.mark.parametrize("files", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_are_read_as_transformers_reads_them(
    train: Train, make_folder: MakeFolder, special_tokens: tuple[str, ...], split: bool, files: Any
) -> None:
    folder = make_folder(train(special_tokens), split=split, **files)
    assert_same(GPT2Tokenizer.from_folder(folder), transformers.AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("split", [False, True], ids=["tokenizer.json", "vocab.json with merges.txt"])
@pytest.mark.parametrize("files", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_saved_tokenizer_is_read_back_the_same_here_and_in_transformers(
    train: Train, make_folder: MakeFolder, tmp_path: Path, split: bool, files: Any
) -> None:
    folder = make_folder(train(), split=split, **files)
    original = GPT2Tokenizer.from_folder(folder)
    written = original.save_pretrained(tmp_path / "saved")
    assert {path.name for path in written} == (
        {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}
    )
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {path.name for path in written}
    shutil.copy(folder / "config.json", tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert_same(original, theirs)
    assert_same(GPT2Tokenizer.from_folder(tmp_path / "saved"), theirs)
    (tmp_path / "saved" / "tokenizer.json").unlink()
    assert_same(GPT2Tokenizer.from_folder(tmp_path / "saved"), theirs)


def with_template(small: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    template = "<|endoftext|> $A"
    small.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<|endoftext|>", 0)])
    return small


def with_added_tokens(small: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    small.add_tokens(["quick fox", tokenizers.AddedToken("<a>", special=True, lstrip=True)])
    return small


def with_lowercase(small: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    small.normalizer = normalizers.Lowercase()
    return small


def with_padding_and_truncation(small: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    small.enable_padding(direction="left", pad_id=0, pad_token="<|endoftext|>")
    small.enable_truncation(3, direction="left")
    return small


@pytest.mark.parametrize("change", [with_template, with_added_tokens, with_lowercase, with_padding_and_truncation])
@pytest.mark.parametrize("tokenizer_class", [None, "GPT2TokenizerFast", "PreTrainedTokenizerFast"])
def test_a_pipeline_in_tokenizer_json_is_read_as_transformers_reads_it(
    train: Train, make_folder: MakeFolder, tmp_path: Path, change: Any, tokenizer_class: str | None
) -> None:
    files = {} if tokenizer_class is None else {"tokenizer_config": {"tokenizer_class": tokenizer_class}}
    folder = make_folder(change(train(add_prefix_space=True)), **files)
    ours = GPT2Tokenizer.from_folder(folder)
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(folder))
    ours.save_pretrained(tmp_path / "saved")
    assert_same(GPT2Tokenizer.from_folder(tmp_path / "saved"), transformers.AutoTokenizer.from_pretrained(folder))


def test_a_class_named_only_in_config_json_counts(train: Train, make_folder: MakeFolder) -> None:
    config = {"model_type": "gpt2", "tokenizer_class": "PreTrainedTokenizerFast"}
    folder = make_folder(train(add_prefix_space=True), config=config)
    ours = GPT2Tokenizer.from_folder(folder)
    assert ours.tokenize("the")[0].startswith("Ġ")
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(folder))


def test_the_hub_files_older_form_of_tokenizer_json_is_read(
    bundled: GPT2Tokenizer, gpt2_folder: Path, tmp_path: Path
) -> None:
    """As published for GPT-2: merges as strings, a model without type, and <|endoftext|> marked as normalized."""
    document = json.loads(bundled.backend_tokenizer.to_str())
    del document["model"]["type"]
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    document["added_tokens"][0]["normalized"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    shutil.copy(gpt2_folder / "config.json", tmp_path)
    assert_same(GPT2Tokenizer.from_folder(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path))


def test_openais_own_files_are_read(bundled: GPT2Tokenizer) -> None:
    tokenizer = GPT2Tokenizer.from_folder(ASSETS)
    assert tokenizer.vocab == bundled.vocab
    assert [tokenizer.encode(text) for text in TEXTS] == [bundled.encode(text) for text in TEXTS]


def test_tokenizer_json_takes_precedence_over_vocabulary_and_merges(train: Train, make_folder: MakeFolder) -> None:
    folder = make_folder(train())
    shutil.copy(ASSETS / "encoder.json", folder / "vocab.json")
    shutil.copy(ASSETS / "vocab.bpe", folder / "merges.txt")
    assert len(GPT2Tokenizer.from_folder(folder)) == train().get_vocab_size()


@pytest.mark.parametrize("add_bos_token", [False, True])
def test_a_vocabulary_and_its_merges_make_a_tokenizer(
    train: Train, make_folder: MakeFolder, add_bos_token: bool
) -> None:
    small = train(("<|endoftext|>", "<pad>"))
    model = json.loads(small.to_str())["model"]
    options: dict[str, Any] = {"pad_token": "<pad>", "add_bos_token": add_bos_token, "add_prefix_space": True}
    folder = make_folder(small, split=True, tokenizer_config=options)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for merges in (model["merges"], [" ".join(pair) for pair in model["merges"]]):
        assert_same(GPT2Tokenizer.from_vocabulary(model["vocab"], merges, **options), theirs)


@pytest.mark.parametrize(
    ("vocab", "merges", "reason"),
    [
        ({"a": 0, "b": 0}, [], "share one id"),
        ({"a": -1}, [], "whole number"),
        ({"a": "0"}, [], "whole number"),
        ({"a": 0}, ["a"], "merge 1 is .* two tokens"),
        ({"a": 0}, [("a", "b", "c")], "merge 1 is .* two tokens"),
        ({"a": 0}, [5], "merge 1 is 5"),
        ({"a": 0}, ["a b"], "has no 'b'"),
        ({"a": 0, "b": 1}, ["a b"], "has no 'ab'"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_an_error(vocab: Any, merges: Any, reason: str) -> None:
    with pytest.raises(TokenizerError, match=f"model.gguf.*{reason}"):
        GPT2Tokenizer.from_vocabulary(vocab, merges, where="model.gguf")


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"has no tokenizer: it needs tokenizer.json, or vocab.json"):
        GPT2Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        GPT2Tokenizer.from_folder(tmp_path)
    with pytest.raises(TokenizerError, match="is not a folder"):
        GPT2Tokenizer.from_folder(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("split", "name", "content"),
    [
        (False, "tokenizer.json", ""),
        (False, "tokenizer.json", "{}"),
        (False, "tokenizer.json", "[]"),
        (False, "tokenizer.json", '{"model": {"type": "BPE"}}'),
        (False, "tokenizer.json", '{"model": {"vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "New"}}'),
        (True, "vocab.json", '{"a": 0'),
        (True, "vocab.json", '["a"]'),
        (True, "vocab.json", '{"a": 0, "b": 0}'),
        (True, "merges.txt", "#version: 0.2\nno such tokens\n"),
        (True, "merges.txt", "#version: 0.2\nnone such\n"),
        (True, "merges.txt", b"\xff\xfe"),
        (True, "tokenizer_config.json", "{"),
        (True, "tokenizer_config.json", '{"padding_side": "up"}'),
        (False, "tokenizer_config.json", '{"model_max_length": "long"}'),
        (False, "tokenizer_config.json", '{"model_max_length": NaN}'),
        (False, "tokenizer_config.json", '{"bos_token": {"lstrip": true}}'),
        (True, "tokenizer_config.json", '{"added_tokens_decoder": {"zero": "a"}}'),
        (True, "tokenizer_config.json", '{"added_tokens_decoder": ["a"]}'),
        (True, "special_tokens_map.json", '{"pad_token": {"lstrip": true}}'),
        (True, "added_tokens.json", '{"a": "b"}'),
        (False, "config.json", "null"),
    ],
)
def test_a_damaged_file_is_one_error_that_names_it(
    train: Train, make_folder: MakeFolder, split: bool, name: str, content: str | bytes
) -> None:
    folder = make_folder(train(), split=split)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError) as caught:
        GPT2Tokenizer.from_folder(folder)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(data=st.data())
def test_a_truncated_tokenizer_json_is_an_error_wherever_it_ends(
    train: Train, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    text = train().to_str()
    folder = tmp_path_factory.mktemp("truncated")
    (folder / "tokenizer.json").write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        GPT2Tokenizer.from_folder(folder)


def test_saving_where_nothing_can_be_written_is_one_error(bundled: GPT2Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TokenizerError, match="could not be written"):
        bundled.save_pretrained(tmp_path / "file" / "folder")


def test_saving_replaces_all_files_of_an_older_tokenizer(
    bundled: GPT2Tokenizer, train: Train, make_folder: MakeFolder
) -> None:
    folder = make_folder(train(), special_tokens_map={"pad_token": "<pad>"}, added_tokens={"<old>": 999})
    bundled.save_pretrained(folder)
    reloaded = GPT2Tokenizer.from_folder(folder)
    assert reloaded.special_tokens_map == bundled.special_tokens_map
    assert reloaded.vocab == bundled.vocab
