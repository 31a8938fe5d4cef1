"""The base model without a head, tied or untied, saved and loaded by Transformers and by Pellucid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

import pellucid
from pellucid import GPT2LMHeadModel, GPT2Model
from pellucid.errors import CheckpointError

SIZES = {"vocab_size": 101, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


def theirs(tied: bool) -> transformers.GPT2Model:
    torch.manual_seed(0)
    return transformers.GPT2Model(transformers.GPT2Config(**SIZES, tie_word_embeddings=tied)).eval()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("max_shard_size", ["1GB", "20KB"], ids=["one file", "shards"])
def test_a_base_model_of_transformers_is_loaded_and_saved(tied: bool, max_shard_size: str, tmp_path: Path) -> None:
    model = theirs(tied)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_size)
    ours = GPT2Model.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours", max_shard_size=max_shard_size)
    again = transformers.GPT2Model.from_pretrained(tmp_path / "ours").eval()
    assert ours.config.tie_word_embeddings == tied
    with torch.no_grad():
        expected = model(IDS).last_hidden_state
        assert torch.equal(again(IDS).last_hidden_state, expected)
        torch.testing.assert_close(ours(IDS).last_hidden_state, expected)
        reloaded = GPT2Model.from_pretrained(tmp_path / "ours")
        assert torch.equal(reloaded(IDS).last_hidden_state, ours(IDS).last_hidden_state)


def test_a_base_model_is_saved_without_a_head(tmp_path: Path) -> None:
    theirs(tied=False).save_pretrained(tmp_path / "theirs")
    GPT2Model.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == ["GPT2Model"]
    with safe_open(tmp_path / "ours" / "model.safetensors", "np") as file:
        assert "lm_head.weight" not in list(file.keys())


def test_the_base_of_an_untied_language_model_is_loaded_alone(tmp_path: Path) -> None:
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, tie_word_embeddings=False)).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            GPT2Model.from_pretrained(tmp_path)(IDS).last_hidden_state, model.transformer(IDS).last_hidden_state
        )


@pytest.mark.parametrize("load", [pellucid.load, GPT2LMHeadModel.from_pretrained])
def test_a_language_model_needs_the_head(load: object, tmp_path: Path) -> None:
    theirs(tied=False).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight.*opened with AutoModel"):
        load(tmp_path)  # type: ignore[operator]


def test_a_tied_base_model_is_a_language_model(tmp_path: Path) -> None:
    model = theirs(tied=True)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(IDS).last_hidden_state @ model.wte.weight.T
        torch.testing.assert_close(GPT2LMHeadModel.from_pretrained(tmp_path)(IDS).logits, expected)
