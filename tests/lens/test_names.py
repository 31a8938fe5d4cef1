"""Activations are selected by name, glob or the part after the block. Unknown names are errors with suggestions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid import LanguageModel
from pellucid.config import GPT2Config
from pellucid.errors import ActivationNameError, PellucidError
from pellucid.lens.names import (
    IN_BLOCK,
    activation_names,
    canonical,
    is_name,
    layer_of,
    select,
    shape_of,
    size_of,
    tail_of,
)

KNOWN = activation_names(3)

# Hook points of TransformerLens 2 that have a name here, as `HookedTransformer.hook_dict` lists them.
HOOK_POINTS = {
    "hook_embed": "embed",
    "hook_pos_embed": "pos_embed",
    "blocks.1.hook_resid_pre": "blocks.1.resid_pre",
    "blocks.1.ln1.hook_normalized": "blocks.1.ln1.normalized",
    "blocks.1.attn.hook_q": "blocks.1.attn.q",
    "blocks.1.attn.hook_k": "blocks.1.attn.k",
    "blocks.1.attn.hook_v": "blocks.1.attn.v",
    "blocks.1.attn.hook_attn_scores": "blocks.1.attn.scores",
    "blocks.1.attn.hook_pattern": "blocks.1.attn.pattern",
    "blocks.1.attn.hook_z": "blocks.1.attn.z",
    "blocks.1.attn.hook_result": "blocks.1.attn.result",
    "blocks.1.hook_attn_out": "blocks.1.attn.out",
    "blocks.1.hook_resid_mid": "blocks.1.resid_mid",
    "blocks.1.ln2.hook_normalized": "blocks.1.ln2.normalized",
    "blocks.1.mlp.hook_pre": "blocks.1.mlp.pre",
    "blocks.1.mlp.hook_post": "blocks.1.mlp.post",
    "blocks.1.hook_mlp_out": "blocks.1.mlp.out",
    "blocks.1.hook_resid_post": "blocks.1.resid_post",
    "ln_final.hook_normalized": "ln_final.normalized",
}


def test_transformer_lens_spellings_are_understood() -> None:
    assert {name: canonical(name) for name in HOOK_POINTS} == HOOK_POINTS
    one_block = [name for name in KNOWN if layer_of(name) in (None, 1)]
    assert sorted(HOOK_POINTS.values()) == sorted(set(one_block) - {"logits"})
    for spelling, name in HOOK_POINTS.items():
        assert select(spelling, KNOWN) == (name,)
    assert select("blocks.*.attn.hook_pattern", KNOWN) == tuple(f"blocks.{i}.attn.pattern" for i in range(3))
    assert select("hook_resid_post", KNOWN) == select("resid_post", KNOWN)


def test_names_come_in_the_order_of_a_pass_whatever_order_they_are_asked_in() -> None:
    asked = ["logits", "resid_post", "blocks.1.attn.q", "embed", "resid_post"]
    assert select(asked, KNOWN) == (
        "embed",
        "blocks.0.resid_post",
        "blocks.1.attn.q",
        "blocks.1.resid_post",
        "blocks.2.resid_post",
        "logits",
    )
    assert select(None, KNOWN) == select("*", KNOWN) == KNOWN
    assert select([], KNOWN) == ()


def test_a_glob_selects_names_or_what_follows_the_block() -> None:
    assert select("blocks.[02].mlp.p*", KNOWN) == tuple(
        f"blocks.{i}.mlp.{part}" for i in (0, 2) for part in ("pre", "post")
    )
    assert select("attn.*", KNOWN) == tuple(n for n in KNOWN if ".attn." in n)
    assert select("*.normalized", KNOWN) == tuple(n for n in KNOWN if n.endswith("normalized"))
    assert len(select("blocks.1.*", KNOWN)) == len(IN_BLOCK)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("resid_pots", "did you mean 'resid_post'"),
        ("blocks.0.atn.pattern", "did you mean 'blocks.0.attn.pattern'"),
        ("blocks.1.attn.hook_patern", "did you mean 'blocks.1.attn.pattern'"),
        ("Logits", "did you mean 'logits'?"),
        ("LN_FINAL.normalized", "did you mean 'ln_final.normalized'"),
        ("pattern", "did you mean 'attn.pattern'?"),
        ("blocks.7.mlp.pre", "the blocks are 0 to 2"),
        ("blocks.-1.mlp.pre", "the blocks are 0 to 2"),
        ("blocks.*.mlp.posts", "did you mean 'blocks.*.mlp.post'"),
        ("", "there are embed, pos_embed"),
        ("zzzzzz", "there are embed, pos_embed"),
    ],
)
def test_a_name_that_fits_nothing_suggests_the_nearest(wrong: str, said: str) -> None:
    with pytest.raises(ActivationNameError) as caught:
        select(["embed", wrong], KNOWN)
    assert said in str(caught.value)
    assert repr(wrong) in str(caught.value)
    assert isinstance(caught.value, PellucidError) and isinstance(caught.value, KeyError)


def test_a_name_is_a_string() -> None:
    with pytest.raises(ActivationNameError, match="3 is not an activation name"):
        select([3], KNOWN)  # type: ignore[list-item]


@given(st.text(max_size=30))
def test_any_text_selects_known_names_or_is_refused(text: str) -> None:
    try:
        assert set(select(text, KNOWN)) <= set(KNOWN)
    except ActivationNameError as error:
        assert repr(text) in str(error)


@given(st.sampled_from(KNOWN))
def test_a_name_is_its_block_and_what_follows(name: str) -> None:
    layer = layer_of(name)
    assert name == (tail_of(name) if layer is None else f"blocks.{layer}.{tail_of(name)}")
    assert is_name(name, 3) and not is_name(name + "x", 3)
    assert is_name(name, 1) == (layer in (None, 0))


@pytest.mark.parametrize(
    "name", ["blocks.00.mlp.pre", "blocks.1", "blocks.x.mlp.pre", "mlp.pre", "blocks.1.logits", ""]
)
def test_invalid_names_are_distinguished_from_names(name: str) -> None:
    assert not is_name(name, 3)


def test_shapes_are_known_before_a_pass(tiny: LanguageModel) -> None:
    trace = tiny.trace([1, 2, 3, 4, 5])
    assert {name: trace[name].shape for name in trace} == {name: shape_of(name, tiny.config, 5) for name in trace}
    assert trace.nbytes == 4 * size_of(trace.names, tiny.config, 5)
    model, ids = tiny.model, torch.tensor([[1, 2, 3], [4, 5, 6]])
    found: dict[str, tuple[int, ...]] = {}
    with torch.no_grad(), tiny.hooks({"*": lambda activation, name: found.update({name: tuple(activation.shape)})}):
        past = model(ids[:, :2]).past_key_values
        model(ids[:, 2:], past_key_values=past)
    expected = {name: shape_of(name, tiny.config, 1, 3, batch=2) for name in found}
    assert found == {**expected, "pos_embed": (1, *expected["pos_embed"][1:])}  # shared by all rows
    assert shape_of("blocks.0.mlp.pre", GPT2Config(n_inner=50), 2) == (1, 2, 50)
