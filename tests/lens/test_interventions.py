"""Ablation, token attribution and neurons equal a direct computation, and leave no hooks behind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import LanguageModel
from pellucid.errors import ContextLengthError, OptionError
from pellucid.lens.instruments.components import read_components

from .passes import hook_count, logits_of
from .test_logit_instruments import twin

CLEAN = [5, 40, 12, 33, 7]


# Ablation


def test_zero_ablating_heads_equals_a_head_mask(demo: LanguageModel) -> None:
    """The head mask of the reference model, which is tested against Transformers 4.49, has the same effect."""
    ids = demo.tokenizer.encode("Once upon a time there was a little girl")
    mask = torch.ones(8, 6)
    mask[2, 3] = mask[5, 0] = mask[5, 1] = 0
    with torch.no_grad():
        expected = demo.model(torch.tensor([ids]), head_mask=mask).logits
    found = demo.ablate(ids, ["L2H3", (5, 0), "blocks.5.attn.head.1"])
    targets = torch.tensor(ids[1:])
    losses = torch.nn.functional.cross_entropy(expected[0, :-1], targets, reduction="none").numpy()
    np.testing.assert_allclose(found.losses_after, losses, atol=1e-3)
    assert found.loss_after == pytest.approx(losses.mean(), abs=1e-3)
    assert found.after[0].id == int(expected[0, -1].argmax())
    before = demo.score(ids)
    np.testing.assert_allclose(
        found.losses_before, [-row.logprob for row in before if row.logprob is not None], atol=1e-3
    )
    assert found.loss_increase == pytest.approx(found.loss_after - found.loss_before)
    assert found.components == ("blocks.2.attn.head.3", "blocks.5.attn.head.0", "blocks.5.attn.head.1")


def test_zero_ablating_a_layer_removes_its_output(tiny: LanguageModel) -> None:
    trace = tiny.trace(CLEAN)
    model = tiny.model
    with torch.no_grad():
        stream = trace.tensor("blocks.1.resid_mid")
        expected = model.lm_head(model.transformer.ln_f(stream))[0, -1]
    with tiny.ablated("blocks.1.mlp"):
        ablated = logits_of(tiny, CLEAN)[-1]
    torch.testing.assert_close(ablated, expected, atol=1e-4, rtol=1e-4)


def test_mean_ablation_uses_the_mean_over_the_reference_texts(tiny: LanguageModel) -> None:
    model, reference = tiny.model, [[1, 2, 3], [4, 5, 6, 7, 8]]
    traces = [tiny.trace(ids) for ids in reference]
    trace = tiny.trace(CLEAN)

    written = torch.cat([one.tensor("blocks.1.mlp.out")[0] for one in traces]).mean(0)
    with torch.no_grad():
        expected = model.lm_head(model.transformer.ln_f(trace.tensor("blocks.1.resid_mid") + written))[0]
    with tiny.ablated("blocks.1.mlp", "mean", reference):
        torch.testing.assert_close(logits_of(tiny, CLEAN), expected, atol=1e-4, rtol=1e-4)

    of_head = torch.cat([one.tensor("blocks.1.attn.z")[0, :, 2] for one in traces]).mean(0)
    z = trace.tensor("blocks.1.attn.z").clone()
    z[0, :, 2] = of_head
    with torch.no_grad():
        block = model.transformer.h[1]
        middle = trace.tensor("blocks.1.resid_pre") + block.attn.c_proj(z.flatten(2))
        after = middle + block.mlp(block.ln_2(middle))
        expected = model.lm_head(model.transformer.ln_f(after))[0]
    with tiny.ablated((1, 2), "mean", reference):
        torch.testing.assert_close(logits_of(tiny, CLEAN), expected, atol=1e-4, rtol=1e-4)


def test_ablation_affects_every_call_inside_its_block_only() -> None:
    import pellucid

    lm = pellucid.load("demo")
    text = "Once upon a time there was a"
    before = lm.generate(text, max_new_tokens=5).new_ids
    engine = lm.engine
    with lm.ablated([f"blocks.{layer}.mlp" for layer in range(3)]):
        inside = lm.generate(text, max_new_tokens=5).new_ids
        loss = lm.score(text).perplexity
    assert inside != before
    assert lm.generate(text, max_new_tokens=5).new_ids == before
    assert lm.engine is engine and hook_count(lm) == 0
    found = lm.ablate(text, [f"blocks.{layer}.mlp" for layer in range(3)])
    assert math.exp(found.loss_after) == pytest.approx(loss, rel=1e-3)


def test_components_are_read_from_all_their_spellings(tiny: LanguageModel) -> None:
    config = tiny.config
    head = tiny.induction_scores(seq_len=5, rows=1).ranked(1)[0]
    same = read_components(
        [str(head), head, (head.layer, head.head), f"blocks.{head.layer}.attn.head.{head.head}"], config
    )
    assert [part.name for part in same] == [f"blocks.{head.layer}.attn.head.{head.head}"]
    part = tiny.trace(CLEAN).logit_attribution(3)["blocks.1.mlp"]
    assert [one.name for one in read_components(part, config)] == ["blocks.1.mlp"]
    assert [one.name for one in read_components("blocks.0.attn.out", config)] == ["blocks.0.attn"]


@pytest.mark.parametrize("asked", ["L2H0", (0, 3), "blocks.0.resid_pre", "blocks.0.mlp.head.1", "embed", 3, [], [None]])
def test_unknown_components_are_refused(tiny: LanguageModel, asked: object) -> None:
    with pytest.raises(OptionError), tiny.ablated(asked):
        pytest.fail("the block must not be entered")


def test_bad_ablations_are_refused(tiny: LanguageModel) -> None:
    with pytest.raises(OptionError, match="two tokens"):
        tiny.ablate([3], "L0H0")
    with pytest.raises(OptionError, match="method is 'median'"):
        tiny.ablate([3, 4], "L0H0", "median")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="reference"), tiny.ablated("L0H0", "mean"):
        pytest.fail("the block must not be entered")
    with pytest.raises(ContextLengthError):
        tiny.ablate([3] * 49, "L0H0")


# Token attribution


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(0, 66), min_size=1, max_size=8), data=st.data())
def test_integrated_gradients_add_up_to_the_difference_of_the_scores(
    ids: list[int], data: st.DataObject, tiny: LanguageModel
) -> None:
    token = data.draw(st.integers(0, 66), "token")
    position = data.draw(st.integers(0, len(ids) - 1), "position")
    found = tiny.attribute(ids, token, position=position, steps=300, baseline=data.draw(st.none() | st.integers(0, 66)))
    assert found.score == pytest.approx(float(logits_of(tiny, ids)[position, token]), abs=1e-3)
    assert found.score is not None and found.baseline_score is not None and found.convergence_delta is not None
    gained = found.score - found.baseline_score
    assert float(found.values.sum()) - gained == pytest.approx(found.convergence_delta, abs=1e-3)
    assert abs(found.convergence_delta) < 0.05 * max(1.0, float(np.abs(found.values).sum()))
    assert (found.values[position + 1 :] == 0).all()


def test_integrated_gradients_do_not_depend_on_the_batch_or_leave_gradients(demo: LanguageModel) -> None:
    from pellucid.lens.instruments.token_attribution import integrated_gradients

    ids = demo.tokenizer.encode("The king gave the queen a")
    one = integrated_gradients(demo.model, ids, steps=5, batch_size=1)
    all_at_once = integrated_gradients(demo.model, ids, steps=5, batch_size=5)
    np.testing.assert_allclose(one.values, all_at_once.values, rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in demo.model.parameters())


def test_rollout_is_the_product_of_the_layers_attention_and_residual(demo: LanguageModel) -> None:
    text = "The king gave the queen a"
    ids = demo.tokenizer.encode(text)
    theirs = twin(demo)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = theirs(torch.tensor([ids]), output_attentions=True).attentions
    flow = np.eye(len(ids))
    for attention in attentions:
        flow = (0.5 * attention[0].mean(0).numpy() + 0.5 * np.eye(len(ids))) @ flow
    for position in (-1, 2):
        found = demo.attribute(text, method="rollout", position=position)
        np.testing.assert_allclose(found.values, flow[position], atol=1e-5)
        assert found.values.sum() == pytest.approx(1, abs=1e-5)
        assert found.target is None and found.convergence_delta is None


def test_bad_attributions_are_refused(tiny: LanguageModel) -> None:
    with pytest.raises(OptionError, match="method is 'saliency'"):
        tiny.attribute([1, 2], method="saliency")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no token"):
        tiny.attribute([1, 2], 3, method="rollout")
    with pytest.raises(OptionError, match="steps is 0"):
        tiny.attribute([1, 2], 3, steps=0)


# Neurons


def test_the_tokens_of_a_neuron_follow_from_its_output_weights(demo: LanguageModel) -> None:
    layer, index = 7, 100  # in the last layer, so that only the final norm and the head follow
    text = "The king gave the queen a"
    view = demo.neuron(layer, index, text, top=4)
    trace = demo.trace(text)
    np.testing.assert_allclose(view.activations, trace["blocks.7.mlp.post"][0, :, index], atol=1e-5)
    strongest = view.most_active(2)
    assert strongest[0].activation == view.activations.max()
    assert strongest[0].token == trace.tokens[strongest[0].position]
    # One unit of activation more, at a fixed scale of the norm: the logits change by the weights times that scale.
    norm = demo.model.transformer.ln_f
    stream = trace.tensor("blocks.7.resid_post")[0, -1]
    scale = (stream.var(unbiased=False) + norm.eps).sqrt()
    moved = stream + demo.model.transformer.h[layer].mlp.c_proj.weight[index]

    def logits(of: torch.Tensor) -> torch.Tensor:
        return demo.model.lm_head((of - of.mean()) / scale * norm.weight + norm.bias)

    with torch.no_grad():
        change = (logits(moved) - logits(stream)) * scale
    for found, expected in ((view.raises, change.topk(4)), (view.lowers, change.topk(4, largest=False))):
        np.testing.assert_allclose([one.weight for one in found], expected.values, atol=1e-3)
        assert [one.id for one in found] == expected.indices.tolist()
        assert [one.token for one in found] == [trace.piece(one.id) for one in found]


def test_a_neuron_needs_no_text(tiny: LanguageModel) -> None:
    view = tiny.neuron(1, 95)
    assert len(view.raises) == 10 and view.activations.size == 0 and view.most_active() == ()
    with pytest.raises(OptionError, match="no neuron 96"):
        tiny.neuron(0, 96)


def test_the_native_engines_weights_are_measured(demo: LanguageModel) -> None:
    import pellucid
    from pellucid import native

    if not native.is_built():
        pytest.skip("the native engine is not built")
    quantized = pellucid.load("demo", precision="int8")
    ids = quantized.tokenizer.encode("The king gave the queen a")
    found = quantized.ablate(ids, "L0H0").losses_before
    assert np.abs(found - demo.ablate(ids, "L0H0").losses_before).max() > 1e-4
    scored = [-row.logprob for row in quantized.score(ids) if row.logprob is not None]
    np.testing.assert_allclose(found, scored, atol=0.1)
