"""Named activations and instruments equal those of TransformerLens on two models, with nothing folded or centred."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.lens.names import canonical

from .recorded import Case, relative_difference

TOLERANCE = 1e-4
# Component names of patching sweeps: ours, and TransformerLens's.
SWEEPS = {
    "resid_pre": "resid_pre",
    "resid_mid": "resid_mid",
    "attn.out": "attn_out",
    "mlp.out": "mlp_out",
    "attn.z": "attn_head_out_all_pos",
    "attn.q": "attn_head_q_all_pos",
    "attn.k": "attn_head_k_all_pos",
    "attn.v": "attn_head_v_all_pos",
    "attn.pattern": "attn_head_pattern_all_pos",
}


def test_every_named_activation_equals_transformer_lens(case: Case) -> None:
    trace = case.lm.trace(case.clean)
    recorded = case.under("activation/")
    assert len(recorded) > 25
    for name, theirs in recorded.items():
        ours = trace[name]  # TransformerLens's spelling of the name
        assert ours is not None and canonical(name) in trace.names
        if name.endswith("hook_attn_scores"):  # masked entries are minus infinity in both
            seen = np.isfinite(theirs)
            assert (np.isfinite(ours) == seen).all()
            assert relative_difference(ours[seen], theirs[seen]) < TOLERANCE
        else:
            assert relative_difference(ours, theirs) < TOLERANCE, name


def test_logits_equal_transformer_lens(case: Case) -> None:
    ours = case.lm.trace(case.clean, "logits")["logits"]
    assert relative_difference(ours[..., :: case.every_id], case["logits"]) < TOLERANCE


def test_the_logit_lens_equals_transformer_lens(case: Case) -> None:
    trace = case.lm.trace(case.clean)
    recorded = case["lens"]  # [n_layer + 1, seq, ids]
    assert len(recorded) == case.lm.config.n_layer + 1
    rng = np.random.default_rng(0)
    for column in rng.choice(recorded.shape[-1], 8, replace=False):
        lens = trace.logit_lens(token=int(column) * case.every_id)
        assert np.abs(lens.target_logits - recorded[..., column]).max() < TOLERANCE * np.abs(recorded).max()


def test_the_parts_of_a_logit_equal_transformer_lens(case: Case) -> None:
    ours = case.lm.trace(case.clean).logit_attribution(case.answer, against=case.other)
    theirs = case.under("attribution/")
    scale = max(float(np.abs(value).max()) for value in theirs.values())

    def close(value: object, recorded: object) -> bool:
        return float(np.abs(np.asarray(value) - np.asarray(recorded)).max()) < TOLERANCE * scale

    assert ours.heads.shape == theirs["heads"].shape
    assert close(ours.heads, theirs["heads"])
    assert close(ours.mlps, theirs["mlps"])
    assert close(ours["embed"].value, theirs["embed"])
    assert close(ours["pos_embed"].value, theirs["pos_embed"])
    assert close(ours["ln_final.bias"].value, theirs["final_bias"])
    attention_biases = sum(part.value for part in ours if part.kind == "bias" and part.layer is not None)
    assert close(attention_biases, theirs["bias"])


@pytest.mark.parametrize("component", SWEEPS)
def test_patching_sweeps_equal_transformer_lens(case: Case, component: str) -> None:
    ours = case.lm.patch(case.clean, case.corrupted, (case.answer, case.other), component, batch_size=11)
    assert relative_difference(ours.values, case[f"patching/{SWEEPS[component]}"]) < TOLERANCE
    assert ours.axes == (
        "layer",
        "position" if component in ("resid_pre", "resid_mid", "attn.out", "mlp.out") else "head",
    )
    logits = case.lm.trace(case.clean, "logits")["logits"][0, -1]
    assert abs(ours.clean - (logits[case.answer] - logits[case.other])) < TOLERANCE * np.abs(logits).max()


@pytest.mark.parametrize(("component", "theirs"), [("head", "out"), ("attn.pattern", "pattern")])
def test_patching_heads_by_position_equals_transformer_lens(case: Case, component: str, theirs: str) -> None:
    ours = case.lm.patch(case.clean, case.corrupted, (case.answer, case.other), component, by_position=True)
    recorded = case[f"patching/attn_head_{theirs}_by_pos"]  # z: [layer, position, head]; patterns have heads first
    recorded = recorded.transpose(0, 2, 1) if component == "attn.pattern" else recorded
    assert relative_difference(ours.values, recorded) < TOLERANCE


def test_head_scores_equal_transformer_lens(case: Case) -> None:
    trace = case.lm.trace(case.repetitive, "attn.pattern")
    ours = {
        "previous_token_head": trace.previous_token_scores(),
        "duplicate_token_head": trace.duplicate_token_scores(),
        "induction_head": trace.induction_scores(),
    }
    for name, scores in ours.items():
        # TransformerLens averages over all positions, including those that have no earlier position to attend to.
        over_all = scores.scores * scores.counted / len(case.repetitive)
        assert relative_difference(over_all, case[f"heads/{name}"]) < TOLERANCE


def test_integrated_gradients_equal_captum(case: Case) -> None:
    for name, baseline in (("zero", None), ("token", case.baseline)):
        ours = case.lm.attribute(case.clean, case.answer, steps=case.steps, baseline=baseline)
        theirs = case[f"gradients/{name}"]
        assert relative_difference(ours.values, theirs) < TOLERANCE
        assert ours.convergence_delta is not None
        delta = float(case[f"gradients/{name}_delta"][0])
        assert abs(ours.convergence_delta - delta) < TOLERANCE * np.abs(theirs).sum()


def test_a_function_of_the_logits_is_the_same_metric(case: Case) -> None:
    def difference(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1, case.answer] - logits[:, -1, case.other]

    ours = case.lm.patch(case.clean, case.corrupted, difference, "attn.out")
    assert relative_difference(ours.values, case["patching/attn_out"]) < TOLERANCE
    assert ours.metric == "difference"
