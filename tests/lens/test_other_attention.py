"""With a custom attention that does not compute scores and patterns, hooks and traces of these are errors."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pellucid import GPT2LMHeadModel, LanguageModel
from pellucid.errors import HookError, TraceError
from pellucid.lens.hooks import hooked
from pellucid.lens.traced_model import TracedModel
from pellucid.lens.tracing import trace_pass
from pellucid.lens.tracing_engine import TracingEngine
from pellucid.training.attention import use_reference_attention, use_training_attention

IDS = torch.tensor([[5, 40, 12, 33, 7]])


@pytest.fixture
def trained(tiny: LanguageModel) -> Iterator[GPT2LMHeadModel]:
    """A model in training, with the attention that training uses."""
    model = copy.deepcopy(tiny.model).train()
    assert model.config.resid_pdrop > 0
    use_training_attention(model.transformer)
    yield model
    use_reference_attention(model.transformer)


def halved(activation: Tensor, name: str) -> Tensor:
    return activation / 2


@pytest.mark.parametrize("name", ["blocks.0.attn.scores", "blocks.1.attn.pattern"])
def test_a_hook_on_an_activation_that_is_not_computed_is_named(trained: GPT2LMHeadModel, name: str) -> None:
    with (
        hooked(trained, {name: halved}),
        pytest.raises(HookError, match=f"the hook halved on {name} cannot run: .*use"),
    ):
        trained(IDS)
    trained(IDS)  # without the hook there is no error
    use_reference_attention(trained.eval().transformer)
    plain = trained(IDS).logits
    with hooked(trained, {name: halved}):
        assert not torch.allclose(trained(IDS).logits, plain)


def test_a_hook_that_was_there_before_the_other_attention_is_named_as_well(tiny: LanguageModel) -> None:
    model = copy.deepcopy(tiny.model)
    with hooked(model, {"attn.pattern": halved}):
        model(IDS)
        use_training_attention(model.transformer)
        with pytest.raises(HookError, match=r"the hook halved on blocks\.0\.attn\.pattern"):
            model(IDS)
        use_reference_attention(model.transformer)
        model(IDS)


def test_other_hooks_run_with_the_attention_of_training(trained: GPT2LMHeadModel) -> None:
    torch.manual_seed(0)  # seeds dropout
    plain = trained(IDS).logits
    seen: list[str] = []
    hooks = ["attn.q", "attn.k", "attn.v", "attn.z", "attn.result", "attn.out", "mlp.out", "resid_post"]
    with hooked(trained, {name: lambda _activation, name: seen.append(name) for name in hooks}):
        torch.manual_seed(0)
        logits = trained(IDS).logits
    assert torch.equal(logits, plain)
    assert len(seen) == len(set(seen)) == 2 * len(hooks)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_trace_of_an_activation_that_is_not_computed_is_refused(trained: GPT2LMHeadModel, gradients: bool) -> None:
    trace_pass(trained, IDS[0].tolist(), ["attn.z", "logits"], gradients=gradients)
    with pytest.raises(TraceError, match=r"the pass does not compute blocks\.0\.attn\.scores: another attention"):
        trace_pass(trained, IDS[0].tolist(), gradients=gradients)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trained.modules())


def test_a_trace_of_a_decode_that_does_not_compute_it_is_refused(trained: GPT2LMHeadModel) -> None:
    engine = TracingEngine(TracedModel(trained.config, trained.eval()), ["attn.pattern"])
    with pytest.raises(TraceError, match=r"the pass does not compute blocks\.0\.attn\.pattern"):
        engine.step([engine.open()], IDS.tolist())
