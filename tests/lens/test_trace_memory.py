"""The size of a trace is known before the pass, and a trace that is too large is refused with its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import Generation, GPT2Config, LanguageModel
from pellucid.errors import PellucidError, TraceMemoryError
from pellucid.lens.names import activation_names
from pellucid.lens.tracing import MEMORY_LIMIT, trace_bytes, trace_pass
from pellucid.reference.model import GPT2LMHeadModel

from ..pairs import Pair

TEXT = "Once upon a time there was a little dog"


@settings(max_examples=30)
@given(data=st.data())
def test_a_trace_takes_the_predicted_memory(pair: Callable[..., Pair], data: st.DataObject) -> None:
    model, _ = pair(n_inner=data.draw(st.sampled_from([None, 50])))
    names = data.draw(st.lists(st.sampled_from(activation_names(3)), max_size=8, unique=True))
    length = data.draw(st.integers(1, 30))
    said = trace_bytes(model, names, length)
    assert trace_pass(model, [1] * length, names, memory_limit=said).nbytes == said
    if said:
        with pytest.raises(TraceMemoryError):
            trace_pass(model, [1] * length, names, memory_limit=said - 1)


def test_too_large_a_trace_is_refused_with_its_size_before_any_work(demo: LanguageModel) -> None:
    def never(activation: torch.Tensor, name: str) -> None:
        raise AssertionError("the model ran")

    with demo.hooks({"embed": never}):
        with pytest.raises(TraceMemoryError) as caught:
            demo.trace([1] * 500, memory_limit=200_000_000)
        assert str(caught.value) == (
            "a trace of 500 tokens with 132 activations takes 0.27 GB, more than the memory_limit of 0.20 GB: "
            "ask for fewer activations, or raise memory_limit"
        )
        with pytest.raises(TraceMemoryError, match="9 tokens with 8 activations takes 0.06 MB"):
            demo.trace(TEXT, "resid_post", memory_limit=50_000)
        with pytest.raises(TraceMemoryError, match="a trace of 19 tokens"):  # together
            demo.trace([TEXT, TEXT, "a"], "resid_post", memory_limit=110_000)
    assert isinstance(caught.value, PellucidError) and isinstance(caught.value, MemoryError)
    assert demo.trace(TEXT, "resid_post", memory_limit=60_000).nbytes == 9 * 192 * 8 * 4


def test_gradients_count_with_the_activations_they_need(demo: LanguageModel) -> None:
    plain = trace_bytes(demo.model, ["embed"], 9)
    assert trace_bytes(demo.model, ["embed"], 9, gradients=True) > 2 * plain + 9 * demo.config.vocab_size * 4
    with pytest.raises(TraceMemoryError):
        demo.trace(TEXT, "embed", gradients=True, memory_limit=2 * plain)


def test_the_size_of_a_trace_of_a_thousand_tokens_is_computed_without_a_pass() -> None:
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=1600, n_layer=48, n_head=25))
    with pytest.raises(TraceMemoryError, match=r"takes 16.27 GB, more than the memory_limit of 4.29 GB"):
        trace_pass(model, [1] * 1024, [name for name in activation_names(48) if "result" not in name])
    assert trace_bytes(model, ["blocks.47.resid_post"], 1024) < MEMORY_LIMIT


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3},
        {"temperature": 1.0, "seed": 0, "num_return_sequences": 3},
        {"penalty_alpha": 0.6, "top_k": 3},
        {"prompt_lookup_num_tokens": 2},
    ],
    ids=str,
)
def test_a_generations_traces_are_bounded_before_it_starts(demo: LanguageModel, options: dict[str, Any]) -> None:
    names = ["resid_post", "attn.pattern", "logits"]

    def never(activation: torch.Tensor, name: str) -> None:
        raise AssertionError("the model ran")

    with (
        demo.hooks({"embed": never}),
        pytest.raises(TraceMemoryError, match="more than the trace_memory_limit of 0.10"),
    ):
        demo.generate([TEXT, "a b a b"], max_new_tokens=10, trace=names, trace_memory_limit=100_000, **options)
    found = demo.generate([TEXT, "a b a b"], max_new_tokens=10, trace=names, **options)
    assert isinstance(found, list) and all(isinstance(one, Generation) for one in found)
    per_prompt = options.get("num_return_sequences", 1)
    held = sum(step.nbytes for number in range(0, len(found), per_prompt) for step in found[number].trace)
    with pytest.raises(TraceMemoryError):
        demo.generate([TEXT, "a b a b"], max_new_tokens=10, trace=names, trace_memory_limit=held - 1, **options)
