"""Hooks read and replace activations in every call of a model, and are removed after the block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid
from pellucid import Generation, LanguageModel, native
from pellucid.errors import ActivationNameError, HookError
from pellucid.lens.hooks import Hook, hooked
from pellucid.lens.names import activation_names, tail_of
from pellucid.lens.tracing import trace_pass
from pellucid.reference.engine import ReferenceEngine

from ..pairs import Pair, relative_difference

TEXT = "Once upon a time there was a little dog"


def nothing(activation: Tensor, name: str) -> None:
    """A hook that changes nothing."""


def doubled(activation: Tensor, name: str) -> Tensor:
    return activation * 2


def zeroed(activation: Tensor, name: str) -> Tensor:
    return torch.zeros_like(activation)


def untouched(model: torch.nn.Module) -> bool:
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return not hooked and not any("softmax" in vars(module) for module in model.modules())


def test_a_hook_sees_every_activation_once_a_pass_in_order(tiny: LanguageModel) -> None:
    seen: list[str] = []
    expected = tiny.trace([1, 2, 3, 4])

    def look(activation: Tensor, name: str) -> None:
        seen.append(name)
        assert torch.equal(activation, expected.tensor(name))

    with tiny.hooks({"*": look}):
        tiny.score([1, 2, 3, 4, 5])  # the last token is not an input
    # The order within a block is that of the pass, except that the head results follow the projection.
    assert seen == list(activation_names(tiny.config.n_layer))


def test_a_hook_that_returns_none_changes_no_bit(demo: LanguageModel) -> None:
    ids = torch.tensor([demo.tokenizer.encode(TEXT)])
    with torch.no_grad():
        expected = demo.model(ids).logits
        with demo.hooks({"*": nothing}):
            assert torch.equal(demo.model(ids).logits, expected)


def test_a_hook_is_gone_after_the_block(demo: LanguageModel) -> None:
    before, engine = demo.predict(TEXT), demo.engine
    with demo.hooks({"attn.z": zeroed}):
        assert demo.predict(TEXT).rows != before.rows
    assert demo.predict(TEXT) == before
    assert demo.engine is engine and untouched(demo.model)


def test_a_hook_is_gone_after_an_error(demo: LanguageModel) -> None:
    before, engine = demo.predict(TEXT), demo.engine

    def fails(activation: Tensor, name: str) -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here") as caught, demo.hooks({"attn.z": fails}):
        demo.predict(TEXT)
    assert any("fails" in note and "blocks.0.attn.z" in note for note in caught.value.__notes__)
    with pytest.raises(KeyboardInterrupt), demo.hooks({"attn.z": zeroed}):
        raise KeyboardInterrupt
    assert demo.predict(TEXT) == before
    assert demo.engine is engine and untouched(demo.model)


@pytest.mark.parametrize("name", activation_names(3))
def test_the_result_of_a_hook_replaces_the_activation(pair: Callable[..., Pair], name: str) -> None:
    """A trace holds the replacement, and all later activations are computed from it."""
    model, _ = pair()
    ids = [5, 6, 7, 8, 9]
    plain = trace_pass(model, ids)
    noise = torch.randn(plain[name].shape, generator=torch.Generator().manual_seed(0))

    def noisy(activation: Tensor, _name: str) -> Tensor:
        return activation + noise

    def noisy_in_place(activation: Tensor, _name: str) -> None:
        activation += noise

    with hooked(model, {name: noisy}):
        changed = trace_pass(model, ids)
    with hooked(model, {name: noisy_in_place}):
        in_place = trace_pass(model, ids)
    assert torch.equal(changed.tensor(name), plain.tensor(name) + noise)
    assert torch.equal(in_place.tensor(name), changed.tensor(name))
    assert torch.equal(in_place.tensor("logits"), changed.tensor("logits"))
    names = activation_names(3)
    assert relative_difference(changed.tensor("logits"), plain.tensor("logits")) > 1e-4
    for other in names[: names.index(name)]:  # earlier activations are unchanged
        assert torch.equal(changed.tensor(other), plain.tensor(other)), other


def test_a_replacement_equals_the_same_change_of_the_model(pair: Callable[..., Pair]) -> None:
    """Each replacement equals a change of the model without hooks."""
    model, _ = pair()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    config = model.config

    def logits(hooks: dict[str, Hook]) -> Tensor:
        with hooked(model, hooks), torch.no_grad():
            return model(ids).logits  # type: ignore[no-any-return]

    def without_head(activation: Tensor, name: str) -> Tensor:
        kept = activation.clone()
        kept[:, :, 2] = 0
        return kept

    def no_pattern(activation: Tensor, name: str) -> Tensor:
        kept = activation.clone()
        kept[:, 2] = 0
        return kept

    mask = torch.ones(config.n_layer, config.n_head)
    mask[1, 2] = 0
    with torch.no_grad():
        silenced = model(ids, head_mask=mask).logits
        moved = model(ids, position_ids=torch.tensor([[3, 4, 5, 6, 7]])).logits
        other_ids = model(torch.tensor([[9, 8, 7, 6, 5]])).logits
        positions = model.transformer.wpe(torch.tensor([[3, 4, 5, 6, 7]]))
        embeddings = model.transformer.wte(torch.tensor([[9, 8, 7, 6, 5]]))
    for name, hook in {"v": without_head, "z": without_head, "result": without_head, "pattern": no_pattern}.items():
        assert relative_difference(logits({f"blocks.1.attn.{name}": hook}), silenced) < 1e-5
    assert torch.equal(logits({"pos_embed": lambda a, n: positions}), moved)
    assert torch.equal(logits({"embed": lambda a, n: embeddings}), other_ids)
    # Zeroing both sublayers of a block equals skipping it, and so does replacing its output by its input.
    parts = logits({"blocks.1.attn.out": zeroed, "blocks.1.mlp.out": zeroed})
    kept: dict[str, Tensor] = {}
    keep_and_put: dict[str, Hook] = {
        "blocks.1.resid_pre": lambda a, n: kept.update(stream=a),
        "blocks.1.resid_post": lambda a, n: kept["stream"],
    }
    assert torch.equal(logits(keep_and_put), parts)
    keep_and_put = {
        "blocks.1.resid_pre": lambda a, n: kept.update(stream=a),
        "blocks.1.resid_mid": lambda a, n: kept["stream"],
        "blocks.1.mlp.post": zeroed,
    }
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias.zero_()
    assert torch.equal(logits(keep_and_put), logits({"blocks.1.attn.out": zeroed, "blocks.1.mlp.out": zeroed}))


def test_a_score_of_minus_infinity_hides_a_key(tiny: LanguageModel) -> None:
    def blind_to_the_first(scores: Tensor, name: str) -> None:
        scores[:, :, 1:, 0] = -torch.inf

    with tiny.hooks({"blocks.0.attn.scores": blind_to_the_first}):
        trace = tiny.trace([1, 2, 3, 4])
    pattern = trace["blocks.0.attn.pattern"]
    assert (pattern[:, :, 1:, 0] == 0).all() and np.allclose(pattern.sum(-1), 1)
    assert np.isfinite(trace["logits"]).all()


def test_several_hooks_on_one_activation_run_in_turn_outer_blocks_first(tiny: LanguageModel) -> None:
    name = "blocks.1.attn.result"
    plain = tiny.trace([1, 2, 3], name).tensor(name)

    def plus_one(activation: Tensor, _name: str) -> Tensor:
        return activation + 1

    def trace() -> Tensor:
        return tiny.trace([1, 2, 3], name).tensor(name)

    with tiny.hooks({name: doubled, "blocks.1.attn.res*": plus_one}):
        assert torch.equal(trace(), plain * 2 + 1)
    for name in (
        "blocks.1.attn.result",
        "blocks.1.attn.q",
        "blocks.1.attn.z",
        "blocks.1.resid_mid",
        "blocks.1.mlp.out",
    ):
        plain = trace()
        with tiny.hooks({name: doubled}):
            with tiny.hooks({name: plus_one}):
                assert torch.equal(trace(), plain * 2 + 1)
            assert torch.equal(trace(), plain * 2)
        assert torch.equal(trace(), plain)


def test_blocks_may_end_in_any_order(tiny: LanguageModel) -> None:
    plain = tiny.trace([1, 2, 3])
    for name in ("attn.scores", "attn.result", "mlp.out"):
        first, second = hooked(tiny.model, {name: doubled}), hooked(tiny.model, {name: doubled})
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        held = f"blocks.0.{name}"
        seen = np.isfinite(plain[held])
        assert np.array_equal(tiny.trace([1, 2, 3])[held][seen], 2 * plain[held][seen])
        second.__exit__(None, None, None)
        assert untouched(tiny.model)
        assert np.array_equal(tiny.trace([1, 2, 3])["logits"], plain["logits"])


def no_tensor(activation: Tensor, name: str) -> Any:
    return 3


def cut(activation: Tensor, name: str) -> Tensor:
    return activation[..., :-1]


def half(activation: Tensor, name: str) -> Tensor:
    return activation.half()


def elsewhere(activation: Tensor, name: str) -> Tensor:
    return activation.to("meta")


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (no_tensor, r"the hook no_tensor on blocks.1.{tail} returned int"),
        (cut, r"the hook cut on blocks.1.{tail} returned a tensor of shape \[.*\]; the activation has shape \[.*\]"),
        (half, r"the hook half on blocks.1.{tail} returned torch.float16; the activation is torch.float32"),
        (elsewhere, r"the hook elsewhere on blocks.1.{tail} returned a tensor on meta; the activation is on cpu"),
    ],
    ids=["no tensor", "shape", "type", "device"],
)
@pytest.mark.parametrize("tail", ["resid_mid", "attn.q", "attn.scores", "attn.result", "mlp.out"])
def test_a_hook_with_an_invalid_result_is_named(tiny: LanguageModel, hook: Hook, said: str, tail: str) -> None:
    with pytest.raises(HookError, match=said.format(tail=tail)), tiny.hooks({f"blocks.1.{tail}": hook}):
        tiny.predict([1, 2, 3])
    assert untouched(tiny.model)


def test_invalid_hooks_are_refused_before_any_work(tiny: LanguageModel) -> None:
    with pytest.raises(ActivationNameError, match="did you mean 'resid_post'"), tiny.hooks({"resid_pots": nothing}):
        pass
    wrong: Any = {"resid_post": nothing, "embed": "nothing"}
    with pytest.raises(HookError, match="the hook on 'embed' is 'nothing'; it must be a function"), tiny.hooks(wrong):
        pass
    assert untouched(tiny.model)


@pytest.fixture(params=["torch", "native"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    if request.param == "native" and not native.is_built():
        pytest.skip("a pure-Python build")
    return pellucid.load("demo", engine=request.param, threads=1)


def test_hooks_work_under_everything_a_model_does(lm: LanguageModel) -> None:
    """A hook that zeroes a head does so in every call, as in the model without the head."""
    engine = lm.engine
    weight = lm.model.transformer.h[0].attn.c_proj.weight
    rows = slice(2 * lm.config.head_dim, 4 * lm.config.head_dim)

    def silent(z: Tensor, name: str) -> None:
        z[:, :, 2:4] = 0

    plain = lm.generate(TEXT, max_new_tokens=12)
    with lm.hooks({"blocks.0.attn.z": silent}):
        greedy = lm.generate(TEXT, max_new_tokens=12)
        several = lm.generate([TEXT, "The"], max_new_tokens=12)
        beams = lm.generate(TEXT, max_new_tokens=12, num_beams=3)
        streamed = "".join(lm.stream(TEXT, max_new_tokens=12))
        prediction, score = lm.predict(TEXT), lm.score(TEXT)
        session = lm.session(TEXT).run(max_new_tokens=12)
        trace = lm.trace(TEXT, "logits")
    assert lm.engine is engine
    assert lm.generate(TEXT, max_new_tokens=12) == plain
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[rows] = 0
        by_hand = LanguageModel(lm._checkpoint, ReferenceEngine(lm.model), lm.model)
        expected = by_hand.generate(TEXT, max_new_tokens=12)
        expected_beams = by_hand.generate(TEXT, max_new_tokens=12, num_beams=3)
        expected_prediction, expected_score = by_hand.predict(TEXT), by_hand.score(TEXT)
        expected_trace = by_hand.trace(TEXT, "logits")
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert isinstance(expected, Generation) and isinstance(expected_beams, Generation) and isinstance(several, list)
    assert greedy.ids == session.ids == several[0].ids == expected.ids  # type: ignore[union-attr]
    assert streamed == expected.new_text
    assert beams.ids == expected_beams.ids  # type: ignore[union-attr]
    assert [row.id for row in prediction] == [row.id for row in expected_prediction]
    assert score.logprob == pytest.approx(expected_score.logprob, rel=1e-4)  # type: ignore[union-attr]
    assert relative_difference(trace.tensor("logits"), expected_trace.tensor("logits")) < 1e-5
    assert score.logprob != pytest.approx(lm.score(TEXT).logprob, rel=1e-3)  # type: ignore[union-attr]


def test_a_hook_under_generate_receives_the_inputs_of_each_step(lm: LanguageModel) -> None:
    shapes: dict[str, list[list[int]]] = {}

    def look(activation: Tensor, name: str) -> None:
        shapes.setdefault(tail_of(name), []).append(list(activation.shape))

    with lm.hooks({"blocks.0.attn.[kp]*": look, "logits": look, "blocks.0.resid_pre": look}):
        lm.generate([[1, 2, 3], [4, 5, 6]], max_new_tokens=3)
    width, heads, vocab = lm.config.n_embd, lm.config.n_head, lm.config.vocab_size
    assert shapes["resid_pre"] == [[2, 3, width], [2, 1, width], [2, 1, width]]
    assert shapes["attn.k"] == [[2, n, heads, lm.config.head_dim] for n in (3, 1, 1)]
    assert shapes["attn.pattern"] == [[2, heads, n, total] for n, total in ((3, 3), (1, 4), (1, 5))]
    assert shapes["logits"] == [[2, 1, vocab]] * 3


def test_a_key_that_a_hook_replaced_stays_replaced_in_the_cache(lm: LanguageModel) -> None:
    def reversed_keys(keys: Tensor, name: str) -> Tensor:
        return keys.flip(-1)

    with lm.hooks({"blocks.2.attn.k": reversed_keys}):
        cached = lm.generate(TEXT, max_new_tokens=8)
        assert isinstance(cached, Generation)
        for length in range(len(cached.ids) - 8, len(cached.ids)):
            assert lm.predict(cached.ids[:length], top=1)[0].id == cached.ids[length]


def test_logits_that_a_hook_changes_decide_the_tokens(lm: LanguageModel) -> None:
    def always_seven(logits: Tensor, name: str) -> Tensor:
        wanted = torch.full_like(logits, -10.0)
        wanted[..., 7] = 10.0
        return wanted

    with lm.hooks({"logits": always_seven}):
        found = lm.generate(TEXT, max_new_tokens=4)
        assert isinstance(found, Generation) and found.new_ids == [7] * 4
        assert lm.predict(TEXT, top=1)[0].id == 7
        drafted = lm.generate(TEXT, max_new_tokens=4, prompt_lookup_num_tokens=2)
        assert isinstance(drafted, Generation) and drafted.new_ids == [7] * 4


def test_a_tensor_that_a_hook_keeps_can_be_computed_with(lm: LanguageModel) -> None:
    kept: list[Tensor] = []
    with lm.hooks({"blocks.0.resid_post": lambda activation, name: kept.append(activation)}):
        lm.predict(TEXT)
    weight = torch.ones(lm.config.n_embd, requires_grad=True)
    (kept[0] @ weight).sum().backward()
    assert weight.grad is not None


def test_a_session_opened_before_the_block_continues_after_it(lm: LanguageModel) -> None:
    session = lm.session(TEXT)
    expected = lm.generate(TEXT, max_new_tokens=5)
    with lm.hooks({"attn.z": nothing}):
        lm.generate(TEXT, max_new_tokens=2)
    assert session.run(max_new_tokens=5).ids == expected.ids  # type: ignore[union-attr]


def test_a_block_called_by_hand_runs_its_hooks(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    hidden = torch.randn(1, 4, model.config.n_embd)
    with torch.no_grad(), hooked(model, {"resid_pre": doubled}):
        by_name = model.transformer.h[0](hidden_states=hidden)[0]
        by_place = model.transformer.h[0](hidden)[0]
    with torch.no_grad():
        assert torch.equal(by_name, model.transformer.h[0](hidden * 2)[0])
    assert torch.equal(by_name, by_place)


def test_gradients_flow_through_a_replacement(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    name = "blocks.1.mlp.post"

    def value(logits: Tensor) -> Tensor:
        return logits[0, -1, 3]

    with hooked(model, {name: doubled}):
        outside = trace_pass(model, [1, 2, 3], ["blocks.1.mlp.pre", name], gradients=value)
    with hooked(model, {name: lambda activation, _name: (activation * 2).detach()}):
        cut_off = trace_pass(model, [1, 2, 3], ["blocks.1.mlp.pre", name], gradients=value)
    assert np.array_equal(outside[name], cut_off[name])
    np.testing.assert_allclose(outside.gradient(name), cut_off.gradient(name), rtol=1e-5)
    assert outside.gradient("blocks.1.mlp.pre").any() and not cut_off.gradient("blocks.1.mlp.pre").any()
