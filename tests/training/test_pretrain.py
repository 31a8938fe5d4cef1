"""A tiny training run learns, stops and resumes, and writes an ordinary checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pellucid.checkpoint import open_checkpoint
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, OptionError
from pellucid.reference.load import load_model
from pellucid.reference.model import GPT2LMHeadModel, GPT2Model
from pellucid.training.attention import use_reference_attention, use_training_attention
from pellucid.training.corpus import TokenSet
from pellucid.training.evaluate import evaluate
from pellucid.training.export import export, model_from_checkpoint
from pellucid.training.pretrain import Pretraining, recipe_with, run
from pellucid.training.schedule import MIXTURE, Recipe, sample_batch

TINY = Recipe(
    vocab_size=101,
    n_embd=16,
    n_head=2,
    n_layer=2,
    n_positions=32,
    tokens_per_step=256,
    parts=2,
    frequent_rows=20,
    sampled_rows=10,
    dropout=0.0,
)


def sets_of(seed: int = 0) -> dict[str, TokenSet]:
    """Three sets of documents, whose ids count up in steps of 1, 2 and 3 and end with id 100."""
    random = np.random.default_rng(seed)
    sets = {}
    for stride, name in enumerate(MIXTURE, start=1):
        documents = [[*((start + stride * np.arange(20)) % 60), 100] for start in random.integers(0, 60, 40)]
        ids = np.array(documents, dtype=np.uint16)
        sets[name] = TokenSet(ids.ravel(), np.arange(len(documents)) * ids.shape[1])
    return sets


def test_the_loss_falls() -> None:
    training = Pretraining(TINY, sets_of(), threads=2)
    losses = [training.step(0.1) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_step_is_the_gradient_step_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 gradients, with every row in the loss, equal autograd through the plain model on the full vocabulary."""
    recipe = Recipe(**{**vars(TINY), "frequent_rows": 101, "unknown_input": 0.0})
    training = Pretraining(recipe, sets_of(), threads=2)
    batch = sample_batch(training.sets, recipe, 0.1, np.random.default_rng(5))
    rows = torch.from_numpy(training.vocabulary.rows(batch))
    candidates = training.vocabulary.candidates(rows, 101, 0, training.generator)
    model = training.finished_model(averaged=False)

    loss = training._accumulate_gradients(rows[:, :-1], rows[:, 1:], candidates)

    ids = torch.from_numpy(batch.astype(np.int64))
    expected = F.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=0.01)
    theirs = dict(model.transformer.named_parameters())
    for name, parameter in training.model.named_parameters():
        ours, other = parameter.grad, theirs[name].grad
        assert ours is not None and other is not None
        if name == "wte.weight":
            live = torch.from_numpy(training.vocabulary.live_ids)
            ours, other = ours[:-1], other[live]
        assert (ours - other).norm() <= 0.05 * other.norm() + 1e-6, name  # tolerance: rounding of bfloat16


def test_training_attention_is_the_reference_attention() -> None:
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=50, n_positions=300, n_embd=16, n_layer=2, n_head=2)).eval()
    ids = torch.randint(50, (2, 300))
    expected = model(ids).last_hidden_state
    use_training_attention(model)
    torch.testing.assert_close(model(ids, use_cache=False).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
    use_reference_attention(model)
    assert torch.equal(model(ids).last_hidden_state, expected)


def test_a_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    first = Pretraining(TINY, sets_of())
    for _ in range(12):
        first.step(0.1)
    first.elapsed = 30.0
    first.save(tmp_path / "checkpoint.pt")
    second = Pretraining(TINY, sets_of())
    second.resume(tmp_path / "checkpoint.pt")
    assert (second.step_count, second.token_count, second.elapsed) == (12, 12 * 256, 30.0)
    assert [first.step(0.2) for _ in range(3)] == pytest.approx([second.step(0.2) for _ in range(3)], rel=1e-3)


def test_a_run_ends_by_the_clock_and_leaves_log_checkpoint_and_model(tmp_path: Path) -> None:
    training = Pretraining(TINY, sets_of())
    validation = {"held_out": sets_of(1)["tales"].ids}
    run(training, validation, tmp_path, seconds=1.0)
    steps = training.step_count
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == steps and "held_out" in log[-1]

    again = Pretraining(TINY, sets_of())
    run(again, validation, tmp_path, seconds=1.0)  # the time limit is reached at once
    assert again.step_count == steps

    export(model_from_checkpoint(tmp_path / "checkpoint.pt", averaged=False), tmp_path / "model", "float32")
    reread = load_model(open_checkpoint(tmp_path / "model"), GPT2LMHeadModel)
    assert reread.config.replace(extra={}) == TINY.config()
    ids = torch.arange(10)[None]
    assert torch.equal(reread(ids).logits, training.finished_model(averaged=False)(ids).logits)


def test_a_checkpoint_of_other_text_or_another_model_is_refused(tmp_path: Path) -> None:
    Pretraining(TINY, sets_of()).save(tmp_path / "checkpoint.pt")
    other_text = {name: TokenSet(tokens.ids % 50, tokens.starts) for name, tokens in sets_of().items()}
    with pytest.raises(CheckpointError, match="other text"):
        Pretraining(TINY, other_text).resume(tmp_path / "checkpoint.pt")
    wider = Recipe(**{**vars(TINY), "n_embd": 32})
    with pytest.raises(CheckpointError, match=r"another model: wte\.weight"):
        Pretraining(wider, sets_of()).resume(tmp_path / "checkpoint.pt")
    (tmp_path / "noise.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"noise\.pt"):
        model_from_checkpoint(tmp_path / "noise.pt", averaged=False)


def test_ids_that_never_occur_become_improbable() -> None:
    training = Pretraining(TINY, sets_of())
    validation = sets_of(1)["tales"].ids
    dead = training.vocabulary.dead_ids
    before = evaluate(training.finished_model(averaged=False), validation, dead).outside
    for _ in range(60):
        training.step(0.1)
    after = evaluate(training.finished_model(averaged=False), validation, dead).outside
    assert before > 0.3
    assert after < before / 3


@pytest.mark.parametrize("length", [31, 32, 500])
def test_evaluation_is_the_mean_cross_entropy_of_every_token_but_the_first(length: int) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(TINY.config()).eval()
    ids = np.random.default_rng(0).integers(0, 101, length).astype(np.uint16)
    result = evaluate(model, ids, np.array([3, 4]))
    losses, outside = [], []
    for start in range(0, length - 1, 32):
        row = torch.from_numpy(ids[start : start + 33].astype(np.int64))[None]
        logits = model(row[:, :-1]).logits[0]
        losses.append(F.cross_entropy(logits, row[0, 1:], reduction="none"))
        outside.append(logits.softmax(-1)[:, [3, 4]].sum(-1))
    assert result.tokens == length - 1
    assert result.loss == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert result.outside == pytest.approx(float(torch.cat(outside).mean()), rel=1e-5)


def test_shares_of_the_mixture_add_up_and_books_fade() -> None:
    recipe = Recipe()
    shares = [recipe.mixture(progress) for progress in np.linspace(0, 1, 21)]
    assert all(sum(share) == pytest.approx(1) and min(share) >= 0 for share in shares)
    books = [share[0] for share in shares]
    assert books == sorted(books, reverse=True) and books[-1] == 0
    assert recipe.learning_rate(0.0) == 0 and recipe.learning_rate(1.0) == pytest.approx(recipe.final_lr)


def test_aligned_windows_begin_where_a_document_does() -> None:
    recipe = Recipe(**{**vars(TINY), "aligned_windows": 1.0, "short_sequences_until": 1.0})
    sets = sets_of()
    batch = sample_batch(sets, recipe, 0.0, np.random.default_rng(0))
    assert batch.shape == (16, 17)
    starts = {tuple(tokens.ids[s : s + 17]) for tokens in sets.values() for s in tokens.starts}
    assert sum(tuple(window) in starts for window in batch) >= len(batch) - 1  # windows begin at document starts


def test_an_unknown_setting_is_named() -> None:
    assert recipe_with(["n_layer=3", "dropout=0.1"]) == Recipe(n_layer=3, dropout=0.1)
    with pytest.raises(OptionError, match="n_layers"):
        recipe_with(["n_layers=3"])
    with pytest.raises(OptionError, match="n_layer must be of type int"):
        recipe_with(["n_layer=many"])
