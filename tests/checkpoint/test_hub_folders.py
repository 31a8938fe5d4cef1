"""Folders in the Hub's layout give the weights that Transformers wrote, or would read."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pellucid.checkpoint import Checkpoint, canonical_name, expected_shapes, open_checkpoint
from pellucid.config import PRESETS, GPT2Config
from pellucid.errors import CheckpointError, TokenizerError

CONFIGS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "one head, one layer, one token": {"n_head": 1, "n_layer": 1, "vocab_size": 1},
    "narrow MLP": {"n_inner": 7},
}

sizes = st.integers(1, 6)


@st.composite
def configs(draw: st.DrawFn) -> GPT2Config:
    n_head = draw(sizes)
    return GPT2Config(
        vocab_size=draw(sizes),
        n_positions=draw(sizes),
        n_embd=n_head * draw(sizes),
        n_layer=draw(sizes),
        n_head=n_head,
        n_inner=draw(st.none() | sizes),
        tie_word_embeddings=draw(st.booleans()),
    )


@given(configs())
def test_expected_shapes_sum_to_the_parameter_count(config: GPT2Config) -> None:
    assert sum(np.prod(shape) for shape in expected_shapes(config).values()) == config.parameter_count


@pytest.mark.parametrize("name", PRESETS)
def test_expected_shapes_are_those_of_transformers_for_the_published_sizes(name: str) -> None:
    config = PRESETS[name]
    with torch.device("meta"):
        model = transformers.GPT2Model(transformers.GPT2Config(**config.to_dict()))
    assert expected_shapes(config) == {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_of_save_pretrained_is_read_bit_for_bit(
    config: dict[str, Any], saved: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = saved(**config)
    assert_holds(folder, weights_of(model))


def test_shards_are_read_bit_for_bit(saved: Callable, weights_of: Callable, assert_holds: Callable) -> None:
    folder, model = saved(max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert_holds(folder, weights_of(model))


@pytest.mark.parametrize("prefix", ["", "transformer.", "_orig_mod.transformer.", "module.transformer.", "module."])
def test_the_prefix_of_keys_does_not_matter(
    prefix: str, saved: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = saved()
    save_file({prefix + name: t.clone() for name, t in weights_of(model).items()}, folder / "model.safetensors")
    assert_holds(folder, weights_of(model))


def test_stored_causal_masks_are_dropped(saved: Callable, weights_of: Callable, assert_holds: Callable) -> None:
    folder, model = saved()
    stored = load_file(folder / "model.safetensors")
    for i in range(model.config.n_layer):
        stored[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 24, 24, dtype=torch.uint8).tril()
        stored[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(stored, folder / "model.safetensors")
    assert_holds(folder, weights_of(model))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
def test_every_float_type_is_read_as_float32(
    dtype: torch.dtype, saved: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = saved()
    stored = {name: tensor.to(dtype) for name, tensor in weights_of(model).items()}
    save_file(stored, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.dtype == str(dtype).removeprefix("torch.")
    assert_holds(checkpoint, stored)


def test_the_dtype_is_the_one_that_most_weights_have(saved: Callable, weights_of: Callable) -> None:
    folder, model = saved()
    stored = {n: t if t.dim() == 1 else t.half() for n, t in weights_of(model).items()}
    save_file(stored, folder / "model.safetensors")
    assert open_checkpoint(folder).dtype == "float16"


class TestTheHead:
    """A stored head with a configuration that ties it is handled as in Transformers 5."""

    @staticmethod
    def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
        stored = load_file(folder / "model.safetensors")
        change(stored)
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})

    def test_equal_to_the_embedding_it_is_tied(
        self, saved: Callable, weights_of: Callable, assert_holds: Callable
    ) -> None:
        folder, model = saved()
        self.rewrite(folder, lambda s: s.update({"lm_head.weight": s["transformer.wte.weight"].clone()}))
        checkpoint = open_checkpoint(folder)
        assert checkpoint.config.tie_word_embeddings
        assert_holds(checkpoint, weights_of(model))

    def test_different_from_the_embedding_it_is_kept_and_the_config_corrected(self, saved: Callable) -> None:
        folder, model = saved()
        head = torch.randn(101, 32)
        self.rewrite(folder, lambda s: s.update({"lm_head.weight": head}))
        with pytest.warns(UserWarning, match="lm_head.weight differs from wte.weight"):
            checkpoint = open_checkpoint(folder)
        assert not checkpoint.config.tie_word_embeddings
        reloaded = transformers.GPT2LMHeadModel.from_pretrained(folder)
        np.testing.assert_array_equal(checkpoint.take("lm_head.weight"), reloaded.lm_head.weight.detach())
        np.testing.assert_array_equal(checkpoint.take("wte.weight"), reloaded.transformer.wte.weight.detach())
        assert not torch.equal(reloaded.lm_head.weight, model.lm_head.weight)

    def test_alone_in_the_file_it_is_the_embedding_too(
        self, saved: Callable, weights_of: Callable, assert_holds: Callable
    ) -> None:
        folder, model = saved()
        self.rewrite(folder, lambda s: s.update({"lm_head.weight": s.pop("transformer.wte.weight")}))
        reloaded = transformers.GPT2LMHeadModel.from_pretrained(folder)
        assert torch.equal(reloaded.transformer.wte.weight, model.transformer.wte.weight)
        assert_holds(folder, weights_of(model))

    def test_absent_although_untied_is_an_error_that_says_what_to_do(
        self, saved: Callable, edit_json: Callable
    ) -> None:
        folder, _ = saved()
        edit_json(folder / "config.json", tie_word_embeddings=False)
        with pytest.raises(
            CheckpointError, match=r"missing: lm_head\.weight.*tie_word_embeddings: false.*set it to true"
        ):
            open_checkpoint(folder)

    def test_a_tied_checkpoint_says_where_the_head_is(self, saved: Callable) -> None:
        folder, _ = saved()
        with pytest.raises(CheckpointError, match=r"has no tensor lm_head\.weight; its head is tied: take wte\.weight"):
            open_checkpoint(folder).take("lm_head.weight")


def test_safetensors_are_preferred_to_a_pickle(saved: Callable, weights_of: Callable, assert_holds: Callable) -> None:
    folder, model = saved()
    (folder / "pytorch_model.bin").write_bytes(b"no weights at all")
    assert_holds(folder, weights_of(model))


def test_a_file_is_opened_with_the_config_beside_it(
    saved: Callable, weights_of: Callable, assert_holds: Callable
) -> None:
    folder, model = saved()
    renamed = folder / "other name.safetensors"
    shutil.move(folder / "model.safetensors", renamed)
    checkpoint = open_checkpoint(renamed)
    assert checkpoint.path == renamed
    assert_holds(checkpoint, weights_of(model))


def test_arrays_are_the_callers_own(saved: Callable, assert_holds: Callable, weights_of: Callable) -> None:
    folder, model = saved()
    checkpoint = open_checkpoint(folder)
    checkpoint.take("wte.weight").fill(0)
    assert_holds(checkpoint, weights_of(model))


def test_name_path_and_generation_config_are_kept(saved: Callable) -> None:
    folder, model = saved()
    model.generation_config.max_length = 17
    model.save_pretrained(folder)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.name == str(folder) and checkpoint.path == folder
    assert checkpoint.generation_config["max_length"] == 17
    (folder / "generation_config.json").unlink()
    assert open_checkpoint(folder).generation_config == {}


def test_unknown_fields_of_the_config_are_kept(saved: Callable, edit_json: Callable) -> None:
    folder, _ = saved()
    edit_json(folder / "config.json", a_field_of_ours={"x": 1})
    assert open_checkpoint(folder).config.extra["a_field_of_ours"] == {"x": 1}


def test_a_folder_without_a_tokenizer_says_so(saved: Callable) -> None:
    folder, _ = saved()
    checkpoint = open_checkpoint(folder)
    assert not checkpoint.has_tokenizer
    with pytest.raises(TokenizerError, match=r"saved has no tokenizer"):
        checkpoint.tokenizer()


def test_a_folder_with_a_tokenizer_loads_its_own(saved: Callable) -> None:
    from pellucid.tokenizer import GPT2Tokenizer

    folder, _ = saved()
    GPT2Tokenizer.bundled().save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.has_tokenizer
    assert checkpoint.tokenizer().encode("long long ago") == GPT2Tokenizer.bundled().encode("long long ago")


def test_opening_reads_no_weights(saved: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.checkpoint.stored import FileSegment

    def refuse(*_: object) -> None:
        raise AssertionError("weights were read")

    folder, _ = saved()
    monkeypatch.setattr(FileSegment, "open", refuse)
    with pytest.raises(AssertionError):
        open_checkpoint(folder).take("wte.weight")


@given(
    st.lists(st.sampled_from(["transformer.", "module.", "_orig_mod."]), max_size=4),
    st.sampled_from([*expected_shapes(GPT2Config(n_layer=2, tie_word_embeddings=False)), "h.0.attn.bias"]),
)
def test_canonical_names_are_what_is_left_without_prefixes(prefixes: list[str], name: str) -> None:
    assert canonical_name("".join(prefixes) + name) == name


def test_loading_a_good_checkpoint_warns_of_nothing(saved: Callable) -> None:
    folder, _ = saved()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(open_checkpoint(folder), Checkpoint)
