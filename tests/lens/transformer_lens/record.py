"""Record results of TransformerLens and Captum for a tiny random GPT-2 and for the demo model.

TransformerLens's pins conflict with Transformers 5, so this script runs in a separate environment:

    python -m venv oracle
    oracle/bin/pip install transformer-lens==2.18.0 captum==0.9.0 torch==2.13.0 "pyarrow<20"
    oracle/bin/python tests/lens/transformer_lens/record.py

Both models are built from the checkpoints in this repository, without a hub:
`tests/decoding/transformers_4_49/checkpoint` and `src/pellucid/assets/demo`. Nothing is folded or centred, except for
the logit attributions: TransformerLens's `logit_attrs` omits the weight of the final layer norm unless it is folded
into the head, so they come from a copy of the model with `fold_ln=True` (and nothing else).

For each model there is a safetensors file with every recorded array, and in `recorded.json` the texts (in ids), the
tokens asked about, and the versions. Keys of the arrays:

    activation/NAME  the cache's, under TransformerLens's name, [1, ...]; of the demo model its first and last block
    logits           [1, seq, vocab]; of the demo model every 64th id
    lens             the logit lens, [n_layer + 1, seq, vocab] or every 64th id: ln_final and unembed of
                     `accumulated_resid`
    attribution/*    `logit_attrs` of `get_full_resid_decomposition` at the last position, for the answer's logit less
                     the other's: "heads" [n_layer, n_head], "mlps" [n_layer], "embed", "pos_embed", "bias" (the sum of
                     the attention layers' output biases), "final_bias" (the folded final layer norm's)
    patching/NAME    `transformer_lens.patching.get_act_patch_NAME`, for the answer's logit less the other's at the last
                     position
    heads/NAME       `head_detector`'s scores with error_measure "mul", on the repetitive text
    gradients/*      Captum's `IntegratedGradients` of the answer's logit at the last position, summed over channels,
                     [seq]: "zero" and "token" by their baseline; "zero_delta", "token_delta" its convergence deltas
"""

from __future__ import annotations

import importlib.metadata
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from captum.attr import IntegratedGradients
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformer_lens import ActivationCache, HookedTransformer, HookedTransformerConfig, head_detector, patching
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
# Texts of equal length. No two neighbours in the repetitive text are equal: TransformerLens counts such attention too.
CASES: dict[str, dict[str, Any]] = {
    "tiny": {
        "checkpoint": "tests/decoding/transformers_4_49/checkpoint",
        "clean": [5, 40, 12, 33, 7, 61, 2, 19, 28],
        "corrupted": [5, 40, 55, 33, 7, 61, 30, 19, 28],
        "repetitive": [9, 4, 17, 31, 9, 4, 50, 17, 31, 9, 22, 4, 17],
        "answer": 23,
        "other": 41,
        "baseline": 3,
        "steps": 50,
    },
    # "The king gave the queen a", "The boy gave the girl a"; " ring", " ball"
    "demo": {
        "checkpoint": "src/pellucid/assets/demo",
        "clean": [464, 5822, 2921, 262, 16599, 257],
        "corrupted": [464, 2933, 2921, 262, 2576, 257],
        "repetitive": [464, 3290, 2497, 257, 3797, 13, 383, 3797, 2497, 262, 3290, 13],
        "answer": 5858,
        "other": 2613,
        "baseline": 50256,
        "steps": 20,
    },
}
SWEEPS = (
    "resid_pre",
    "resid_mid",
    "attn_out",
    "mlp_out",
    "attn_head_out_all_pos",
    "attn_head_q_all_pos",
    "attn_head_k_all_pos",
    "attn_head_v_all_pos",
    "attn_head_pattern_all_pos",
    "attn_head_out_by_pos",
    "attn_head_pattern_by_pos",
)
DETECTIONS = ("previous_token_head", "duplicate_token_head", "induction_head")
EVERY_ID = 64  # for the demo model, every 64th id is recorded


def load(folder: Path) -> transformers.GPT2LMHeadModel:
    """Load a checkpoint in Transformers, in float32."""
    fields = json.loads((folder / "config.json").read_text())
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields, attn_implementation="eager"))
    weights = {
        name if name.startswith("transformer.") else f"transformer.{name}": weight.float()
        for name, weight in load_file(folder / "model.safetensors").items()
        if name != "lm_head.weight"
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval()


def hooked(model: transformers.GPT2LMHeadModel) -> HookedTransformer:
    """The same weights in TransformerLens, with nothing folded or centred."""
    config = model.config
    cfg = HookedTransformerConfig(
        n_layers=config.n_layer,
        d_model=config.n_embd,
        n_ctx=config.n_positions,
        d_head=config.n_embd // config.n_head,
        n_heads=config.n_head,
        d_mlp=4 * config.n_embd,
        d_vocab=config.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=config.layer_norm_epsilon,
        use_attn_result=True,
        device="cpu",
    )
    lens = HookedTransformer(cfg)
    weights = convert_gpt2_weights(model, cfg)
    weights["unembed.b_U"] = torch.zeros(config.vocab_size)
    lens.load_and_process_state_dict(
        weights, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    return lens.eval()


def folded(lens: HookedTransformer) -> HookedTransformer:
    """A copy in which weights and biases of layer norms are folded into the following layers."""
    copy = HookedTransformer(lens.cfg)
    copy.load_and_process_state_dict(
        {name: weight.clone() for name, weight in lens.state_dict().items()},
        fold_ln=True,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return copy.eval()


def record(case: dict[str, Any]) -> dict[str, Tensor]:
    model = load(ROOT / case["checkpoint"])
    lens = hooked(model)
    clean, corrupted = torch.tensor([case["clean"]]), torch.tensor([case["corrupted"]])
    small = lens.cfg.d_vocab < 1000
    ids = slice(None) if small else slice(None, None, EVERY_ID)
    logits, cache = lens.run_with_cache(clean)
    # Check first that TransformerLens computes what Transformers computes.
    assert torch.allclose(logits, model(clean).logits, atol=1e-3)

    blocks = ("",) if small else ("blocks.0.", f"blocks.{lens.cfg.n_layers - 1}.")
    left_out = ("hook_scale",) if small else ("hook_scale", "hook_result")
    kept = [name for name in cache if name.startswith(blocks) and not name.endswith(left_out)]
    found = {f"activation/{name}": cache[name] for name in kept}
    found["logits"] = logits[..., ids]
    streams = cache.accumulated_resid(layer=-1)  # [n_layer + 1, 1, seq, d_model]
    found["lens"] = torch.stack([lens.unembed(lens.ln_final(stream))[0] for stream in streams])[..., ids]
    found |= {f"attribution/{name}": value for name, value in attribution(folded(lens), clean, case).items()}
    found |= {f"patching/{name}": value for name, value in sweeps(lens, clean, corrupted, cache, case).items()}
    found |= {f"heads/{name}": value for name, value in detections(lens, case).items()}
    found |= {f"gradients/{name}": value for name, value in gradients(model, clean, case).items()}
    return {name: value.detach().float().contiguous().clone() for name, value in found.items()}


def attribution(lens: HookedTransformer, clean: Tensor, case: dict[str, Any]) -> dict[str, Tensor]:
    """Parts of the logit difference between the two answers, at the last position."""
    _, cache = lens.run_with_cache(clean)
    stack, labels = cache.get_full_resid_decomposition(expand_neurons=False, return_labels=True, pos_slice=-1)
    values = cache.logit_attrs(stack, tokens=case["answer"], incorrect_tokens=case["other"], pos_slice=-1)[:, 0]
    by_label = dict(zip(labels, values, strict=True))
    layers, heads = range(lens.cfg.n_layers), range(lens.cfg.n_heads)
    return {
        "heads": torch.stack([torch.stack([by_label[f"L{layer}H{head}"] for head in heads]) for layer in layers]),
        "mlps": torch.stack([by_label[f"{layer}_mlp_out"] for layer in layers]),
        "embed": by_label["embed"],
        "pos_embed": by_label["pos_embed"],
        "bias": by_label["bias"],
        "final_bias": lens.b_U[case["answer"]] - lens.b_U[case["other"]],
    }


def sweeps(
    lens: HookedTransformer, clean: Tensor, corrupted: Tensor, cache: ActivationCache, case: dict[str, Any]
) -> dict[str, Tensor]:
    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, case["answer"]] - logits[0, -1, case["other"]]

    with torch.no_grad():
        return {name: getattr(patching, f"get_act_patch_{name}")(lens, corrupted, cache, metric) for name in SWEEPS}


def detections(lens: HookedTransformer, case: dict[str, Any]) -> dict[str, Tensor]:
    """Scores as in `detect_head`, which itself needs a tokenizer."""
    tokens = torch.tensor([case["repetitive"]])
    _, cache = lens.run_with_cache(tokens, remove_batch_dim=True)
    score = partial(
        head_detector.compute_head_attention_similarity_score,
        exclude_bos=False,
        exclude_current_token=False,
        error_measure="mul",
    )
    found = {}
    for name in DETECTIONS:
        places = getattr(head_detector, f"get_{name}_detection_pattern")(tokens)
        found[name] = torch.tensor(
            [[score(pattern, places) for pattern in cache["pattern", layer]] for layer in range(lens.cfg.n_layers)]
        )
    return found


def gradients(model: transformers.GPT2LMHeadModel, clean: Tensor, case: dict[str, Any]) -> dict[str, Tensor]:
    def last_logits(embeddings: Tensor) -> Tensor:
        return model(inputs_embeds=embeddings).logits[:, -1]

    embeddings = model.transformer.wte(clean).detach()
    token = model.transformer.wte(torch.full_like(clean, case["baseline"])).detach()
    found = {}
    for name, baseline in (("zero", torch.zeros_like(embeddings)), ("token", token)):
        values, delta = IntegratedGradients(last_logits).attribute(
            embeddings,
            baselines=baseline,
            target=case["answer"],
            n_steps=case["steps"],
            method="gausslegendre",
            return_convergence_delta=True,
        )
        found |= {name: values[0].sum(-1), f"{name}_delta": delta}
    return found


def main() -> None:
    for name, case in CASES.items():
        save_file(record(case), FOLDER / f"{name}.safetensors")
    packages = ("transformer-lens", "captum", "torch", "transformers", "numpy")
    versions = {package: importlib.metadata.version(package) for package in packages}
    text = json.dumps({"versions": versions, "every_id": EVERY_ID, "cases": CASES}, indent=1)
    (FOLDER / "recorded.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
