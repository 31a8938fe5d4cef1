"""The API of Transformers on Pellucid's classes: loading, saving, rules of `generate`, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pellucid import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPT2Tokenizer,
)
from pellucid.errors import ContextLengthError, OptionError

from ..pairs import Pair, left_padded, relative_difference

PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


@pytest.fixture(scope="module")
def folder(pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by Transformers, with the GPT-2 vocabulary and a generation_config.json."""
    _, theirs = pair(vocab_size=50257, n_layer=2, eos_token_id=50256, bos_token_id=50256)
    path = tmp_path_factory.mktemp("checkpoint")
    theirs.generation_config.max_new_tokens = 7
    theirs.generation_config.num_beams = 2
    theirs.save_pretrained(path)
    GPT2Tokenizer.bundled().save_pretrained(path)
    return path


def test_the_auto_classes_read_a_folder_that_transformers_wrote(folder: Path) -> None:
    assert AutoConfig.from_pretrained(folder).n_layer == 2
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    assert (len(tokenizer), tokenizer.padding_side) == (50257, "left")
    base, whole = AutoModel.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(base, GPT2Model)
    assert isinstance(whole, GPT2LMHeadModel)
    assert not base.training
    assert not whole.training
    ids = torch.tensor([PROMPTS[0]])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        hidden = base(ids).last_hidden_state
        assert relative_difference(whole.lm_head(hidden), theirs(ids).logits) < 1e-4
        assert torch.equal(whole(ids).logits, whole.lm_head(hidden))


def test_a_configuration_and_a_tokenizer_need_no_weights(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert AutoConfig.from_pretrained(tmp_path) == AutoConfig.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("a boy") == [64, 2933]


def test_the_configuration_and_the_tokenizer_can_be_read_and_saved_alone(folder: Path, tmp_path: Path) -> None:
    config = GPT2Config.from_pretrained(folder)
    config.save_pretrained(tmp_path)
    assert config == GPT2Config.from_pretrained(tmp_path) == GPT2LMHeadModel.from_pretrained(folder).config
    assert transformers.AutoConfig.from_pretrained(tmp_path).n_layer == 2
    tokenizer = GPT2Tokenizer.from_pretrained(folder, pad_token="<|endoftext|>", use_fast=True)
    tokenizer.save_pretrained(tmp_path)
    assert GPT2Tokenizer.from_pretrained(tmp_path).pad_token_id == 50256
    assert GPT2Tokenizer.from_pretrained("demo").encode("a boy") == [64, 2933]


def test_a_saved_model_loads_in_transformers_to_identical_logits(folder: Path, tmp_path: Path) -> None:
    ours = GPT2LMHeadModel.from_pretrained(folder)
    ours.save_pretrained(tmp_path / "saved")
    first = transformers.AutoModelForCausalLM.from_pretrained(folder)
    second = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        assert torch.equal(first(ids).logits, second(ids).logits)
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "saved")
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert again.generation_config["num_beams"] == 2


def test_a_model_without_its_head_is_saved_and_read_too(folder: Path, tmp_path: Path) -> None:
    base = GPT2Model.from_pretrained(folder)
    base.save_pretrained(tmp_path)
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        expected = transformers.AutoModel.from_pretrained(tmp_path)(ids).last_hidden_state
        assert relative_difference(base(ids).last_hidden_state, expected) < 1e-4
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(ids).last_hidden_state, base(ids).last_hidden_state)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_weights_are_kept_in_the_type_asked_for(folder: Path, tmp_path: Path, dtype: Any) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype)
    assert model.dtype == (torch.bfloat16 if dtype == "bfloat16" else dtype)
    model.save_pretrained(tmp_path)
    stored = GPT2LMHeadModel.from_pretrained(tmp_path, dtype="auto")
    assert stored.dtype == model.dtype
    assert torch.equal(stored.lm_head.weight, model.lm_head.weight)
    assert GPT2LMHeadModel.from_pretrained(tmp_path).dtype == torch.float32
    with pytest.raises(OptionError, match="dtype"):
        GPT2LMHeadModel.from_pretrained(folder, dtype="int3")


def test_the_device_can_be_left_to_the_library(folder: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder, device_map="auto")
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert model.num_parameters() == model.config.parameter_count


def test_load_state_dict_takes_every_form_that_files_have(pair: Callable[..., Pair]) -> None:
    ours, theirs = pair()
    ids = torch.tensor([PROMPTS[0]])
    state = theirs.state_dict()
    base_form = {name.removeprefix("transformer."): t for name, t in state.items() if name != "lm_head.weight"}
    base_form["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    for form in (state, base_form):
        fresh = GPT2LMHeadModel(ours.config).eval()
        assert not fresh.load_state_dict(form).missing_keys
        assert fresh.lm_head.weight is fresh.transformer.wte.weight
        with torch.no_grad():
            assert torch.equal(fresh(ids).logits, ours(ids).logits)
    headless = GPT2Model(ours.config).eval()
    headless.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(headless(ids).last_hidden_state, ours.transformer(ids).last_hidden_state)
    with pytest.raises(RuntimeError, match="h.1.mlp.c_fc.weight"):
        headless.load_state_dict({name: t for name, t in state.items() if "h.1.mlp.c_fc.weight" not in name})


# Each is a call of `generate`: its arguments beside input_ids and attention_mask.
CALLS: list[dict[str, Any]] = [
    {},
    {"max_length": 12},
    {"max_new_tokens": 3},
    {"max_new_tokens": 3, "max_length": 40},
    {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5},
    {"temperature": 0.5, "top_k": 3, "do_sample": False, "max_new_tokens": 5},
    {"eos_token_id": [17, 60], "max_new_tokens": 30},
    {"use_cache": False, "repetition_penalty": 1.0, "max_new_tokens": 4},
]


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_generate_follows_the_rules_of_transformers(pair: Callable[..., Pair], options: dict[str, Any]) -> None:
    ours, theirs = pair()
    ids, mask = left_padded(PROMPTS, pad=0)
    call = {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0, **options}
    got = ours.generate(**call)
    assert got.dtype == torch.int64
    assert torch.equal(got, theirs.generate(**{"do_sample": False, **call}))


def test_generation_config_gives_the_defaults_and_the_call_wins(folder: Path) -> None:
    ours = GPT2LMHeadModel.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([PROMPTS[0]])
    mask = torch.ones_like(ids)
    for options in ({}, {"num_beams": 1}, {"max_new_tokens": 2}, {"max_length": 9}):
        expected = theirs.generate(ids, attention_mask=mask, pad_token_id=50256, **options)
        assert torch.equal(ours.generate(ids, attention_mask=mask, **options), expected), options


def test_padding_is_recognized_by_the_pad_token_without_a_mask(pair: Callable[..., Pair]) -> None:
    ours, theirs = pair()
    ids, mask = left_padded(PROMPTS, pad=210)
    options = {"pad_token_id": 210, "max_new_tokens": 6}
    got = ours.generate(ids, **options)
    assert torch.equal(got, theirs.generate(ids, do_sample=False, **options))
    assert torch.equal(got, ours.generate(ids, attention_mask=mask, **options))


def test_a_padded_prompt_generates_what_it_generates_alone(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids, mask = left_padded(PROMPTS, pad=0)
    for options in ({}, {"num_beams": 3}):
        together = ours.generate(ids, attention_mask=mask, max_new_tokens=8, eos_token_id=-1, **options)
        alone = ours.generate(torch.tensor([PROMPTS[1]]), max_new_tokens=8, eos_token_id=-1, **options)
        assert torch.equal(together[1, 3:], alone[0])


def test_the_seed_of_torch_makes_samples_reproducible(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids = torch.tensor([PROMPTS[0]])
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(ours.generate(ids, do_sample=True, max_new_tokens=10, num_return_sequences=2, eos_token_id=-1))
    assert draws[0].shape == (2, 15)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_top_k_of_50_is_the_default_when_sampling(pair: Callable[..., Pair]) -> None:
    ours, _ = pair(initializer_range=0.02)
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        likeliest = set(ours(ids).logits[0, -1].topk(50).indices.tolist())
    call = {"do_sample": True, "max_new_tokens": 1, "num_return_sequences": 300, "seed": 0}
    assert set(ours.generate(ids, **call)[:, -1].tolist()) <= likeliest
    assert not set(ours.generate(ids, top_k=0, **call)[:, -1].tolist()) <= likeliest


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({}, OptionError, "needs input_ids"),
        ({"input_ids": [5, 6]}, OptionError, r"must be \[batch, seq\]"),
        ({"input_ids": [[5, 6]], "attention_mask": [[1, 0]]}, OptionError, "padded on the right"),
        ({"input_ids": [[5, 6]], "attention_mask": [[1]]}, OptionError, r"attention_mask is \[1, 1\]"),
        ({"input_ids": [[5, 6]], "attention_mask": [[0, 0]]}, OptionError, "the prompt is empty"),
        ({"input_ids": [[5, 600]]}, OptionError, "id 600"),
        ({"input_ids": [[5, 6]], "temprature": 1.0}, OptionError, "no option temprature"),
        ({"input_ids": [[5, 6]], "guidance_scale": 1.3}, OptionError, "guidance_scale=1.3"),
        ({"input_ids": [[5, 6]], "repetition_penalty": -1.3}, OptionError, "repetition_penalty is -1.3"),
        ({"input_ids": [[5, 6]], "max_length": 2}, OptionError, "max_length is 2.*2 tokens"),
        ({"input_ids": [[5] * 64]}, ContextLengthError, "64 positions"),
        ({"input_ids": [[5] * 60], "max_new_tokens": 9}, ContextLengthError, "64 positions"),
    ],
)
def test_a_bad_call_is_one_clear_error(
    pair: Callable[..., Pair], call: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        pair()[0].generate(**call)


def test_the_default_length_is_twenty_more_as_far_as_positions_reach(pair: Callable[..., Pair]) -> None:
    ours, _ = pair(eos_token_id=None)
    assert ours.generate(torch.tensor([[5] * 10])).shape == (1, 30)
    assert ours.generate(torch.tensor([[5] * 60])).shape == (1, 64)
