"""The usual lines of GPT-2 programs for Transformers: they work as there, or an error says what to do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import pellucid
from pellucid import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config
from pellucid.errors import ConfigError, OptionError

from ..pairs import Pair

IDS = torch.tensor([[5, 6, 7, 8]])


def test_fields_that_a_model_reads_as_it_runs_can_be_set(pair: Callable[..., Pair]) -> None:
    model, theirs = pair(eos_token_id=17)
    for each in (model, theirs):
        each.config.pad_token_id = each.config.eos_token_id
        assert each.config.pad_token_id == 17
        each.config.use_cache = False
        with torch.no_grad():
            assert each(IDS).past_key_values is None
            each.config.use_cache = True
            assert each(IDS).past_key_values is not None
    batch = torch.tensor([[3, 4], [4, 5]])
    model.config.pad_token_id = 2
    written = model.generate(batch, max_new_tokens=30, eos_token_id=list(range(40)), do_sample=True, seed=1)
    assert {row[-1] for row in written.tolist()} <= {2, *range(40)}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("n_layer", 3, r"built into the model.*config\.replace\(n_layer=3\)"),
        ("layer_norm_epsilon", 1e-3, "built into the model"),
        ("pad_token", "<pad>", "no field pad_token; did you mean pad_token_id"),
        ("output_attentions", True, "arguments of that call"),
        ("pad_token_id", "x", "pad_token_id is 'x'"),
        ("use_cache", 1, "use_cache is 1"),
    ],
)
def test_a_field_that_would_be_ignored_or_cannot_be_is_an_error(
    pair: Callable[..., Pair], name: str, value: Any, said: str
) -> None:
    config = pair()[0].config
    before = config.to_dict()
    with pytest.raises(ConfigError, match=said):
        setattr(config, name, value)
    assert config.to_dict() == before


def test_a_configuration_is_changed_before_a_model_is_built() -> None:
    config = AutoConfig.from_pretrained("demo", n_layer=1, resid_pdrop=0.0)
    config.n_embd, config.n_head, config.vocab_size = 8, 2, 11
    model = AutoModelForCausalLM.from_config(config)
    assert model.config is config
    assert model.num_parameters() == config.parameter_count
    assert AutoModel.from_config(config).h[0].attn.n_head == 2
    wrong = GPT2Config()
    wrong.n_head = 7
    with pytest.raises(ConfigError, match="not divisible"):
        AutoModelForCausalLM.from_config(wrong)
    for duplicate in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.replace()):
        assert duplicate == config


def test_from_pretrained_takes_fields_of_the_configuration() -> None:
    tokenizer = AutoTokenizer.from_pretrained("demo")
    model = AutoModelForCausalLM.from_pretrained("demo", pad_token_id=tokenizer.eos_token_id, use_cache=False)
    assert (model.config.pad_token_id, model.config.use_cache) == (50256, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pad_token": 5}, "did you mean pad_token_id"),
        ({"n_layer": 2}, "decided by the weights"),
        ({"load_in_8bit": True}, 'precision="int8"'),
        ({"cache_dir": "/tmp"}, "HF_HOME"),
        ({"low_cpu_mem_usage": False}, "low_cpu_mem_usage=False"),
        ({"attn_implementation": "flash_attention_2"}, "attn_implementation"),
    ],
)
def test_an_argument_of_from_pretrained_that_would_be_ignored_is_an_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AutoModelForCausalLM.from_pretrained("demo", **options)


def test_arguments_of_from_pretrained_that_ask_for_what_happens_anyway_are_taken() -> None:
    AutoModelForCausalLM.from_pretrained("demo", low_cpu_mem_usage=True, attn_implementation="eager", token=None)


def test_the_generation_config_has_its_options_as_attributes(pair: Callable[..., Pair], tmp_path: Path) -> None:
    model, theirs = pair(eos_token_id=None)
    for each in (model, theirs):
        assert each.generation_config.num_beams is None
        each.generation_config.pad_token_id = 9
        each.generation_config.max_new_tokens = 3
    assert torch.equal(model.generate(IDS), theirs.generate(IDS, do_sample=False))
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.max_new_tokens == 3
    assert model.generate(IDS, generation_config=GenerationConfig(max_new_tokens=2)).shape == (1, 6)
    with pytest.raises(OptionError, match="did you mean max_new_tokens"):
        model.generation_config.max_new_token = 3
    with pytest.raises(AttributeError, match="did you mean pad_token_id"):
        _ = model.generation_config.pad_token
    with pytest.raises(OptionError, match="did you mean max_new_tokens"):
        model.generate(IDS, max_new_token=3)


@pytest.mark.parametrize("arguments", [{}, {"use_cache": True}, {"return_dict": False}], ids=str)
def test_a_cache_object_of_transformers_is_extended_as_there(
    pair: Callable[..., Pair], arguments: dict[str, Any]
) -> None:
    models = pair()
    caches = [transformers.DynamicCache() for _ in models]
    for part in (IDS, torch.tensor([[9]]), torch.tensor([[10, 11]])):
        logits = []
        for model, cache in zip(models, caches, strict=True):
            with torch.no_grad():
                out = model(part, past_key_values=cache, **arguments)
            assert out[1] is cache
            logits.append(out[0])
        torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    assert [cache.get_seq_length() for cache in caches] == [7, 7]
    with torch.no_grad():
        whole = models[0](torch.tensor([[5, 6, 7, 8, 9, 10, 11]])).logits[:, -2:]
    torch.testing.assert_close(logits[0], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [60, 40])
def test_the_vocabulary_can_be_resized(pair: Callable[..., Pair], tied: bool, size: int) -> None:
    model, theirs = pair(vocab_size=50, tie_word_embeddings=tied)
    model, before = copy.deepcopy(model), copy.deepcopy(model)
    assert model.resize_token_embeddings(size) is model.get_input_embeddings()
    copy.deepcopy(theirs).resize_token_embeddings(size)
    assert (model.config.vocab_size, model.lm_head.out_features, model.transformer.wte.num_embeddings) == (size,) * 3
    assert (model.lm_head.weight is model.transformer.wte.weight) == tied
    kept = min(size, 50)
    with torch.no_grad():
        logits, old = model(IDS).logits, before(IDS).logits
    assert logits.shape == (1, 4, size)
    assert torch.equal(logits[..., :kept], old[..., :kept])
    if size > 50:
        torch.testing.assert_close(logits[..., 50], old.mean(-1), rtol=1e-3, atol=1e-4)
    for engine in ("torch", "native"):
        assert model.generate(IDS, max_new_tokens=2, eos_token_id=-1, engine=engine).max() < size


def test_a_new_pad_token_and_its_embedding() -> None:
    tokenizer, model = AutoTokenizer.from_pretrained("demo"), AutoModelForCausalLM.from_pretrained("demo")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "left"
    inputs = tokenizer(["Once upon a time", "The dog"], padding=True, return_tensors="pt").to(model.device)
    written = model.generate(**inputs, max_new_tokens=4, pad_token_id=tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert [text.startswith(start) for text, start in zip(texts, ("Once upon a time", "The dog"), strict=True)] == [
        True,
        True,
    ]


def test_a_loss_and_all_hidden_states_as_in_transformers(pair: Callable[..., Pair]) -> None:
    outputs = [model(IDS, labels=IDS, output_hidden_states=True, output_attentions=True) for model in pair()]
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss, rtol=1e-4, atol=1e-5)
    assert len(outputs[0].hidden_states) == len(outputs[1].hidden_states)
    for ours, theirs in zip(outputs[0].hidden_states, outputs[1].hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    outputs[0].loss.backward()


def test_one_seed_makes_samples_repeat(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    draws = []
    for seed in (1, 1, 2):
        pellucid.set_seed(seed)
        draws.append(model.generate(IDS, do_sample=True, max_new_tokens=8, eos_token_id=-1))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_parameters_are_counted_as_in_transformers(pair: Callable[..., Pair]) -> None:
    models = pair()
    for model in models:
        model.transformer.wpe.requires_grad_(False)
    assert len({model.num_parameters() for model in models}) == 1
    assert len({model.num_parameters(only_trainable=True) for model in models}) == 1


def test_a_text_is_not_taken_for_ids(pair: Callable[..., Pair]) -> None:
    with pytest.raises(OptionError, match="encode it"):
        pair()[0].generate("Once upon a time")


def test_a_head_can_be_tied_again(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.tie_weights()
    assert model.lm_head.weight is model.transformer.wte.weight
