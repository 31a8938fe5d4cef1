"""Settings given when a tokenizer is loaded, or set later: as in Transformers, or an error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from tokenizers import AddedToken, processors

from pellucid import AutoTokenizer
from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .conftest import MakeFolder, Train
from .texts import texts

# Texts on which every setting below has an effect.
PROBES = ["the fox", " the", "", "\n", "a <|endoftext|> <s> b", "<a><img> x<|endoftext|>", "日本 <a>  "]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"add_prefix_space": True},
    {"add_bos_token": True},
    {"add_eos_token": True},
    {"add_bos_token": True, "add_eos_token": True, "add_prefix_space": True},
    {"bos_token": "<s>", "add_bos_token": True},
    {"add_bos_token": False},
    {"split_special_tokens": True},
    {"split_special_tokens": True, "add_eos_token": True},
    {"additional_special_tokens": ["<a>", "<s>"]},
    {"extra_special_tokens": ["<a>"]},
    {"extra_special_tokens": {"image_token": "<img>"}},
    {"pad_token": "<s>", "extra_special_tokens": [AddedToken("<a>", lstrip=True)]},
    {"pad_token": AddedToken("<s>", rstrip=True), "bos_token": "<img>"},
    {"unk_token": None, "sep_token": "<s>", "mask_token": "the"},
    {"padding_side": "left", "truncation_side": "left", "model_max_length": 3, "pad_token": "<|endoftext|>"},
    {"model_input_names": ["input_ids"]},
    {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    {"errors": "replace", "use_fast": False, "trust_remote_code": True, "clean_up_tokenization_spaces": False},
]


def assert_same(ours: Any, theirs: Any) -> None:
    for text in PROBES:
        for special in (True, False):
            assert dict(ours(text, add_special_tokens=special)) == dict(theirs(text, add_special_tokens=special)), text
        assert (
            ours(text, truncation=True, max_length=3).input_ids == theirs(text, truncation=True, max_length=3).input_ids
        )
        ids = theirs.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    names = ("padding_side", "truncation_side", "model_max_length", "extra_special_tokens", "special_tokens_map")
    for name in (*names, "all_special_ids", "split_special_tokens", "add_prefix_space", "model_input_names"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_vocab() == theirs.get_vocab()


@pytest.fixture(params=["vocab.json", "tokenizer.json"])
def folder(request: pytest.FixtureRequest, train: Train, make_folder: MakeFolder) -> Path:
    """A tokenizer as vocabulary and merges, or as a `tokenizer.json` that adds bos."""
    small = train()
    if request.param == "tokenizer.json":
        small.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    return make_folder(small, split=request.param == "vocab.json")


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_setting_works_as_in_transformers_and_survives_saving(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    ours = AutoTokenizer.from_pretrained(folder, **options)
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(folder, **options))
    saved = tmp_path / "saved"
    ours.save_pretrained(saved)
    (saved / "config.json").write_text('{"model_type": "gpt2"}')
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(saved))
    again = AutoTokenizer.from_pretrained(saved)
    assert_same(ours, again)
    assert (again.add_bos_token, again.add_eos_token) == (ours.add_bos_token, ours.add_eos_token)
    if ours.num_special_tokens_to_add() == ours.add_bos_token + ours.add_eos_token:  # not set by tokenizer.json alone
        (saved / "tokenizer.json").unlink()
        assert_same(ours, AutoTokenizer.from_pretrained(saved))


@pytest.mark.parametrize(
    "options",
    [
        {"bos_token": "<s>", "add_bos_token": True, "add_prefix_space": True, "extra_special_tokens": ["<a>"]},
        {"split_special_tokens": True, "add_eos_token": True, "model_input_names": ["input_ids"]},
        {"padding_side": "left", "truncation_side": "left", "model_max_length": 3},
    ],
    ids=str,
)
def test_a_setting_works_on_the_bundled_tokenizer(gpt2_folder: Path, options: dict[str, Any]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(gpt2_folder, **options)
    assert_same(AutoTokenizer.from_pretrained("demo", **options), theirs)


def test_a_prefix_space_makes_the_first_word_like_any_other() -> None:
    assert AutoTokenizer.from_pretrained("demo", add_prefix_space=True).encode("Hello") == [18435]
    assert AutoTokenizer.from_pretrained("demo").encode("Hello") == [15496]


@pytest.fixture(scope="module")
def prefixed(gpt2_folder: Path) -> tuple[GPT2Tokenizer, Any]:
    options: dict[str, Any] = {"add_prefix_space": True, "add_bos_token": True, "extra_special_tokens": ["<a>"]}
    return GPT2Tokenizer.bundled(**options), transformers.AutoTokenizer.from_pretrained(gpt2_folder, **options)


@settings(deadline=None)
@given(text=texts)
def test_settings_hold_for_every_text(prefixed: tuple[GPT2Tokenizer, Any], text: str) -> None:
    assert prefixed[0].encode(text) == prefixed[1].encode(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"add_prefix_spaces": True}, "no argument add_prefix_spaces; did you mean add_prefix_space"),
        ({"paddding_side": "left"}, "did you mean padding_side"),
        ({"padd_token": "x"}, "did you mean pad_token"),
        ({"do_lower_case": True}, "no argument do_lower_case"),
        ({"errors": "strict"}, "does not support errors='strict'"),
        ({"clean_up_tokenization_spaces": True}, "never cleaned up"),
        ({"pad_token_id": 50256}, "give pad_token"),
        ({"max_len": 5}, "give model_max_length"),
        ({"padding": True}, "when you call the tokenizer"),
        ({"cache_dir": "/tmp"}, "HF_HOME"),
        ({"local_files_only": True}, "HF_HUB_OFFLINE"),
        ({"add_prefix_space": "yes"}, "add_prefix_space is 'yes'"),
        ({"add_bos_token": None}, "add_bos_token is None"),
        ({"padding_side": "up"}, "padding_side is 'up'"),
        ({"model_max_length": 0}, "model_max_length is 0"),
        ({"model_input_names": ["ids"]}, "model_input_names"),
        ({"bos_token": 5}, "5 is not a token"),
        ({"extra_special_tokens": "<a>"}, "extra_special_tokens is '<a>'"),
        ({"extra_special_tokens": {"image": "<a>"}}, "must end in _token"),
        ({"extra_special_tokens": [], "additional_special_tokens": []}, "older name"),
    ],
)
def test_a_setting_that_would_be_ignored_is_an_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TokenizerError, match=said):
        AutoTokenizer.from_pretrained("demo", **options)


def test_a_setting_that_a_pipeline_cannot_have_is_an_error(train: Train, make_folder: MakeFolder) -> None:
    folder = make_folder(train(), tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"})
    assert AutoTokenizer.from_pretrained(folder, split_special_tokens=True).split_special_tokens
    with pytest.raises(TokenizerError, match="add_prefix_space cannot be set"):
        AutoTokenizer.from_pretrained(folder, add_prefix_space=True)


@pytest.mark.parametrize("value", ["yes", 1, [True]])
def test_a_flag_in_a_file_that_is_not_true_or_false_is_an_error(
    train: Train, make_folder: MakeFolder, value: Any
) -> None:
    folder = make_folder(train(), tokenizer_config={"add_prefix_space": value})
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json.*add_prefix_space"):
        GPT2Tokenizer.from_folder(folder)


def test_bos_and_eos_can_be_added_and_left_out_at_any_time(tokenizer: GPT2Tokenizer, gpt2_folder: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(gpt2_folder)
    for bos, eos in ((True, False), (True, True), (False, True), (False, False)):
        for each in (tokenizer, theirs):
            each.add_bos_token, each.add_eos_token = bos, eos
        assert (tokenizer.add_bos_token, tokenizer.add_eos_token) == (bos, eos)
        assert tokenizer(["a", "b c"])["input_ids"] == theirs(["a", "b c"])["input_ids"]
        assert tokenizer.num_special_tokens_to_add() == theirs.num_special_tokens_to_add()
    tokenizer.bos_token = None
    with pytest.raises(TokenizerError, match="add_bos_token needs a bos_token"):
        tokenizer.add_bos_token = True


def test_special_tokens_can_be_split_at_any_time(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.split_special_tokens = True
    assert len(tokenizer.encode("<|endoftext|>")) == 7
    tokenizer.split_special_tokens = False
    assert tokenizer.encode("<|endoftext|>") == [50256]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("paddding_side", "left", "did you mean padding_side"),
        ("do_lower_case", True, "no attribute do_lower_case"),
        ("model_max_length", "long", "model_max_length is 'long'"),
        ("add_bos_token", 1, "must be True or False"),
        ("split_special_tokens", None, "must be True or False"),
        ("clean_up_tokenization_spaces", True, "never cleaned up"),
        ("extra_special_tokens", ["<new>"], "add_special_tokens"),
    ],
)
def test_an_attribute_that_would_be_ignored_is_an_error(
    tokenizer: GPT2Tokenizer, name: str, value: Any, said: str
) -> None:
    with pytest.raises(TokenizerError, match=said):
        setattr(tokenizer, name, value)


def test_a_prefix_space_cannot_be_set_later(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(AttributeError, match="add_prefix_space"):
        tokenizer.add_prefix_space = True  # type: ignore[misc]


def test_named_special_tokens_are_attributes(gpt2_folder: Path) -> None:
    options: dict[str, Any] = {"extra_special_tokens": {"image_token": "<img>"}}
    for tokenizer in (
        GPT2Tokenizer.from_folder(gpt2_folder, **options),
        transformers.AutoTokenizer.from_pretrained(gpt2_folder, **options),
    ):
        assert (tokenizer.image_token, tokenizer.image_token_id) == ("<img>", 50257)
        tokenizer.image_token = "Hello"
        assert tokenizer.image_token_id == 15496
    with pytest.raises(AttributeError, match="no attribute 'pad_tokn'; did you mean pad_token"):
        _ = GPT2Tokenizer.bundled().pad_tokn


def test_extra_special_tokens_replace_those_before_as_in_transformers(
    tokenizer: GPT2Tokenizer, gpt2_folder: Path
) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(gpt2_folder)
    for each in (tokenizer, theirs):
        each.add_special_tokens({"additional_special_tokens": ["<a>", AddedToken("<b>", lstrip=True)]})
        each.add_special_tokens({"extra_special_tokens": ["<c>"]})
    assert tokenizer.extra_special_tokens == theirs.extra_special_tokens == ["<c>"]
    for each in (tokenizer, theirs):
        each.add_special_tokens({"extra_special_tokens": ["<a>"]}, replace_extra_special_tokens=False)
        each.extra_special_tokens = [*each.extra_special_tokens, "Hello"]
    assert tokenizer.extra_special_tokens == theirs.extra_special_tokens
    assert tokenizer.encode("x <b> <a>") == theirs.encode("x <b> <a>")


CALLS = [
    ("encode", {"paddding": True}, "did you mean padding"),
    ("encode", {"text_pair": "b"}, "join the two"),
    ("__call__", {"truncate": True}, "did you mean truncation"),
    ("__call__", {"return_offsets_mapping": True}, "offsets"),
    ("__call__", {"return_overflowing_tokens": True}, "windows"),
    ("__call__", {"is_split_into_words": True}, "join the words"),
    ("__call__", {"split_special_tokens": True}, r"tokenizer\.split_special_tokens"),
    ("__call__", {"max_length": True, "truncation": True}, "max_length is True"),
    ("decode", {"skip_special": True}, "did you mean skip_special_tokens"),
    ("batch_decode", {"skip_special_token": True}, "did you mean skip_special_tokens"),
    ("decode", {"use_source_tokenizer": True}, "only one vocabulary"),
    ("save_pretrained", {"push_to_hub": True}, "huggingface_hub"),
    ("save_pretrained", {"prefix": "x"}, "no argument prefix"),
]


@pytest.mark.parametrize(("method", "options", "said"), CALLS)
def test_an_option_of_a_call_that_would_be_ignored_is_an_error(
    bundled: GPT2Tokenizer, tmp_path: Path, method: str, options: dict[str, Any], said: str
) -> None:
    argument: Any = {"decode": [64], "batch_decode": [[64]], "save_pretrained": tmp_path}.get(method, "a")
    with pytest.raises(TokenizerError, match=said):
        getattr(bundled, method)(argument, **options)
    assert not list(tmp_path.iterdir())


def test_options_without_effect_are_accepted(bundled: GPT2Tokenizer, tmp_path: Path) -> None:
    neutral: dict[str, Any] = {"text_pair": None, "stride": 0, "return_length": False, "verbose": False}
    assert bundled("a", **neutral) == bundled("a")
    assert bundled.encode("a", **neutral) == [64]
    bundled.save_pretrained(tmp_path, push_to_hub=False)


def test_encode_pads_as_the_call_does(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.encode("a", padding="max_length", max_length=3, padding_side="left") == [50256, 50256, 64]
    assert tokenizer.encode("a", padding=True, pad_to_multiple_of=2) == [64, 50256]


def test_type_ids_are_zeros(tokenizer: GPT2Tokenizer, theirs: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    out = tokenizer(["a", "b c"], padding=True, return_token_type_ids=True)
    assert list(out) == ["input_ids", "token_type_ids", "attention_mask"]
    assert out.token_type_ids == [[0, 0], [0, 0]]
    assert dict(tokenizer("a", return_token_type_ids=True)) == dict(theirs("a", return_token_type_ids=True))


def test_a_tokenizer_is_not_made_from_paths() -> None:
    with pytest.raises(TokenizerError, match="from_folder"):
        GPT2Tokenizer("vocab.json")  # type: ignore[arg-type]


def test_saved_settings_are_valid_in_a_file(tmp_path: Path) -> None:
    GPT2Tokenizer.bundled(add_bos_token=True, add_prefix_space=True).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (saved["add_bos_token"], saved["add_eos_token"], saved["add_prefix_space"]) == (True, False, True)
