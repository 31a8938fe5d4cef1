"""The trace of a generation holds the activations of every step, which equal those of one pass over all tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid
from pellucid import Generation, LanguageModel, native
from pellucid.engine import Slot
from pellucid.errors import ActivationNameError, OptionError, TraceError
from pellucid.lens.generation_trace import GenerationTrace
from pellucid.lens.names import activation_names
from pellucid.lens.traced_model import TracedModel
from pellucid.lens.tracing_engine import TracingEngine

TEXT = "Once upon a time there was a little dog"
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"temperature": 0.9, "top_p": 0.95, "seed": 1, "num_return_sequences": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 3},
    "sampled beams": {"num_beams": 3, "num_return_sequences": 2, "do_sample": True, "seed": 4},
    "group beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "num_return_sequences": 4},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
}


def all_of(found: Generation | list[Generation]) -> list[Generation]:
    return found if isinstance(found, list) else [found]


def assert_equals_one_pass(lm: LanguageModel, trace: GenerationTrace) -> None:
    whole = lm.trace(trace.ids)
    for name in trace.names:
        if name == "logits":
            continue
        ours, expected = trace.whole(name), whole[name]
        seen = np.isfinite(expected)
        assert ours.shape == expected.shape and (np.isfinite(ours) == seen).all(), name
        assert np.abs(ours[seen] - expected[seen]).max() < 1e-5 * np.abs(expected[seen]).max(), name
    places = [step.start + len(step.ids) - 1 for step in trace]
    for step, place in zip(trace, places, strict=True):
        difference = np.abs(step["logits"][0, -1] - whole["logits"][0, place]).max()
        assert difference < 1e-5 * np.abs(whole["logits"]).max()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategys_steps_are_what_one_pass_computes(demo: LanguageModel, strategy: str) -> None:
    prompts = ['The dog said, "Hi". The cat said, "Hi". The dog said,', "Once"]
    options = {"max_new_tokens": 9, **STRATEGIES[strategy]}
    plain = all_of(demo.generate(prompts, **options))
    traced = all_of(demo.generate(prompts, trace=True, **options))
    assert [one.ids for one in traced] == [one.ids for one in plain]
    for one in traced:
        assert one.trace.ids == one.ids[:-1]
        assert one.trace.names == activation_names(demo.config.n_layer)
        assert [step.start for step in one.trace] == np.cumsum([0, *(len(s.ids) for s in one.trace)])[:-1].tolist()
        assert_equals_one_pass(demo, one.trace)
    if strategy == "prompt lookup":
        assert any(len(step.ids) > 1 for one in traced for step in one.trace[1:])
    else:
        assert all(len(step.ids) == 1 for one in traced for step in one.trace[1:])


def test_the_logits_of_a_step_are_those_its_token_was_chosen_from(demo: LanguageModel) -> None:
    found = demo.generate(TEXT, max_new_tokens=6, trace="logits", record=True)
    assert isinstance(found, Generation)
    logits = found.trace.whole("logits")[0]  # [new tokens, vocab]
    assert logits.argmax(-1).tolist() == found.new_ids
    best = [step.expansion.model.top[0].logprob for step in found.record.steps]  # type: ignore[union-attr]
    normaliser = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
    np.testing.assert_allclose(-normaliser, best, atol=1e-5)


def test_each_step_keeps_only_the_requested_activations(demo: LanguageModel) -> None:
    found = demo.generate([TEXT, "The"], max_new_tokens=4, trace=["attn.hook_pattern", "blocks.0.attn.k"])
    assert isinstance(found, list)
    for one in found:
        assert len(one.trace.names) == demo.config.n_layer + 1
        prompt = len(one.ids) - 4
        assert [step["blocks.0.attn.pattern"].shape[2:] for step in one.trace] == [
            (prompt, prompt),
            *((1, prompt + 1 + n) for n in range(3)),
        ]
        assert [step["blocks.0.attn.k"].shape[1] for step in one.trace] == [prompt, 1, 1, 1]
        tensors = [step.tensor(name) for step in one.trace for name in step]
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
        assert not any(tensor.is_inference() for tensor in tensors)


def test_a_trace_changes_no_token_and_exists_only_if_requested(demo: LanguageModel) -> None:
    engine = demo.engine
    plain = demo.generate(TEXT, max_new_tokens=5)
    traced = demo.generate(TEXT, max_new_tokens=5, trace="resid_post")
    assert isinstance(plain, Generation) and isinstance(traced, Generation)
    assert plain.trace is None and plain == traced and demo.engine is engine
    assert "trace" not in traced.to_dict()
    assert not any(module._forward_hooks for module in demo.model.modules())


@pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_with_the_native_engine_its_weights_are_traced(precision: Any) -> None:
    lm = pellucid.load("demo", precision=precision, threads=1)
    found = lm.generate(TEXT, max_new_tokens=4, trace="resid_post")
    assert isinstance(found, Generation)
    assert found.trace[0].precision == precision
    assert f"{precision} weights" in repr(found.trace)
    expected = lm.trace(found.ids[:-1], "resid_post")
    np.testing.assert_allclose(
        found.trace.whole("blocks.7.resid_post"), expected["blocks.7.resid_post"], atol=1e-3, rtol=1e-4
    )
    assert type(lm.engine).__name__ == "NativeEngine"


def test_hooks_and_traces_of_a_generation_go_together(demo: LanguageModel) -> None:
    with demo.hooks({"blocks.2.mlp.out": lambda activation, name: torch.zeros_like(activation)}):
        found = demo.generate(TEXT, max_new_tokens=4, trace=["mlp.out"])
    assert isinstance(found, Generation)
    assert not found.trace.whole("blocks.2.mlp.out").any() and found.trace.whole("blocks.1.mlp.out").any()


def test_the_joined_steps_equal_the_trace_of_the_text(demo: LanguageModel) -> None:
    found = demo.generate(TEXT, max_new_tokens=5, trace=True)
    assert isinstance(found, Generation)
    joined = found.trace.joined()
    assert joined.ids == found.ids[:-1] and joined.tokens == found.trace.tokens
    assert joined.model is demo.model and "logits" not in joined
    assert joined["blocks.3.attn.pattern"].shape == (1, 6, 13, 13)
    with pytest.raises(TraceError, match="begin with the prompt"):
        found.trace[1:].joined()


def test_a_generations_trace_is_a_sequence_that_describes_itself(demo: LanguageModel) -> None:
    found = demo.generate(TEXT, max_new_tokens=3, trace=["resid_post", "logits"])
    assert isinstance(found, Generation)
    trace = found.trace
    assert len(trace) == 3 and trace[-1].ids == found.ids[-2:-1] and isinstance(trace[:2], GenerationTrace)
    assert trace.nbytes == sum(step.nbytes for step in trace)
    assert repr(trace).startswith("GenerationTrace of 'demo': 3 steps, 11 tokens, 9 activations, ")
    assert "blocks.0..7.resid_post  [1, 1, 192]" in str(trace)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"trace": "resid_pots"}, ActivationNameError, "did you mean 'resid_post'"),
        ({"trace": True, "context": "slide", "max_new_tokens": 600}, OptionError, "slides past the 512 positions"),
        ({"trace": True, "max_new_tokens": 600}, ValueError, "512 positions"),
    ],
    ids=str,
)
def test_untraceable_generations_are_errors_before_any_work(
    demo: LanguageModel, call: Mapping[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        demo.generate(TEXT, **call)


def test_a_decode_that_could_slide_but_need_not_is_traced(demo: LanguageModel) -> None:
    found = demo.generate(TEXT, max_new_tokens=3, context="slide", trace="embed")
    assert isinstance(found, Generation) and len(found.trace) == 3


@settings(max_examples=25)
@given(data=st.data())
def test_any_sequence_of_slot_operations_gives_the_trace_of_the_tokens(
    tiny: LanguageModel, data: st.DataObject
) -> None:
    """After any sequence of append, fork, truncate and close, the trace of a slot is that of its tokens."""
    engine = TracingEngine(TracedModel(tiny.config, tiny.model), ["resid_post", "attn.pattern", "attn.k"])
    contents: dict[Slot, list[int]] = {}
    token = st.integers(0, tiny.config.vocab_size - 1)
    closed: list[list[int]] = []
    for _ in range(data.draw(st.integers(1, 8))):
        if not contents or data.draw(st.booleans()):
            contents[engine.open()] = []
        slots = data.draw(st.lists(st.sampled_from(list(contents)), min_size=1, unique=True))
        tokens = [data.draw(st.lists(token, min_size=1, max_size=3)) for _ in slots]
        engine.step(slots, tokens)
        for slot, ids in zip(slots, tokens, strict=True):
            contents[slot] = contents[slot] + ids
        slot = data.draw(st.sampled_from(list(contents)))
        match data.draw(st.sampled_from(["nothing", "fork", "truncate", "drop"])):
            case "fork":
                contents[engine.fork(slot)] = contents[slot]
            case "truncate":
                length = data.draw(st.integers(0, len(contents[slot])))
                engine.truncate(slot, length)
                contents[slot] = contents[slot][:length]
            case "drop":
                engine.drop(slot)
                closed.append(contents.pop(slot))
    for ids in [*contents.values(), *closed]:
        if not ids:
            continue
        trace, whole = engine.trace_of(ids), tiny.trace(ids)
        assert trace.ids == ids
        for name in trace.names:
            assert trace.whole(name).shape == whole[name].shape
            np.testing.assert_allclose(trace.whole(name), whole[name], atol=1e-4)
