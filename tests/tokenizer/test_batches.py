"""Calls of the tokenizer: padding, truncation, tensors, and the result object."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import MissingExtraError, TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

from .texts import texts

WALKTHROUGH_TEXTS = ["long long ago, I was a boy, I love", "gpt2.drawio"]
# Output of cell In [8] of the reference walkthrough.
WALKTHROUGH_OUTPUT = """\
{'input_ids': tensor([[ 6511,   890,  2084,    11,   314,   373,   257,  2933,    11,   314,
          1842],
        [50256, 50256, 50256, 50256, 50256,    70,   457,    17,    13, 19334,
           952]]), 'attention_mask': tensor([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]])}"""


@pytest.fixture(scope="module")
def padding_pair(theirs: Any) -> tuple[GPT2Tokenizer, Any]:
    """Both tokenizers with a pad token."""
    ours, other = GPT2Tokenizer.bundled(), copy.deepcopy(theirs)
    ours.pad_token = other.pad_token = "<|endoftext|>"
    return ours, other


def test_the_walkthroughs_batch_prints_as_it_does_there(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.eos_token
    out = tokenizer(WALKTHROUGH_TEXTS, padding=True, return_tensors="pt")
    assert str(out) == WALKTHROUGH_OUTPUT
    assert [tokenizer.decode(row) for row in out.input_ids] == (
        [WALKTHROUGH_TEXTS[0], "<|endoftext|>" * 5 + WALKTHROUGH_TEXTS[1]]
    )


@settings(deadline=None)
@given(
    batch=st.lists(texts, min_size=1, max_size=4),
    padding=st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
    truncation=st.sampled_from([None, False, True, "longest_first", "only_first", "do_not_truncate"]),
    max_length=st.integers(1, 12),
    sides=st.tuples(st.sampled_from(["left", "right"]), st.sampled_from(["left", "right"])),
    multiple=st.sampled_from([None, 4]),
)
def test_padding_and_truncation_are_those_of_transformers(
    padding_pair: tuple[GPT2Tokenizer, Any],
    batch: list[str],
    padding: Any,
    truncation: Any,
    max_length: int,
    sides: tuple[Any, Any],
    multiple: int | None,
) -> None:
    cuts = truncation in (True, "longest_first", "only_first")
    if multiple and cuts and padding not in (False, "do_not_pad"):
        max_length *= multiple  # Transformers accepts only multiples here
    outputs = []
    for tokenizer in padding_pair:
        tokenizer.padding_side, tokenizer.truncation_side = sides
        options = {"padding": padding, "truncation": truncation, "pad_to_multiple_of": multiple}
        # Both warn that padding=True ignores max_length.
        if padding not in (True, "longest") or cuts:
            options["max_length"] = max_length
        outputs.append(dict(tokenizer(batch, **options)))
    assert outputs[0] == outputs[1]


def test_one_text_gives_flat_lists_and_many_give_rows(bundled: GPT2Tokenizer) -> None:
    assert bundled("a b") == {"input_ids": [64, 275], "attention_mask": [1, 1]}
    assert bundled(["a b", "c"]) == {"input_ids": [[64, 275], [66]], "attention_mask": [[1, 1], [1]]}
    assert bundled([]) == {"input_ids": [], "attention_mask": []}
    assert bundled("a b", return_attention_mask=False) == {"input_ids": [64, 275]}


@pytest.mark.parametrize(("kind", "array", "int64"), [("np", np.ndarray, np.int64), ("pt", torch.Tensor, torch.int64)])
@pytest.mark.parametrize(("text", "shape"), [("a b", (1, 2)), ("", (1, 0)), (["a b", "c d"], (2, 2)), ([], (0, 0))])
def test_tensors_are_int64_with_a_batch_axis(
    bundled: GPT2Tokenizer, kind: Any, array: type, int64: Any, text: Any, shape: tuple[int, int]
) -> None:
    for value in bundled(text, return_tensors=kind).values():
        assert isinstance(value, array)
        assert value.dtype == int64
        assert tuple(value.shape) == shape


def test_encode_gives_a_tensor_where_asked(bundled: GPT2Tokenizer) -> None:
    assert bundled.encode("a b", return_tensors="pt").tolist() == [[64, 275]]
    assert bundled.encode("a b c", max_length=2) == [64, 275]


def test_the_result_is_a_dict_with_attributes(bundled: GPT2Tokenizer) -> None:
    out = bundled("a b", return_tensors="pt")
    assert out.input_ids is out["input_ids"]
    assert list(out.keys()) == ["input_ids", "attention_mask"]
    assert [name for name, _ in out.items()] == list({**out})
    assert out.to("cpu") is out
    assert out.to(torch.device("meta")).input_ids.device.type == "meta"
    with pytest.raises(AttributeError, match="no 'token_type_ids', only input_ids, attention_mask"):
        _ = out.token_type_ids


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda out: pickle.loads(pickle.dumps(out))])
def test_the_result_can_be_copied_and_sent(bundled: GPT2Tokenizer, duplicate: Any) -> None:
    out = bundled("a b")
    assert duplicate(out) == out
    assert duplicate(out).input_ids == [64, 275]


def test_padding_without_a_pad_token_is_an_error_that_names_the_remedy(bundled: GPT2Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.pad_token = tokenizer\.eos_token"):
        bundled(["a", "b c"], padding=True)


@pytest.mark.parametrize("kind", ["np", "pt"])
def test_a_ragged_tensor_is_an_error_that_names_the_remedy(bundled: GPT2Tokenizer, kind: Any) -> None:
    with pytest.raises(TokenizerError, match=r"1 to 2 tokens .* padding=True"):
        bundled(["a", "b c"], return_tensors=kind)


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("return_tensors", {"return_tensors": "tf"}),
        ("padding", {"padding": "sometimes"}),
        ("padding_side", {"padding": True, "padding_side": "up"}),
        ("truncation", {"truncation": "only_second", "max_length": 2}),
        ("max_length", {"truncation": True, "max_length": -1}),
        ("pad_to_multiple_of", {"padding": True, "pad_to_multiple_of": 0}),
    ],
)
def test_an_invalid_option_is_an_error(tokenizer: GPT2Tokenizer, named: str, options: dict[str, Any]) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(TokenizerError, match=f"{named} is {options[named]!r}"):
        tokenizer(["a"], **options)


def test_padding_to_an_unknown_maximum_is_an_error(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = int(1e30)
    with pytest.raises(TokenizerError, match="needs max_length"):
        tokenizer(["a"], padding="max_length")


def test_truncation_without_a_length_cuts_to_what_the_model_takes(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.model_max_length = 3
    assert tokenizer("a b c d e", truncation=True).input_ids == tokenizer.encode("a b c")


def test_an_unused_length_gives_a_warning(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.warns(UserWarning, match="max_length has no effect"):
        assert tokenizer(["a b c", "d"], padding=True, max_length=2).input_ids == [[64, 275, 269], [67, 50256, 50256]]


def run_python(code: str) -> Any:
    """Run code in a fresh interpreter; returns the JSON value that it prints."""
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_tokenizing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import json, sys; from pellucid.tokenizer import GPT2Tokenizer; t = GPT2Tokenizer.bundled();"
        "t.decode(t('hello')['input_ids']);"
        "print(json.dumps([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules]))"
    )
    assert run_python(code) == []


def test_tensors_without_torch_are_an_error_that_names_the_extra(
    bundled: GPT2Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # imports fail as if torch were not installed
    with pytest.raises(MissingExtraError, match=r'return_tensors="pt" needs .* pip install "pellucid\[torch\]"'):
        bundled("a", return_tensors="pt")
