"""The example of induction heads: they form in the model that it trains, and ablating them raises the loss."""

from __future__ import annotations

import random
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import pellucid
from pellucid import LanguageModel

pytestmark = pytest.mark.needs("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "induction_heads.py"


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


def test_only_second_tokens_of_repeated_pairs_have_a_label(example: SimpleNamespace) -> None:
    for seed in range(20):
        ids, labels = example.pairs_that_come_back(random.Random(seed))
        assert len(ids) == len(labels) == example.TEXT_LENGTH
        labelled = [place for place, label in enumerate(labels) if label != example.IGNORED]
        assert labelled
        for place in labelled:
            assert labels[place] == ids[place]
            assert (ids[place - 1], ids[place]) in pairwise(ids[:place])


@pytest.mark.xdist_group("induction_heads")
def test_induction_heads_form_and_are_found_and_their_ablation_raises_the_loss(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    example.train().save_pretrained(tmp_path)
    found = example.explore(pellucid.load(tmp_path, engine="torch"))
    assert found.induction_heads and all(head.layer == 1 for head in found.induction_heads)
    assert found.previous_token_heads and all(head.layer == 0 for head in found.previous_token_heads)
    losses = {name: second for name, (_, second) in found.losses.items()}
    assert losses["nothing"] < 0.5
    of = {
        kind: max(loss for name, loss in losses.items() if kind in name) for kind in ("induction", "previous", "random")
    }
    # Without either half of the circuit, the repetition is predicted no better than the first occurrence.
    assert of["induction"] > 3 and of["previous"] > 3
    assert of["random"] < 1
    example.show(found)


def test_the_demo_model_has_none(example: SimpleNamespace, demo: LanguageModel) -> None:
    """The text of the example says so."""
    assert demo.induction_scores(seq_len=30, rows=2).above(0.1) == ()
