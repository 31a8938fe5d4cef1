"""A trace holds Transformers' hidden states and attentions, and the logits of the model in every bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import pellucid
from pellucid import GPT2Config, LanguageModel, native
from pellucid.errors import ActivationNameError, ContextLengthError, OptionError, TraceError
from pellucid.lens.hooks import hooked
from pellucid.lens.names import IN_BLOCK, activation_names
from pellucid.lens.trace import Trace
from pellucid.lens.tracing import trace_pass

from ..pairs import Pair, relative_difference

TOLERANCE = 1e-4
TEXT = "Once upon a time there was a little dog"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"scale_attn_by_inverse_layer_idx": True},
    {"reorder_and_upcast_attn": True},
    {"tie_word_embeddings": False},
    {"n_inner": 50, "activation_function": "relu"},
    {"n_head": 1},
]


def assert_same_as_transformers(trace: Trace, theirs: transformers.GPT2LMHeadModel) -> None:
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        out = theirs(torch.tensor([trace.ids]), output_hidden_states=True, output_attentions=True)
    last = len(out.attentions) - 1
    for layer, states in enumerate(out.hidden_states):
        name = f"blocks.{layer}.resid_pre" if layer <= last else "ln_final.normalized"
        assert relative_difference(trace.tensor(name), states) < TOLERANCE, name
    for layer, weights in enumerate(out.attentions):
        assert relative_difference(trace.tensor(f"blocks.{layer}.attn.pattern"), weights) < TOLERANCE
        keys, values = out.past_key_values.layers[layer].keys, out.past_key_values.layers[layer].values
        assert relative_difference(trace.tensor(f"blocks.{layer}.attn.k").transpose(1, 2), keys) < TOLERANCE
        assert relative_difference(trace.tensor(f"blocks.{layer}.attn.v").transpose(1, 2), values) < TOLERANCE
    assert relative_difference(trace.tensor("logits"), out.logits) < TOLERANCE


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_hidden_states_and_attentions_equal_transformers(pair: Callable[..., Pair], option: dict[str, Any]) -> None:
    ours, theirs = pair(**option)
    ids = torch.randint(ours.config.vocab_size, (17,), generator=torch.Generator().manual_seed(3)).tolist()
    assert_same_as_transformers(trace_pass(ours, ids), theirs)


def test_the_demo_models_hidden_states_and_attentions_equal_transformers(demo: LanguageModel) -> None:
    fields = {key: value for key, value in demo.config.to_dict().items() if key != "model_type"}
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
    theirs.load_state_dict(demo.model.state_dict(), assign=True)
    theirs.tie_weights()
    trace = demo.trace(TEXT)
    assert_same_as_transformers(trace, theirs.eval())


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_activations_follow_from_each_other(pair: Callable[..., Pair], option: dict[str, Any]) -> None:
    """Activations that Transformers does not return are compared with a recomputation from other activations."""
    model, _ = pair(**option)
    trace = trace_pass(model, [5, 6, 7, 8, 9, 10, 11])
    assert torch.equal(trace.tensor("embed") + trace.tensor("pos_embed"), trace.tensor("blocks.0.resid_pre"))
    for layer, block in enumerate(model.transformer.h):
        part = {tail: trace.tensor(f"blocks.{layer}.{tail}") for tail in IN_BLOCK}
        assert torch.equal(block.ln_1(part["resid_pre"]), part["ln1.normalized"])
        heads = [part[f"attn.{name}"].transpose(1, 2) for name in "qkv"]
        joined = torch.cat([one.transpose(1, 2).flatten(2) for one in heads], dim=-1)
        assert torch.equal(block.attn.c_attn(part["ln1.normalized"]), joined)
        scores = heads[0] @ heads[1].transpose(-1, -2) * block.attn.scale
        seen = torch.ones(7, 7, dtype=torch.bool).tril()
        assert torch.isneginf(part["attn.scores"][..., ~seen]).all()
        assert relative_difference(part["attn.scores"][..., seen], scores[..., seen]) < 1e-6
        assert torch.equal(part["attn.scores"].softmax(-1), part["attn.pattern"])
        assert torch.equal((part["attn.pattern"] @ heads[2]).transpose(1, 2), part["attn.z"])
        assert torch.equal(block.attn.c_proj(part["attn.z"].flatten(2)), part["attn.out"])
        summed = part["attn.result"].sum(2) + block.attn.c_proj.bias
        assert relative_difference(summed, part["attn.out"]) < 1e-6
        assert torch.equal(part["resid_pre"] + part["attn.out"], part["resid_mid"])
        assert torch.equal(block.ln_2(part["resid_mid"]), part["ln2.normalized"])
        assert torch.equal(block.mlp.c_fc(part["ln2.normalized"]), part["mlp.pre"])
        assert torch.equal(block.mlp.act(part["mlp.pre"]), part["mlp.post"])
        assert torch.equal(block.mlp.c_proj(part["mlp.post"]), part["mlp.out"])
        assert torch.equal(part["resid_mid"] + part["mlp.out"], part["resid_post"])
    last = trace.tensor(f"blocks.{model.config.n_layer - 1}.resid_post")
    assert torch.equal(model.transformer.ln_f(last), trace.tensor("ln_final.normalized"))
    assert torch.equal(model.lm_head(trace.tensor("ln_final.normalized")), trace.tensor("logits"))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("names", [None, "logits", ["logits", "attn.result", "attn.q"]])
def test_a_traced_pass_has_the_models_logits_bit_for_bit(
    demo: LanguageModel, names: list[str] | None, gradients: bool
) -> None:
    trace = demo.trace(TEXT, names, gradients=gradients)
    with torch.no_grad():
        assert torch.equal(trace.tensor("logits"), demo.model(torch.tensor([trace.ids])).logits)


def test_only_requested_activations_are_kept(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT, ["blocks.*.attn.pattern", "blocks.3.attn.k"])
    assert len(trace) == demo.config.n_layer + 1
    assert "blocks.3.attn.k" in trace and "blocks.3.attn.v" not in trace and "logits" not in trace
    held = [trace.tensor(name) for name in trace]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in held)
    assert trace.nbytes == sum(tensor.nbytes for tensor in held)


def test_a_trace_leaves_the_model_unchanged(demo: LanguageModel) -> None:
    before = {name: parameter.clone() for name, parameter in demo.model.named_parameters()}
    demo.trace(TEXT, gradients=True)
    for module in demo.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    for name, parameter in demo.model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None


def test_a_trace_is_a_mapping_from_names_to_arrays(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT, ["resid_post", "logits"])
    assert list(trace) == list(trace.names) == [*(f"blocks.{i}.resid_post" for i in range(8)), "logits"]
    assert len(dict(trace)) == len(trace) == 9
    array = trace["logits"]
    assert array.dtype == np.float32 and array.shape == (1, len(trace.ids), demo.config.vocab_size)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1
    assert trace.get("embed") is None
    assert trace == trace and trace != demo.trace(TEXT, ["resid_post", "logits"])
    assert trace.stack("resid_post").shape == (8, 1, len(trace.ids), demo.config.n_embd)
    assert np.array_equal(trace.stack("hook_resid_post")[3], trace["blocks.3.resid_post"])
    with pytest.raises(ActivationNameError, match="one activation of all blocks"):
        demo.trace(TEXT, "blocks.*").stack("*")


def test_a_trace_names_its_text_and_model(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT)
    assert trace.ids == demo.tokenizer.encode(TEXT)
    assert "".join(piece or "" for piece in trace.tokens) == TEXT
    assert (trace.model_name, trace.config, trace.model, trace.start) == ("demo", demo.config, demo.model, 0)
    assert repr(trace).startswith("Trace of 'demo': 9 tokens, 132 activations, ")
    assert "reference engine, float32 weights" in repr(trace)
    assert "  blocks.0..7.attn.pattern    [1, 6, 9, 9]" in str(trace).splitlines()
    partial = str(demo.trace(TEXT, ["blocks.[0125].mlp.out", "blocks.7.mlp.out"]))
    assert "blocks.0..2,5,7.mlp.out" in partial


def test_activations_that_were_not_traced_are_distinguished_from_unknown_names(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT, "resid_post")
    with pytest.raises(ActivationNameError, match="does not hold 'blocks.0.mlp.out': ask for it in names"):
        trace["blocks.0.mlp.out"]
    with pytest.raises(ActivationNameError, match="did you mean 'blocks.0.resid_post'"):
        trace["blocks.0.resid_pst"]
    with pytest.raises(TraceError, match="no gradients: make it with gradients=True"):
        trace.gradient("blocks.0.resid_post")


def test_several_texts_give_as_many_traces(demo: LanguageModel) -> None:
    several = demo.trace(["Once upon", TEXT, [1, 2, 3]], "resid_post")
    assert isinstance(several, list)
    assert [len(trace.ids) for trace in several] == [2, 9, 3]
    assert np.array_equal(several[1]["blocks.7.resid_post"], demo.trace(TEXT)["blocks.7.resid_post"])


def test_an_empty_text_is_traced_from_the_bos(demo: LanguageModel) -> None:
    assert demo.trace("", "embed").ids == [demo.config.bos_token_id]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"text": [1] * 513}, ContextLengthError, "513 tokens do not fit in the model's 512 positions"),
        ({"text": [1, 50257]}, OptionError, "the text has id 50257; this model's ids are 0 to 50256"),
        ({"text": ["a", [-1]]}, OptionError, "the text has id -1"),
        ({"text": "a", "names": "resid"}, ActivationNameError, "there is no activation 'resid'"),
        ({"text": "a", "gradients": lambda logits: 1.0}, OptionError, "gradients must return one number"),
        ({"text": "a", "gradients": lambda logits: logits}, OptionError, "gradients must return one number"),
        ({"text": "a", "gradients": lambda logits: torch.zeros(())}, OptionError, "gradients must return one number"),
    ],
    ids=["too long", "no such id", "a negative id", "no such name", "no tensor", "many numbers", "no way back"],
)
def test_untraceable_texts_are_errors(
    demo: LanguageModel, call: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        demo.trace(**call)
    assert not any(module._forward_hooks for module in demo.model.modules())


def test_the_gradient_is_of_the_likeliest_next_tokens_log_probability(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT, gradients=True)
    likeliest = demo.predict(TEXT, top=1)[0]
    assert trace.value == pytest.approx(np.log(likeliest.probability), rel=1e-4)
    logits = torch.from_numpy(trace["logits"].copy()).requires_grad_()
    logits[0, -1].log_softmax(-1)[likeliest.id].backward()
    assert logits.grad is not None
    np.testing.assert_allclose(trace.gradient("logits"), logits.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", activation_names(3)[:-1])
def test_gradients_equal_central_differences(pair: Callable[..., Pair], name: str) -> None:
    """Each gradient equals a central difference, for which a hook changes the activation."""
    model, _ = pair(scale_attn_by_inverse_layer_idx=True, initializer_range=0.1)
    model = model.double()
    ids = [5, 6, 7, 8, 9]

    def value(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, 2, 17] - logits[0, -1, 3]

    trace = trace_pass(model, ids, name, gradients=value)
    gradient = trace.gradient(name)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction[torch.isneginf(trace.tensor(name))] = 0  # masked scores
    found = []
    for step in (1e-5, -1e-5):
        with hooked(model, {name: lambda activation, _name, step=step: activation + step * direction}), torch.no_grad():
            found.append(float(value(model(torch.tensor([ids])).logits)))
    assert (found[0] - found[1]) / 2e-5 == pytest.approx(
        float((gradient * direction.numpy()).sum()), rel=1e-4, abs=1e-7
    )
    model.float()


def test_gradients_exist_for_frozen_weights_too(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    expected = trace_pass(model, [1, 2, 3], gradients=True)
    found = trace_pass(model.requires_grad_(False), [1, 2, 3], gradients=True)
    for name in expected:
        assert np.array_equal(found.gradient(name), expected.gradient(name))
        assert found.gradient(name).any() or name.endswith(("attn.q", "attn.k", "attn.scores"))


@pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_a_trace_with_the_native_engine_uses_its_weights_and_says_so(precision: Any) -> None:
    lm = pellucid.load("demo", precision=precision, threads=1)
    trace = lm.trace(TEXT, ["logits"])
    assert trace.precision == precision and f"{precision} weights" in repr(trace)
    assert type(lm.engine).__name__ == "NativeEngine"
    slot = lm.engine.open()
    theirs = lm.engine.step([slot], [trace.ids], all_positions=True).logits
    difference = np.abs(trace["logits"][0] - theirs).max() / np.abs(theirs).max()
    exact = pellucid.load("demo", engine="torch").trace(TEXT, "logits")["logits"][0]
    if precision == "float32":
        assert difference < 1e-4
    else:  # the engine also rounds activations, which changes far less than rounding the weights
        assert difference < np.abs(exact - theirs).max() / np.abs(theirs).max()


def test_a_half_precision_models_trace_is_float32_in_numpy_and_its_own_in_torch() -> None:
    lm = pellucid.load("demo", engine="torch", precision="bfloat16")
    trace = lm.trace(TEXT, ["resid_post", "attn.scores"])
    assert trace.tensor("blocks.0.resid_post").dtype == torch.bfloat16
    assert trace["blocks.0.resid_post"].dtype == np.float32
    assert np.isneginf(trace["blocks.0.attn.scores"][0, 0, 0, 1:]).all()


def test_activations_can_be_used_outside_of_the_trace(demo: LanguageModel) -> None:
    stream = demo.trace(TEXT, "resid_post").tensor("blocks.3.resid_post")
    weight = torch.ones(demo.config.n_embd, requires_grad=True)
    (stream @ weight).sum().backward()
    assert weight.grad is not None and torch.allclose(weight.grad, stream.sum((0, 1)), rtol=1e-4)


def test_tokens_are_found_by_their_text(demo: LanguageModel, tiny: LanguageModel) -> None:
    trace = demo.trace(TEXT, "embed")
    assert trace.token_id(" dog") == trace.ids[-1] and trace.piece(trace.ids[-1]) == " dog"
    assert tiny.trace([1, 2], "embed").tokens == (None, None)


def test_a_trace_of_a_bare_model_needs_no_language_model(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    trace = trace_pass(model, [1, 2, 3], "resid_post")
    assert isinstance(trace.config, GPT2Config) and trace.model is model and trace.tokens == (None,) * 3
