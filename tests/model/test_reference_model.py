"""The reference model equals Transformers for any configuration and any form of call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.config import PRESETS, GPT2Config
from pellucid.errors import ContextLengthError
from pellucid.reference.engine import ReferenceEngine
from pellucid.reference.model import GPT2LMHeadModel, GPT2Model

from ..pairs import Pair, left_padded, relative_difference
from ..slots import opened

TOLERANCE = 1e-4

EVERY_OPTION: list[dict[str, Any]] = [
    {},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"reorder_and_upcast_attn": True},
    {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    {"tie_word_embeddings": False},
    {"n_inner": 50},
    {"layer_norm_epsilon": 1e-2},
    {"n_head": 1},
    {"n_head": 48},
    {"vocab_size": 3},
    {"n_layer": 1, "n_positions": 20},
    *({"activation_function": name} for name in ("gelu_new", "gelu", "relu", "silu", "tanh", "gelu_pytorch_tanh")),
]


@pytest.mark.parametrize("option", EVERY_OPTION, ids=str)
def test_logits_equal_transformers_for_every_option(pair: Callable[..., Pair], option: dict[str, Any]) -> None:
    ours, theirs = pair(**option)
    ids = torch.randint(ours.config.vocab_size, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    mask[2, :1] = 0
    with torch.no_grad():
        got, expected = ours(ids, attention_mask=mask).logits, theirs(ids, attention_mask=mask).logits
    assert relative_difference(got[mask.bool()], expected[mask.bool()]) < TOLERANCE


@pytest.mark.parametrize("option", EVERY_OPTION[:8], ids=str)
def test_hidden_states_attentions_and_cache_equal_transformers(
    pair: Callable[..., Pair], option: dict[str, Any]
) -> None:
    ours, theirs = pair(**option)
    theirs.set_attn_implementation("eager")
    ids = torch.randint(ours.config.vocab_size, (2, 13))
    with torch.no_grad():
        got = ours(ids, output_hidden_states=True, output_attentions=True)
        expected = theirs(ids, output_hidden_states=True, output_attentions=True)
    assert len(got.hidden_states) == ours.config.n_layer + 1
    for mine, other in zip(got.hidden_states, expected.hidden_states, strict=True):
        assert relative_difference(mine, other) < TOLERANCE
    for mine, other in zip(got.attentions, expected.attentions, strict=True):
        assert relative_difference(mine, other) < TOLERANCE
    for (key, value), layer in zip(got.past_key_values, expected.past_key_values.layers, strict=True):
        assert relative_difference(key, layer.keys) < TOLERANCE
        assert relative_difference(value, layer.values) < TOLERANCE


def test_the_loss_and_its_gradients_equal_transformers(pair: Callable[..., Pair]) -> None:
    ours, theirs = pair(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    theirs.load_state_dict({name: tensor.clone() for name, tensor in ours.state_dict().items()}, assign=True)
    theirs.tie_weights()
    ids = torch.randint(ours.config.vocab_size, (2, 17))
    labels = ids.clone()
    labels[0, :5] = -100
    for model in (ours, theirs):
        model.requires_grad_(True)
        model.zero_grad()
    got, expected = ours(ids, labels=labels).loss, theirs(ids, labels=labels).loss
    assert relative_difference(got, expected) < TOLERANCE
    got.backward()
    expected.backward()
    others = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert relative_difference(parameter.grad, others[name].grad) < TOLERANCE, name


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cached_logits_equal_uncached_over_any_chunking(pair: Callable[..., Pair], data: st.DataObject) -> None:
    ours, _ = pair()
    length = data.draw(st.integers(2, 30))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1))))
    ids = torch.randint(ours.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        whole = ours(ids).logits
        past, parts = None, []
        for start, end in zip([0, *cuts], [*cuts, length], strict=True):
            out = ours(ids[:, start:end], past_key_values=past)
            past = out.past_key_values
            parts.append(out.logits)
    assert relative_difference(torch.cat(parts, dim=1), whole) < 1e-5


def test_cached_steps_with_a_padding_mask_equal_uncached_ones(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids, mask = left_padded([[5, 6, 7, 8, 9, 10], [11, 12, 13]], pad=0)
    with torch.no_grad():
        whole = ours(ids, attention_mask=mask).logits
        first = ours(ids[:, :4], attention_mask=mask[:, :4])
        second = ours(ids[:, 4:], attention_mask=mask, past_key_values=first.past_key_values)
    assert relative_difference(second.logits, whole[:, 4:]) < 1e-5


def test_the_pass_step_by_step_equals_the_models_forward_in_every_bit(pair: Callable[..., Pair]) -> None:
    model = pair()[0].transformer
    ids, mask = left_padded([[5, 6, 7, 8, 9, 10], [11, 12, 13]], pad=0)
    with torch.no_grad():
        expected = model(ids, attention_mask=mask)
        positions = torch.arange(ids.size(1)).unsqueeze(0).repeat((ids.size(0), 1))
        hidden = model.drop(model.wte(ids) + model.wpe(positions))
        head_mask = model.get_head_mask(None, model.config.n_layer)
        additive = (1 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        for i, block in enumerate(model.h):
            hidden = block(hidden, layer_past=None, attention_mask=additive, head_mask=head_mask[i])[0]
        hidden = model.ln_f(hidden)
    assert torch.equal(hidden, expected.last_hidden_state)


def test_positions_are_numbered_from_zero_whatever_the_padding(pair: Callable[..., Pair]) -> None:
    ours, theirs = pair()
    ids, mask = left_padded([[5, 6, 7, 8], [9, 10]], pad=0)
    with torch.no_grad():
        padded = ours(ids, attention_mask=mask).logits[1, -1]
        shifted = ours(ids[1:, 2:], position_ids=torch.tensor([[2, 3]])).logits[0, -1]
        alone = ours(ids[1:, 2:]).logits[0, -1]
    assert relative_difference(padded, shifted) < 1e-5
    assert relative_difference(padded, alone) > 1e-2


def test_a_masked_head_equals_a_head_with_output_zero(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    config = ours.config
    ids = torch.randint(config.vocab_size, (1, 9))
    mask = torch.ones(config.n_layer, config.n_head)
    mask[1, 2] = 0
    with torch.no_grad():
        got = ours(ids, head_mask=mask).logits
        projection = ours.transformer.h[1].attn.c_proj.weight
        kept = projection.clone()
        projection[2 * config.head_dim : 3 * config.head_dim] = 0
        expected = ours(ids).logits
        projection.copy_(kept)
        assert relative_difference(ours(ids).logits, expected) > 1e-3
    assert relative_difference(got, expected) < 1e-5


def test_embeddings_may_be_given_instead_of_ids(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids = torch.randint(ours.config.vocab_size, (2, 9))
    with torch.no_grad():
        by_embeddings = ours(inputs_embeds=ours.transformer.wte(ids)).logits
        assert torch.equal(by_embeddings, ours(ids).logits)
    with pytest.raises(ValueError, match="one of them"):
        ours()
    with pytest.raises(ValueError, match="one of them"):
        ours(ids, inputs_embeds=ours.transformer.wte(ids))


def test_dropout_works_in_training_mode_only(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids = torch.randint(ours.config.vocab_size, (2, 9))
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, ours(ids).logits)
        ours.train()
        assert not torch.equal(ours(ids).logits, ours(ids).logits)
        ours.eval()


def test_outputs_are_available_by_attribute_name_and_index(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ids = torch.randint(ours.config.vocab_size, (1, 4))
    with torch.no_grad():
        out = ours(ids, labels=ids, output_hidden_states=True)
        plain = ours(ids, use_cache=False, return_dict=False)
    assert list(out) == ["loss", "logits", "past_key_values", "hidden_states"]
    assert out["logits"] is out.logits is out[1]
    assert {**dict(out.items())}.keys() == set(out.keys())
    assert "attentions" not in out
    with pytest.raises(KeyError, match="attentions"):
        out["attentions"]
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], out.logits)


def test_more_tokens_than_positions_are_an_error_that_says_how_many(pair: Callable[..., Pair]) -> None:
    ours, _ = pair(n_positions=8)
    with torch.no_grad(), pytest.raises(ContextLengthError, match="9 tokens.*8 positions"):
        ours(torch.zeros(1, 9, dtype=torch.long))
    with torch.no_grad():
        past = ours(torch.zeros(1, 8, dtype=torch.long)).past_key_values
        with pytest.raises(ContextLengthError):
            ours(torch.zeros(1, 1, dtype=torch.long), past_key_values=past)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32_and_finite_under_padding(
    pair: Callable[..., Pair], dtype: torch.dtype
) -> None:
    ours, _ = pair(initializer_range=0.05)
    ids, mask = left_padded([[5, 6, 7, 8, 9, 10], [11, 12]], pad=0)
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask).logits
        got = ours.to(dtype)(ids, attention_mask=mask).logits
    assert got.dtype == dtype
    assert bool(torch.isfinite(got).all())
    assert relative_difference(got[mask.bool()], expected[mask.bool()]) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_gives_the_cpus_logits(pair: Callable[..., Pair], dtype: torch.dtype) -> None:
    ours, _ = pair(initializer_range=0.05)
    ids = torch.randint(ours.config.vocab_size, (2, 9))
    with torch.no_grad():
        expected = ours(ids).logits
        got = ours.to("cuda", dtype)(ids.cuda()).logits.cpu()
    assert relative_difference(got, expected) < (TOLERANCE if dtype == torch.float32 else 0.05)


def test_new_weights_have_gpt2s_standard_deviations() -> None:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=128, n_layer=8, n_head=4, vocab_size=1000)
    model = GPT2Model(config)
    assert model.wte.weight.detach().std() == pytest.approx(0.02, rel=0.05)
    assert model.h[0].attn.c_attn.weight.detach().std() == pytest.approx(0.02, rel=0.05)
    # Layers that write to the residual stream: 0.02 / sqrt(2 * n_layer) (GPT-2 paper, section 2.3).
    assert model.h[3].mlp.c_proj.weight.detach().std() == pytest.approx(0.005, rel=0.05)
    assert float(model.ln_f.weight.detach().min()) == 1.0


def _large_pair(config: GPT2Config) -> Pair:
    """A pair of a published shape. Its weights repeat one block of random numbers, which is fast to make."""
    from pellucid import GPT2LMHeadModel as Ours

    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(5)) * 0.02
    with torch.device("meta"):
        ours = Ours(config)
        theirs = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
        )
    weights = {}
    for name, parameter in ours.named_parameters():
        repeats = -(-parameter.numel() // block.numel())
        weight = block.repeat(repeats)[: parameter.numel()].view(parameter.shape)
        weights[name] = weight + 1 if ".ln_" in name and name.endswith("weight") else weight.clone()
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict(weights, assign=True)
    theirs.tie_weights()
    return ours.eval(), theirs.eval()


@pytest.mark.xdist_group("large models: one at a time in memory")
@pytest.mark.parametrize("name", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_the_four_real_shapes_equal_transformers_in_logits_greedy_and_beams(name: str) -> None:
    ours, theirs = _large_pair(PRESETS[name])
    ids, mask = left_padded([[6511, 890, 2084, 11, 314, 373], [70, 457, 17]], pad=50256)
    with torch.no_grad():
        got, expected = ours(ids, attention_mask=mask).logits, theirs(ids, attention_mask=mask).logits
    assert relative_difference(got[mask.bool()], expected[mask.bool()]) < TOLERANCE
    for options in ({"max_new_tokens": 4}, {"max_new_tokens": 3, "num_beams": 3}):
        call = {"input_ids": ids, "attention_mask": mask, "do_sample": False, "pad_token_id": 50256, **options}
        assert torch.equal(ours.generate(**call), theirs.generate(**call))


def test_the_engine_returns_the_logits_of_the_model(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    assert isinstance(ours, GPT2LMHeadModel)
    engine = ReferenceEngine(ours)
    slot = opened(engine, [5, 6, 7])
    step = engine.step([slot], [[8, 9]], all_positions=True, hidden=True)
    with torch.no_grad():
        out = ours(torch.tensor([[5, 6, 7, 8, 9]]), output_hidden_states=True)
    assert step.logits.dtype == "float32"
    assert relative_difference(torch.from_numpy(step.logits), out.logits[0, 3:]) < 1e-5
    assert step.hidden is not None
    assert relative_difference(torch.from_numpy(step.hidden), out.hidden_states[-1][0, 3:]) < 1e-5
