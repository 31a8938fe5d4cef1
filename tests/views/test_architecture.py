"""The diagram of an architecture matches the live model, for any model."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console

from pellucid import GPT2Config, GPT2LMHeadModel, GPT2Model
from pellucid.errors import ContextLengthError, MissingExtraError, OptionError
from pellucid.reference.architecture import Architecture, read_architecture
from pellucid.views.architecture import architecture_figure

from ..pairs import Pair
from .reading import assert_readable, texts

CONFIGS = [
    {},
    {"tie_word_embeddings": False, "n_inner": 40, "activation_function": "silu"},
    {"n_layer": 1, "n_head": 1, "scale_attn_by_inverse_layer_idx": True},
]
LONG_NUMBERS = {"vocab_size": 50304, "n_embd": 1600, "n_head": 25, "n_layer": 1, "n_positions": 2048}


def brackets(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


@pytest.mark.parametrize("fields", CONFIGS)
def test_a_survey_finds_the_shapes_that_flow_through_transformers(
    pair: Callable[..., Pair], fields: dict[str, Any]
) -> None:
    ours, theirs = pair(**fields)
    theirs.set_attn_implementation("eager")
    flowing: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            flowing[name] = tuple((output if isinstance(output, torch.Tensor) else output[0]).shape)

        return hook

    for name, module in theirs.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        theirs(torch.arange(21).reshape(3, 7), use_cache=False)
    architecture = read_architecture(ours, batch=3, seq=7)
    assert len(flowing) > 10
    for name, module in theirs.named_modules():
        part = architecture[name]
        assert dict(part.weights) == {own: tuple(w.shape) for own, w in module.named_parameters(recurse=False)}
        assert part.parameter_count == sum(weight.numel() for weight in module.parameters())
        if name in flowing:
            assert part.outputs[0] == flowing[name], name
    # The softmax of Transformers is a function, not a module.
    alike = {part.name for part in architecture if not part.name.endswith(".attn.softmax")}
    assert alike == {name for name, _ in theirs.named_modules()}
    assert architecture.tied is theirs.config.tie_word_embeddings
    assert architecture.parameter_count == ours.config.parameter_count


def test_a_survey_leaves_the_model_as_it_was(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    ours.train()
    ours.transformer.h[1].eval()
    modes = [module.training for module in ours.modules()]
    generator = torch.get_rng_state()
    read_architecture(ours)
    assert [module.training for module in ours.modules()] == modes
    assert not any(module._forward_hooks for module in ours.modules())
    assert all(parameter.grad is None for parameter in ours.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("fields", CONFIGS)
def test_the_figure_names_every_weight_activation_and_count(pair: Callable[..., Pair], fields: dict[str, Any]) -> None:
    ours, _ = pair(**fields)
    shown = texts(architecture_figure(read_architecture(ours, batch=3, seq=7)))
    config = ours.config
    assert f"GPT-2, {config.parameter_count:,} parameters" in shown
    assert f"× {config.n_layer}" in shown
    for name in ("wte", "wpe", "ln_1", "c_attn", "ln_2", "c_fc", "c_proj", "ln_f", "lm_head"):
        assert name in shown
    for name in ("c_attn", "c_proj"):
        layer: Any = getattr(ours.transformer.h[0].attn, name)
        assert f"{brackets(layer.weight.shape)} + {brackets(layer.bias.shape)}" in shown
    for name in ("c_fc", "c_proj"):
        layer = getattr(ours.transformer.h[0].mlp, name)
        assert f"{brackets(layer.weight.shape)} + {brackets(layer.bias.shape)}" in shown
    with torch.no_grad():
        out: Any = ours(torch.zeros(3, 7, dtype=torch.long), output_attentions=True)
    for activation in (out.logits, out.past_key_values[0][0], out.attentions[0]):
        assert brackets(activation.shape) in shown
    assert brackets((3, 7, config.inner_size)) in shown
    assert ("tied to wte" in shown) is config.tie_word_embeddings


@pytest.mark.parametrize("fields", [*CONFIGS, LONG_NUMBERS])
@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (2, 11)])
def test_no_text_of_the_figure_overlaps_another(
    pair: Callable[..., Pair], fields: dict[str, Any], batch: int, seq: int
) -> None:
    assert_readable(architecture_figure(read_architecture(pair(**fields)[0], batch, seq)))


def test_shapes_of_a_long_batch_stay_apart() -> None:
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=99999, n_embd=48, n_head=12, n_layer=1, n_positions=1024, n_inner=9999)
    )
    assert_readable(architecture_figure(read_architecture(model, batch=10, seq=128)))


@pytest.mark.parametrize("form", ["terminal", "html"])
def test_an_architecture_prints_itself_with_every_weight(pair: Callable[..., Pair], form: str) -> None:
    architecture = read_architecture(pair()[0])
    printed = printed_in_a_terminal(architecture) if form == "terminal" else architecture._repr_html_()
    assert printed is not None
    for part in architecture:
        repeated = part.name.startswith("transformer.h.") and not part.name.startswith("transformer.h.0")
        for _, shape in () if repeated else part.weights:
            assert brackets(shape) in printed
    assert "0 … 2" in printed


def printed_in_a_terminal(architecture: Architecture) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(architecture)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_sizes_that_cannot_be_run_are_refused(pair: Callable[..., Pair]) -> None:
    ours, _ = pair()
    with pytest.raises(ContextLengthError, match="64 positions"):
        read_architecture(ours, seq=65)
    with pytest.raises(OptionError, match="at least 1"):
        read_architecture(ours, batch=0)
    headless: Any = GPT2Model(ours.config)
    with pytest.raises(OptionError, match="GPT2LMHeadModel"):
        read_architecture(headless)


def test_without_matplotlib_the_error_names_the_extra(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pellucid\[plot\]"):
        architecture_figure(read_architecture(pair()[0]))


def test_importing_the_views_imports_neither_torch_nor_matplotlib() -> None:
    program = "import sys, pellucid.views; print({'torch', 'matplotlib', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
