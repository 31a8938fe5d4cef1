"""Muon: updates have nearly equal singular values."""

from __future__ import annotations

import pytest
import torch

from pellucid.config import GPT2Config
from pellucid.reference.model import GPT2Model
from pellucid.training.optimizer import Muon, build_optimizers, orthogonalize


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 24, 96), (2, 96, 24)])
def test_singular_values_become_nearly_one_and_singular_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.1, 1.0, left.size(-1))  # singular values within a factor of ten, as in training
    matrices = left @ values.diag() @ right
    result = orthogonalize(matrices).float()
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6 and values.max() < 1.3  # the range of the quintic iteration
    nearest = left @ right  # the polar factor
    cosine = (result * nearest).sum() / (result.norm() * nearest.norm())
    assert cosine > 0.95


def test_a_step_has_the_learning_rate_as_size_in_every_direction() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 64))
    weight.grad = torch.randn(16, 64) * 1e-3
    Muon([weight], lr=0.1).step()
    values = torch.linalg.svdvals(weight.detach())
    assert values.min() > 0.1 and values.max() < 0.3  # 0.1 * sqrt(64 / 16), within the range of the quintic iteration
    assert (weight.detach() * weight.grad).sum() < 0


def test_query_key_and_value_are_updated_separately() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 48)
    together, alone = torch.nn.Parameter(torch.zeros(16, 48)), torch.nn.Parameter(torch.zeros(16, 16))
    together.grad, alone.grad = gradient.clone(), gradient[:, 16:32].clone()
    Muon([together]).step()
    Muon([alone]).step()
    torch.testing.assert_close(together[:, 16:32], alone)


def test_weight_decay_shrinks_a_matrix() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_every_parameter_is_in_one_group_of_one_optimizer() -> None:
    model = GPT2Model(GPT2Config(vocab_size=10, n_positions=8, n_embd=8, n_layer=2, n_head=2))
    for muon_lr in (0.02, 0.0):
        optimizers = build_optimizers(model, muon_lr, 1e-3, 0.1, 0.1)
        grouped = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        assert len(grouped) == len({id(p) for p in grouped}) == len(list(model.parameters()))
        assert len(optimizers) == (2 if muon_lr else 1)
