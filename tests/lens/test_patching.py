"""Patching sweeps: each value equals a full pass with one activation replaced, although sweeps skip computation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import GPT2LMHeadModel, LanguageModel
from pellucid.errors import OptionError
from pellucid.lens.hooks import Hook, hooked
from pellucid.lens.instruments import patching

from .passes import hook_count, logits_of

CLEAN, CORRUPTED = [5, 40, 12, 33, 7], [5, 40, 55, 33, 9]
BY_HEAD = ("attn.z", "attn.q", "attn.k", "attn.v", "attn.result", "attn.pattern", "attn.scores")
COMPONENTS = ("resid_pre", "resid_mid", "resid_post", "attn.out", "mlp.out", *BY_HEAD)
METRIC = patching.TokenMetric(-1, 23, 41, "a difference")


def test_patching_the_differing_position_gives_the_clean_answer(tiny: LanguageModel) -> None:
    sweep = tiny.patch([5, 40, 12], [5, 40, 55], 23, "resid_post")
    # The texts differ only at the last position: patching its residual stream gives the clean run.
    np.testing.assert_allclose(sweep.values[:, -1], sweep.clean, rtol=1e-4)
    np.testing.assert_allclose(sweep.values[:, :-1], sweep.corrupted, rtol=1e-4)
    np.testing.assert_allclose(sweep.recovered[:, -1], 1, atol=1e-3)
    assert sweep.clean == pytest.approx(float(logits_of(tiny, [5, 40, 12])[-1, 23]), rel=1e-4)


@pytest.mark.parametrize(
    "component", ["resid_pre", "resid_mid", "attn.out", "mlp.out", "attn.z", "attn.result", "attn.scores"]
)
def test_one_value_of_a_sweep_equals_a_pass_with_one_hook(tiny: LanguageModel, component: str) -> None:
    sweep = tiny.patch(CLEAN, CORRUPTED, (23, 41), component, batch_size=3)
    source = tiny.trace(CLEAN).tensor(f"blocks.1.{component}")

    def replace(activation: torch.Tensor, _name: str) -> torch.Tensor:
        where = (0, slice(None), 2) if component in ("attn.z", "attn.result") else (0, 2)
        activation[where] = source[where]
        return activation

    with tiny.hooks({f"blocks.1.{component}": replace}):
        logits = logits_of(tiny, CORRUPTED)[-1]
    assert sweep.values[1, 2] == pytest.approx(float(logits[23] - logits[41]), abs=1e-4)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 40))
def test_a_sweep_is_the_same_in_batches_of_any_size(batch_size: int, tiny: LanguageModel) -> None:
    whole = tiny.patch(CLEAN, CORRUPTED, 3, "resid_pre")
    again = tiny.patch(CLEAN, CORRUPTED, 3, "resid_pre", batch_size=batch_size)
    np.testing.assert_allclose(again.values, whole.values, atol=1e-4)


def test_a_part_of_a_sweep_leaves_the_rest_out(tiny: LanguageModel) -> None:
    whole = tiny.patch(CLEAN, CORRUPTED, 3, "head")
    part = tiny.patch(CLEAN, CORRUPTED, 3, "head", layers=1, indices=[0, 2])
    assert np.isnan(part.values[0]).all() and np.isnan(part.values[1, 1])
    np.testing.assert_allclose(part.values[1, [0, 2]], whole.values[1, [0, 2]], atol=1e-5)


def test_the_default_metric_is_the_logit_difference_of_the_two_predictions(demo: LanguageModel) -> None:
    clean, corrupted = "The king gave the queen a", "The boy gave the girl a"
    sweep = demo.patch(clean, corrupted, layers=[0], indices=[1])
    first, second = (demo.predict(text, top=1)[0] for text in (clean, corrupted))
    assert sweep.metric == f"logit of {first.token!r} minus that of {second.token!r}"
    assert sweep.clean > 0 > sweep.corrupted
    assert sweep.clean_tokens[1] == " king" and sweep.corrupted_tokens[1] == " boy"


def test_a_metric_can_be_read_at_another_position(tiny: LanguageModel) -> None:
    sweep = tiny.patch(CLEAN, CORRUPTED, 3, "resid_pre", position=2)
    assert sweep.corrupted == pytest.approx(float(logits_of(tiny, CORRUPTED)[2, 3]), rel=1e-4)
    np.testing.assert_allclose(sweep.values[:, 3:], sweep.corrupted, rtol=1e-4)  # later positions do not affect it


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1, 2], [1, 2, 3], 3), "2 tokens and the corrupted one 3"),
        (([1, 2], [1, 3], 3, "ln1.normalized"), "component is 'ln1.normalized'"),
        (([1, 2], [1, 3], (3, 4, 5)), "metric has 3 tokens"),
        (([1, 2], [1, 3], 67), "there is no token 67"),
        (([1, 2], [1, 3], " girl"), "no tokenizer"),
        (([1, 2], [1, 3], lambda logits: logits), r"tensor of shape \[2, 2, 67\]"),
        (([1, 2], [1, 2], None), "same after both texts"),
    ],
)
def test_a_bad_sweep_is_refused(tiny: LanguageModel, arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        tiny.patch(*arguments)  # type: ignore[arg-type]
    assert hook_count(tiny) == 0


def test_an_interrupted_sweep_leaves_no_hook(tiny: LanguageModel) -> None:
    runs = 0

    def interrupted(logits: torch.Tensor) -> torch.Tensor:
        nonlocal runs
        runs += 1
        if runs == 3:
            assert hook_count(tiny) == 0  # a sweep runs copies of the modules
            raise KeyboardInterrupt
        return logits[:, -1, 0]

    with pytest.raises(KeyboardInterrupt):
        tiny.patch(CLEAN, CORRUPTED, interrupted, batch_size=2, progress=True)
    assert hook_count(tiny) == 0
    assert runs == 3


def test_progress_is_printed_to_stderr_on_request(tiny: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.patch(CLEAN, CORRUPTED, 3, batch_size=1)
    assert capsys.readouterr() == ("", "")
    tiny.patch(CLEAN, CORRUPTED, 3, batch_size=1, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "patching resid_pre" in err


# Comparison with full passes


@pytest.fixture(scope="module")
def exact(tiny: LanguageModel) -> GPT2LMHeadModel:
    """A model in double precision, so that differences larger than rounding show."""
    return copy.deepcopy(tiny.model).double()


def swept_by_hand(
    model: GPT2LMHeadModel, clean: Sequence[int], corrupted: Sequence[int], component: str, by_position: bool
) -> Any:
    """A sweep of full passes with one hook each, in the order of the axes of `PatchingSweep`."""
    head_first = component in ("attn.pattern", "attn.scores")
    positions: Sequence[Any] = range(len(clean)) if by_position or component not in BY_HEAD else [slice(None)]
    heads: Sequence[Any] = range(model.config.n_head) if component in BY_HEAD else [None]
    kept: dict[str, torch.Tensor] = {}
    with hooked(model, {component: lambda activation, name: kept.update({name: activation})}), torch.no_grad():
        model(torch.tensor([clean]))

    def measured(layer: int, position: Any, head: Any) -> float:
        where = (0, position) if head is None else (0, head, position) if head_first else (0, position, head)

        def replace(activation: torch.Tensor, name: str) -> None:
            activation[where] = kept[name][where]

        with hooked(model, {f"blocks.{layer}.{component}": replace}), torch.no_grad():
            last = model(torch.tensor([corrupted])).logits[0, -1]
        return float(last[23] - last[41])

    layers = range(model.config.n_layer)
    found = np.array([[[measured(layer, place, head) for head in heads] for place in positions] for layer in layers])
    return found.squeeze(tuple(axis for axis, of in ((1, positions), (2, heads)) if of in ([None], [slice(None)])))


SWEPT = [(component, False) for component in COMPONENTS] + [(component, True) for component in BY_HEAD]


@pytest.mark.parametrize(("component", "by_position"), SWEPT)
@pytest.mark.parametrize("differs_at", [0, 2])
def test_a_sweep_equals_full_passes(exact: GPT2LMHeadModel, component: str, by_position: bool, differs_at: int) -> None:
    corrupted = [*CLEAN[:differs_at], 61, *CLEAN[differs_at + 1 : -1], 9]
    sweep = patching.patch(exact, CLEAN, corrupted, METRIC, component, by_position=by_position, batch_size=4)
    expected = swept_by_hand(exact, CLEAN, corrupted, component, by_position)
    assert sweep.values.shape == expected.shape
    np.testing.assert_allclose(sweep.values, expected, rtol=1e-6, atol=1e-6)
    assert np.ptp(expected) > 0.1


def remembering() -> dict[str, Hook]:
    """Hooks that add z of block 0 to z of block 1 in the same run."""
    kept: list[torch.Tensor] = []

    def remember(z: torch.Tensor, _name: str) -> None:
        kept[:] = [z]

    def recall(z: torch.Tensor, _name: str) -> torch.Tensor:
        return z + 2 * kept[0] if kept[0].shape == z.shape else pytest.fail("the run's own z was not seen")

    return {"blocks.0.attn.z": remember, "blocks.1.attn.z": recall}


def doubled(activation: torch.Tensor, _name: str) -> torch.Tensor:
    return activation * 2


def remembering_embeddings() -> dict[str, Hook]:
    kept: list[torch.Tensor] = []

    def recall(out: torch.Tensor, _name: str) -> torch.Tensor:
        return out + kept[-1] if kept[-1].shape == out.shape else pytest.fail("the run's own embeddings were not seen")

    return {"embed": lambda embedded, _name: kept.append(embedded), "blocks.1.mlp.out": recall}


@pytest.mark.parametrize(
    "hooks",
    [
        remembering,
        remembering_embeddings,
        lambda: {"blocks.0.resid_pre": doubled},
        lambda: {"blocks.0.attn.scores": doubled},
        lambda: {"blocks.1.resid_pre": doubled},
        lambda: {"blocks.0.resid_post": doubled, "pos_embed": doubled},
        lambda: {"blocks.1.resid_post": doubled, "ln_final.normalized": doubled},
    ],
)
@pytest.mark.parametrize("component", ["resid_pre", "attn.z"])
def test_active_hooks_run_in_every_run_of_a_sweep(
    exact: GPT2LMHeadModel, hooks: Callable[[], dict[str, Hook]], component: str
) -> None:
    plain = patching.patch(exact, CLEAN, CORRUPTED, METRIC, component)
    with hooked(exact, hooks()):
        sweep = patching.patch(exact, CLEAN, CORRUPTED, METRIC, component, batch_size=3)
        expected = swept_by_hand(exact, CLEAN, CORRUPTED, component, False)
    np.testing.assert_allclose(sweep.values, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(sweep.values - plain.values).max() > 0.01


@pytest.mark.parametrize("layer", [0, 1])
def test_a_hook_sees_the_rows_of_every_run_that_reaches_it(exact: GPT2LMHeadModel, layer: int) -> None:
    rows: list[int] = []
    with hooked(exact, {f"blocks.{layer}.mlp.out": lambda out, _name: rows.append(len(out))}):
        patching.patch(exact, CLEAN, CORRUPTED, METRIC, batch_size=4)
    # Two initial runs, then one for each of two layers and five positions.
    assert sum(rows) == 2 + 10


@pytest.fixture
def blocks_run(exact: GPT2LMHeadModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Number of rows that each call of a block receives."""
    seen: list[int] = []
    for layer, block in enumerate(exact.transformer.h):
        forward = block.forward

        def counted(rows: torch.Tensor, *rest: Any, of: Any = forward, at: int = layer) -> Any:
            seen.append(len(rows) if at == 0 else 0)
            return of(rows, *rest)

        monkeypatch.setattr(block, "forward", counted)
    yield seen


def test_layers_before_a_patch_and_positions_before_a_difference_are_not_run_again(
    exact: GPT2LMHeadModel, blocks_run: list[int]
) -> None:
    patching.patch(exact, CLEAN, CORRUPTED, METRIC)
    assert sum(blocks_run) == 2 + 3  # both texts; positions 2, 3, 4 of layer 0
    blocks_run.clear()
    patching.patch(exact, CLEAN, CORRUPTED, METRIC, "head", by_position=True, layers=1)
    assert sum(blocks_run) == 2


def test_a_sweep_of_heads_by_position_says_its_axes(tiny: LanguageModel) -> None:
    sweep = tiny.patch(CLEAN, CORRUPTED, (23, 41), "head", by_position=True)
    assert sweep.axes == ("layer", "position", "head") and sweep.values.shape == (2, 5, 3)
    np.testing.assert_allclose(sweep.values[:, :2], sweep.corrupted)
    assert sweep.recovered.shape == (2, 5, 3)
    part = tiny.patch(CLEAN, CORRUPTED, (23, 41), "head", by_position=True, layers=[1], indices=2)
    assert np.isnan(part.values[0]).all() and np.isnan(part.values[:, :, :2]).all()
    np.testing.assert_allclose(part.values[1, :, 2], sweep.values[1, :, 2], atol=1e-5)
    with pytest.raises(OptionError, match="mlp.out is always patched at each position"):
        tiny.patch(CLEAN, CORRUPTED, 3, "mlp.out", by_position=True)


def test_a_sweep_of_equal_texts_runs_no_patch_and_changes_nothing(tiny: LanguageModel) -> None:
    sweep = tiny.patch(CLEAN, CLEAN, 3)
    np.testing.assert_array_equal(sweep.values, np.float32(sweep.corrupted))
    assert sweep.clean == pytest.approx(sweep.corrupted)


def test_patching_knows_short_names() -> None:
    assert [patching._component(name) for name in ("head", "attn", "mlp", "hook_resid_pre")] == [
        "attn.z",
        "attn.out",
        "mlp.out",
        "resid_pre",
    ]
