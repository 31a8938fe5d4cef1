"""The training loss equals the loss over the full vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pellucid.training.loss import chunked_cross_entropy
from pellucid.training.vocabulary import CompactVocabulary

VOCAB_SIZE = 50257


def vocabulary_of(live: int, vocab_size: int = VOCAB_SIZE, seed: int = 0) -> CompactVocabulary:
    random = np.random.default_rng(seed)
    counts = np.zeros(vocab_size, dtype=np.int64)
    counts[random.choice(vocab_size, live, replace=False)] = random.integers(1, 1000, live)
    return CompactVocabulary.from_counts(counts)


@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_loss_and_gradients_are_those_of_all_50257_ids_with_equal_dead_rows(chunk_rows: int) -> None:
    torch.manual_seed(0)
    vocabulary = vocabulary_of(live=300)
    weight = torch.randn(len(vocabulary), 16, requires_grad=True)
    hidden = torch.randn(20, 16, requires_grad=True)
    targets = torch.randint(300, (20,))
    candidates = vocabulary.candidates(targets, frequent=300, sampled=0, generator=torch.Generator())
    assert len(candidates.rows) == 301

    loss = chunked_cross_entropy(
        hidden, weight[candidates.rows], candidates.log_multiplicity, targets, torch.float32, chunk_rows
    )
    found = torch.autograd.grad(loss, (hidden, weight))

    full = vocabulary.expand(weight.double())  # [50257, 16]
    expected_loss = F.cross_entropy(hidden.double() @ full.T, torch.from_numpy(vocabulary.live_ids)[targets])
    expected = torch.autograd.grad(expected_loss, (hidden, weight))
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_bfloat16_stays_close_to_float32() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32, requires_grad=True), torch.randn(500, 32).mul(0.2).requires_grad_()
    targets, once = torch.randint(500, (64,)), torch.zeros(500)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        loss = chunked_cross_entropy(hidden, weight, once, targets, dtype)
        gradients.append((loss, *torch.autograd.grad(loss, (hidden, weight))))
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert (exact - rounded).norm() <= 0.02 * exact.norm()


def test_a_sampled_softmax_has_the_full_denominator_on_average() -> None:
    torch.manual_seed(0)
    vocabulary = vocabulary_of(live=400, vocab_size=1000)
    exponentials = torch.randn(len(vocabulary)).exp()
    expected = exponentials[:-1].sum() + exponentials[-1] * vocabulary.dead_count
    generator = torch.Generator().manual_seed(0)
    needed = torch.tensor([3, 390])
    estimates = []
    for _ in range(2000):
        candidates = vocabulary.candidates(needed, frequent=50, sampled=40, generator=generator)
        estimates.append((exponentials[candidates.rows] * candidates.log_multiplicity.exp()).sum())
    spread = torch.stack(estimates).std() / math.sqrt(len(estimates))
    assert abs(torch.stack(estimates).mean() - expected) < 4 * spread


def test_candidates_hold_each_needed_row_once_with_its_index() -> None:
    vocabulary = vocabulary_of(live=400, vocab_size=1000)
    needed = torch.tensor([[399, 5], [77, 399]])
    candidates = vocabulary.candidates(needed, frequent=10, sampled=20, generator=torch.Generator())
    assert len(candidates.rows) == len(set(candidates.rows.tolist())) == 10 + 2 + 1 + 20
    assert torch.equal(candidates.rows[candidates.index_of_row[needed]], needed)
    shared = candidates.index_of_row[vocabulary.shared_row]
    assert candidates.log_multiplicity[shared] == pytest.approx(math.log(600))


def test_rows_are_ids_in_order_of_frequency() -> None:
    counts = np.array([0, 5, 0, 9, 1])
    vocabulary = CompactVocabulary.from_counts(counts)
    assert vocabulary.live_ids.tolist() == [3, 1, 4]
    assert vocabulary.rows(np.arange(5, dtype=np.uint16)).tolist() == [3, 1, 3, 0, 2]
    assert vocabulary.dead_ids.tolist() == [0, 2]
    rows = torch.tensor([[30.0], [10.0], [40.0], [-1.0]])
    assert vocabulary.expand(rows).squeeze(1).tolist() == [-1.0, 10.0, -1.0, 30.0, 40.0]
