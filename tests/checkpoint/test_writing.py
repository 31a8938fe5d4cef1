"""A checkpoint is written as Transformers writes it, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from pellucid.checkpoint import Checkpoint, expected_shapes, open_checkpoint, write_checkpoint
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError
from pellucid.tokenizer import GPT2Tokenizer

CONFIG = GPT2Config(vocab_size=11, n_positions=6, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)


def arrays(checkpoint: Checkpoint) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, checkpoint.take(name)) for name in checkpoint.tensor_names())


def random_arrays(config: GPT2Config = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in expected_shapes(config).items()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "config",
    [{}, {"tie_word_embeddings": False}, {"n_inner": 40, "activation_function": "relu", "layer_norm_epsilon": 1e-3}],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_transformers_loads_it_to_identical_weights_and_logits(
    dtype: str, config: dict[str, Any], saved: Callable, tmp_path: Path
) -> None:
    folder, model = saved(**config)
    checkpoint = open_checkpoint(folder)
    write_checkpoint(tmp_path / "written", checkpoint.config, arrays(checkpoint), dtype=dtype)
    reloaded, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "written", output_loading_info=True)
    assert not any(report.values())
    expected = model.to(getattr(torch, dtype))
    assert reloaded.dtype == expected.dtype
    for name, tensor in expected.state_dict().items():
        assert torch.equal(reloaded.state_dict()[name], tensor), name
    ids = torch.randint(0, 101, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(reloaded.eval()(ids).logits, expected(ids).logits)


def test_the_file_has_the_keys_and_the_metadata_of_save_pretrained(saved: Callable, tmp_path: Path) -> None:
    folder, _ = saved(tie_word_embeddings=False)
    checkpoint = open_checkpoint(folder)
    write_checkpoint(tmp_path / "written", checkpoint.config, arrays(checkpoint))
    ours, theirs = (safe_open(f / "model.safetensors", "pt") for f in (tmp_path / "written", folder))
    with ours, theirs:
        assert set(ours.keys()) == set(theirs.keys())
        assert ours.metadata() == theirs.metadata()


def test_the_config_is_written_back_with_its_unknown_fields(
    saved: Callable, edit_json: Callable, tmp_path: Path
) -> None:
    folder, _ = saved()
    edit_json(folder / "config.json", dtype=None, torch_dtype="float32", architectures=["GPT2Model"], ours=[1])
    checkpoint = open_checkpoint(folder)
    write_checkpoint(tmp_path / "written", checkpoint.config, arrays(checkpoint), dtype="bfloat16")
    written = json.loads((tmp_path / "written" / "config.json").read_text())
    assert written["ours"] == [1] and written["architectures"] == ["GPT2LMHeadModel"]
    assert written["dtype"] == "bfloat16" and "torch_dtype" not in written
    before = json.loads((folder / "config.json").read_text())
    changed = {"torch_dtype", "architectures", "dtype"}
    assert {k: v for k, v in written.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }


def test_shards_are_no_larger_than_asked_and_load_in_transformers(
    saved: Callable, weights_of: Callable, assert_holds: Callable, tmp_path: Path
) -> None:
    folder, model = saved()
    checkpoint = open_checkpoint(folder)
    write_checkpoint(tmp_path / "written", checkpoint.config, arrays(checkpoint), max_shard_size="30KB")
    shards = sorted((tmp_path / "written").glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))
    ]
    assert len(shards) > 2 and all(path.stat().st_size < 30_000 + 3_000 for path in shards)  # plus the header
    index = json.loads((tmp_path / "written" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * checkpoint.config.parameter_count
    assert_holds(tmp_path / "written", weights_of(model))
    reloaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "written")
    assert all(torch.equal(reloaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_tensors_may_come_in_any_order_and_under_transformers_names(
    saved: Callable, weights_of: Callable, assert_holds: Callable, tmp_path: Path
) -> None:
    folder, model = saved()
    given = {f"transformer.{name}": tensor.numpy() for name, tensor in reversed(weights_of(model).items())}
    write_checkpoint(tmp_path / "written", open_checkpoint(folder).config, given)
    assert_holds(tmp_path / "written", weights_of(model))


def test_arrays_of_other_types_and_layouts_are_written_by_value(tmp_path: Path) -> None:
    given: dict[str, np.ndarray] = random_arrays()
    given["wte.weight"] = np.asfortranarray(given["wte.weight"].astype(np.float64))
    given["wpe.weight"] = np.repeat(given["wpe.weight"], 2, axis=0)[::2]
    write_checkpoint(tmp_path / "written", CONFIG, given)
    for name, array in arrays(open_checkpoint(tmp_path / "written")):
        np.testing.assert_array_equal(array, given[name])


def test_tokenizer_and_generation_config_are_written_with_it(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer.bundled()
    write_checkpoint(tmp_path / "m", CONFIG, random_arrays(), tokenizer=tokenizer, generation_config={"max_length": 9})
    checkpoint = open_checkpoint(tmp_path / "m")
    assert checkpoint.generation_config == {"max_length": 9}
    assert checkpoint.tokenizer().encode("a naïve boy") == tokenizer.encode("a naïve boy")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "m").encode("a naïve boy") == tokenizer.encode(
        "a naïve boy"
    )
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "m").max_length == 9


def one_missing(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in tensors.items() if name != "h.1.ln_2.bias"}


def interrupted(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    yield from list(tensors.items())[:5]
    raise KeyboardInterrupt


BAD_WRITES: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], dict[str, Any], str]] = {
    "missing": (one_missing, {}, r"1 tensors of the model are not given, h\.1\.ln_2\.bias first"),
    "unknown": (lambda t: {**t, "score.weight": t["ln_f.bias"]}, {}, r"tensor score\.weight is not part of the model"),
    "tied head": (lambda t: {**t, "lm_head.weight": t["wte.weight"]}, {}, r"tensor lm_head\.weight is not part"),
    "twice": (
        lambda t: [*t.items(), ("transformer.ln_f.bias", t["ln_f.bias"])],
        {},
        r"transformer\.ln_f\.bias is given twice",
    ),
    "misshapen": (
        lambda t: {**t, "wte.weight": t["wte.weight"].T},
        {},
        r"wte\.weight is \[8, 11\]; the model has \[11, 8\]",
    ),
    "too large": (
        lambda t: {**t, "ln_f.bias": t["ln_f.bias"] + 7e4},
        {"dtype": "float16"},
        r"ln_f\.bias holds 7\d+\.?\d*, too large",
    ),
    "unknown type": (dict, {"dtype": "int8"}, "cannot be written as 'int8': choose one of float32, float16, bfloat16"),
    "bad shard size": (dict, {"max_shard_size": "much"}, "max_shard_size is 'much'"),
    "shard size without measure": (dict, {"max_shard_size": "9" * 5000}, "max_shard_size is .999"),
}


@pytest.mark.parametrize(("change", "options", "message"), BAD_WRITES.values(), ids=BAD_WRITES)
def test_a_write_that_fails_leaves_nothing(change: Callable, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(tmp_path / "written", CONFIG, change(random_arrays()), **options)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_model_that_was_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "written", CONFIG, random_arrays())
    before = files(tmp_path / "written")
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "written", CONFIG, interrupted(random_arrays(seed=1)))
    assert files(tmp_path / "written") == before
    assert [path.name for path in tmp_path.iterdir()] == ["written"]


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "written").write_text("precious")
    with pytest.raises(CheckpointError, match="written is a file"):
        write_checkpoint(tmp_path / "written", CONFIG, random_arrays())
    assert (tmp_path / "written").read_text() == "precious"


@pytest.mark.parametrize(("before", "after"), [("1KB", None), (None, None), ("1KB", "2KB")])
def test_writing_over_a_model_deletes_nothing_and_the_new_one_is_loaded(
    before: str | None, after: str | None, tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "written", tmp_path / "fresh"
    write_checkpoint(folder, CONFIG, random_arrays(), max_shard_size=before)
    (folder / "model-of-mine.safetensors").write_text("precious")
    (folder / "pytorch_model.bin").write_text("precious too")
    older = files(folder)
    write_checkpoint(folder, CONFIG, random_arrays(seed=1), max_shard_size=after)
    write_checkpoint(fresh, CONFIG, random_arrays(seed=1), max_shard_size=after)
    assert files(folder) == {**older, **files(fresh)}
    for name, array in arrays(open_checkpoint(folder)):
        np.testing.assert_array_equal(array, random_arrays(seed=1)[name])


def test_shards_are_not_written_where_a_single_file_would_be_loaded_instead(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIG, random_arrays())
    before = files(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds model\.safetensors, which would be loaded in place of"):
        write_checkpoint(tmp_path, CONFIG, random_arrays(seed=1), max_shard_size="1KB")
    assert files(tmp_path) == before


def test_a_checkpoint_can_be_written_over_itself(saved: Callable, weights_of: Callable, assert_holds: Callable) -> None:
    folder, model = saved()
    checkpoint = open_checkpoint(folder)
    write_checkpoint(folder, checkpoint.config, arrays(checkpoint), dtype="bfloat16")
    assert_holds(folder, {name: tensor.bfloat16() for name, tensor in weights_of(model).items()})


def test_parent_folders_are_made(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a" / "b", CONFIG, random_arrays())
    assert open_checkpoint(tmp_path / "a" / "b").config.n_layer == 2
