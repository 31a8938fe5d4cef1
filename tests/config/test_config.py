"""The configuration: published sizes, files, and errors that name contradictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from pellucid import GPT2Config
from pellucid.config import PRESETS
from pellucid.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "count"),
    # The sizes in the table of the reference walkthrough; parameters counted from the published checkpoints.
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_a_published_size_has_its_published_number_of_parameters(name: str, count: int) -> None:
    assert PRESETS[name].parameter_count == count


@given(
    heads=st.integers(1, 5),
    head_dim=st.integers(1, 9),
    layers=st.integers(1, 4),
    vocab=st.integers(1, 300),
    positions=st.integers(1, 40),
    inner=st.none() | st.integers(1, 50),
    tied=st.booleans(),
)
def test_parameters_are_counted_as_transformers_builds_them(
    heads: int, head_dim: int, layers: int, vocab: int, positions: int, inner: int | None, tied: bool
) -> None:
    import torch

    fields = {
        "n_head": heads,
        "n_embd": heads * head_dim,
        "n_layer": layers,
        "vocab_size": vocab,
        "n_positions": positions,
        "n_inner": inner,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
    assert GPT2Config(**fields).parameter_count == theirs.num_parameters()


def test_unknown_fields_are_kept_and_written_back(tmp_path: Path) -> None:
    fields = {**GPT2Config(n_layer=2).to_dict(), "summary_type": "cls_index", "task_specific_params": {"a": [1]}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))
    config = GPT2Config.from_json_file(path)
    assert config.extra["summary_type"] == "cls_index"
    assert json.loads(config.to_json()) == fields


def test_a_file_that_transformers_wrote_is_read_with_the_same_meaning(tmp_path: Path) -> None:
    theirs = transformers.GPT2Config(n_embd=48, n_head=3, n_inner=77, activation_function="relu", resid_pdrop=0.0)
    theirs.save_pretrained(tmp_path)
    ours = GPT2Config.from_json_file(tmp_path / "config.json")
    for name in ("n_embd", "n_head", "n_inner", "activation_function", "resid_pdrop", "vocab_size", "eos_token_id"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert transformers.GPT2Config(**ours.to_dict()).to_dict()["n_inner"] == 77


def test_generic_field_names_are_understood() -> None:
    config = GPT2Config.from_dict({"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 5, "n_ctx": 9})
    assert (config.n_embd, config.n_head, config.n_layer, config.n_positions) == (32, 2, 5, 9)
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (32, 2, 5)
    assert config.max_position_embeddings == 9


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_embd": 10, "n_head": 3}, r"n_embd \(10\) is not divisible by n_head \(3\)"),
        ({"n_layer": -1}, "n_layer is -1"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"activation_function": "mish"}, "activation_function is 'mish'.*gelu_new"),
        ({"resid_pdrop": 1.0}, "resid_pdrop is 1.0"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon is 0.0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is <an integer of 1,329 bits>"),
        ({"layer_norm_epsilon": 1e300}, "layer_norm_epsilon is 1e\\+300"),
        ({"initializer_range": float("nan")}, "initializer_range is nan"),
        ({"attn_pdrop": 10**5000}, "attn_pdrop is <an integer"),
        ({"n_positions": 2**31}, "n_positions is 2147483648"),
        ({"eos_token_id": 1.5}, "eos_token_id is 1.5"),
        ({"eos_token_id": [0, 1.5]}, r"eos_token_id is \[0, 1.5\]; it must be a token id"),
        ({"eos_token_id": [True]}, r"eos_token_id is \[True\]"),
        ({"bos_token_id": 2**31}, "bos_token_id is 2147483648"),
        ({"activation_function": "\x1b[2J"}, r"activation_function is '\\x1b\[2J'"),
        ({"model_type": ["x"] * 10**6}, r"model_type is \['x', .*\.\.\.\]"),
        ({"n_embd": "768"}, "n_embd is '768'.*int"),
        ({"n_layer": True}, "n_layer is True"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"add_cross_attention": True}, "add_cross_attention"),
    ],
)
def test_a_contradiction_names_the_field_and_the_reason(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        GPT2Config.from_dict(fields)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "\ufeff{}",
        '{"n_layer": 0}',
        '{"n_layer": 2, "n_layer": 3}',
        '{"x": NaN}',
        '{"layer_norm_epsilon": 1e999}',
        "[" * 100_000,
        '{"x": ' + "[" * 65 + "]" * 65 + "}",
        '{"n_embd": ' + "9" * 5000 + "}",
        '{"n_layer": ' + "9" * 300 + "}",
    ],
    ids=repr,
)
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config.json"):
        GPT2Config.from_json_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config.json cannot be read"):
        GPT2Config.from_json_file(tmp_path / "config.json")


def test_the_configuration_prints_as_in_the_walkthrough() -> None:
    shown = repr(GPT2Config())
    assert shown.startswith('GPT2Config {\n  "activation_function": "gelu_new",')
    assert '  "n_inner": null,\n' in shown
    assert shown.endswith("}")


def test_end_of_text_ids_are_none_one_or_several() -> None:
    ids = [GPT2Config(eos_token_id=eos).eos_token_ids for eos in (None, 7, [7, 9])]
    assert ids == [(), (7,), (7, 9)]
