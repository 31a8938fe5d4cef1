"""Folders in the Hub's layout without a complete GPT-2: one error says what is wrong, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pellucid.checkpoint import open_checkpoint
from pellucid.errors import CheckpointError, ConfigError


class TestTensorsThatDoNotFit:
    """One error names the folder and every tensor, before any data is read."""

    @pytest.fixture
    def folder_with(self, saved: Callable) -> Callable[..., Path]:
        def change(drop: tuple[str, ...] = (), **tensors: torch.Tensor) -> Path:
            folder, _ = saved()
            stored = load_file(folder / "model.safetensors")
            stored.update({name.replace("__", "."): tensor for name, tensor in tensors.items()})
            kept = {name: tensor for name, tensor in stored.items() if name not in drop}
            save_file(kept, folder / "model.safetensors")
            return folder

        return change

    def error(self, folder: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(folder)
        assert str(folder / "model.safetensors") in str(caught.value)
        return str(caught.value)

    def test_missing(self, folder_with: Callable) -> None:
        message = self.error(folder_with(drop=("transformer.h.1.mlp.c_fc.bias", "transformer.ln_f.weight")))
        assert "missing: h.1.mlp.c_fc.bias, ln_f.weight" in message

    def test_unexpected(self, folder_with: Callable) -> None:
        message = self.error(
            folder_with(transformer__h__2__ln_1__weight=torch.ones(32), score__weight=torch.ones(2, 32))
        )
        assert "unexpected: score.weight [2, 32], transformer.h.2.ln_1.weight [32]" in message

    def test_of_the_wrong_shape(self, folder_with: Callable) -> None:
        message = self.error(folder_with(transformer__wpe__weight=torch.ones(32, 24)))
        assert "of the wrong shape: transformer.wpe.weight is [32, 24], not [24, 32]" in message

    def test_not_of_a_float_type(self, folder_with: Callable) -> None:
        message = self.error(folder_with(transformer__wpe__weight=torch.ones(24, 32, dtype=torch.int8)))
        assert "not of a float type that can be read: transformer.wpe.weight (int8)" in message

    def test_in_one_of_several_shards(self, saved: Callable, edit_json: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        edit_json(folder / "config.json", n_positions=25)
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(folder)
        shard = index["transformer.wpe.weight"]
        assert f"{folder} does not hold" in str(caught.value)
        assert f"transformer.wpe.weight in {shard} is [24, 32], not [25, 32]" in str(caught.value)

    def test_several_at_once(self, folder_with: Callable) -> None:
        folder = folder_with(drop=("transformer.ln_f.bias",), x=torch.ones(1), transformer__wpe__weight=torch.ones(3))
        message = self.error(folder)
        assert "missing: ln_f.bias; unexpected: x [1]; of the wrong shape: transformer.wpe.weight" in message

    def test_a_long_list_is_cut(self, folder_with: Callable, edit_json: Callable) -> None:
        folder = folder_with()
        edit_json(folder / "config.json", n_layer=12)
        message = self.error(folder)
        assert "h.2.ln_1.weight" in message and "and 112 more" in message and len(message) < 1000

    def test_an_enormous_layer_count_gives_a_short_error(self, folder_with: Callable, edit_json: Callable) -> None:
        folder = folder_with()
        edit_json(folder / "config.json", n_layer=2**31 - 1)
        assert "has 28 tensors, but its configuration 2,147,483,647 layers" in self.error(folder)

    def test_the_same_tensor_under_two_keys(self, folder_with: Callable) -> None:
        message = self.error(folder_with(wpe__weight=torch.ones(24, 32)))
        assert "holds wpe.weight twice: as " in message and "as transformer.wpe.weight" in message


class TestFoldersThatAreNotWhole:
    def test_no_config(self, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"saved has no config\.json"):
            open_checkpoint(folder)

    def test_no_config_but_a_file_that_needs_none_is_pointed_at(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt.pt").touch()
        with pytest.raises(CheckpointError, match=r"has no config\.json.*it holds ckpt\.pt: name that file"):
            open_checkpoint(tmp_path)

    def test_no_weights(self, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"saved has no weights: none of model\.safetensors, "):
            open_checkpoint(folder)

    def test_a_config_that_is_not_json(self, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "config.json").write_text("{")
        with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
            open_checkpoint(folder)

    def test_a_generation_config_that_is_not_json(self, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "generation_config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"generation_config\.json is not valid JSON"):
            open_checkpoint(folder)

    def test_a_missing_shard(self, saved: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        shard = sorted(folder.glob("model-00002-*"))[0]
        shard.unlink()
        with pytest.raises(
            CheckpointError, match=rf"{shard.name} is missing: model\.safetensors\.index\.json lists it"
        ):
            open_checkpoint(folder)

    def test_a_tensor_missing_from_its_shard(self, saved: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        shards = sorted(set(index["weight_map"].values()))
        moved = next(name for name, shard in index["weight_map"].items() if shard == shards[0])
        index["weight_map"][moved] = shards[1]
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=rf"{shards[1]} does not hold tensor {moved}"):
            open_checkpoint(folder)

    @pytest.mark.parametrize(
        "shard",
        ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x", "..", "", 3, "x" * 300, "a\0b", "\ud800"],
    )
    def test_an_index_cannot_lead_out_of_its_folder(self, shard: object, saved: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        index = {"weight_map": {"wte.weight": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"puts tensor wte\.weight in .* which is no file name"):
            open_checkpoint(folder)

    def test_an_index_cannot_list_an_index(self, saved: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        index = {"weight_map": {"wte.weight": "model.safetensors.index.json"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json is damaged, or no file of torch"):
            open_checkpoint(folder)

    @pytest.mark.parametrize("token_id", [1.5, "0", [0, None], {}, True, 2**70])
    @pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
    def test_a_generation_config_with_an_invalid_id(self, name: str, token_id: object, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "generation_config.json").write_text(json.dumps({name: token_id}))
        with pytest.raises(CheckpointError, match=rf"generation_config\.json: {name} is .* must be a token id"):
            open_checkpoint(folder)

    @pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
    def test_an_endless_file(self, name: str, saved: Callable) -> None:
        folder, _ = saved()
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        with pytest.raises((CheckpointError, ConfigError), match=rf"{name} cannot be read: it is not a regular file"):
            open_checkpoint(folder)

    def test_an_index_without_a_weight_map(self, saved: Callable) -> None:
        folder, _ = saved(max_shard_size="20KB")
        (folder / "model.safetensors.index.json").write_text("{}")
        with pytest.raises(CheckpointError, match=r"index\.json has no weight_map"):
            open_checkpoint(folder)


def test_a_file_without_a_config_beside_it(saved: Callable) -> None:
    folder, _ = saved()
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors says nothing about .* no config\.json beside it"):
        open_checkpoint(folder / "model.safetensors")


def test_a_file_that_changes_after_it_was_opened_is_not_read(saved: Callable) -> None:
    folder, _ = saved()
    checkpoint = open_checkpoint(folder)
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        checkpoint.take("wte.weight")
