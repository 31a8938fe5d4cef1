"""Pairs of a Pellucid model and a Transformers model with the same weights, the oracle."""

from __future__ import annotations

import torch
import transformers

from pellucid import GPT2Config, GPT2LMHeadModel

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()

Pair = tuple[GPT2LMHeadModel, transformers.GPT2LMHeadModel]


def build_pair(config: GPT2Config, seed: int = 0) -> Pair:
    """A random model and its counterpart in Transformers, which share their weights in memory."""
    torch.manual_seed(seed)
    ours = GPT2LMHeadModel(config).eval()
    # Biases and layer norms differ from their initial zeros and ones, so that a missing one changes the result.
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "lm_head" in name:
                parameter.normal_(std=config.initializer_range)
    fields = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
    theirs.load_state_dict(ours.state_dict(), assign=True)
    theirs.tie_weights()
    return ours, theirs.eval()


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest absolute difference divided by the largest absolute value."""
    ours, theirs = ours.detach().float(), theirs.detach().float()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def left_padded(prompts: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask of prompts of unequal length, padded on the left."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)
