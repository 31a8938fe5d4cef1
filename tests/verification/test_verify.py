"""The original weights reproduce the published results, and each wrong result fails its own check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.errors import OptionError
from pellucid.language_model import LanguageModel
from pellucid.verification import PublishedResults, verify

PARAMETERS, NEXT, GREEDY, BEAMS, IDS, LOGITS, LOSS, MEAN_LOSS, TRAINING = range(9)


def failed(lm: LanguageModel, published: dict[str, Any]) -> list[str]:
    """The names of the checks that fail."""
    checks = verify(lm, PublishedResults.from_dict(published), training=True)
    return [check.name for check in checks if not check.passed]


def test_what_transformers_computed_is_reproduced(lm: LanguageModel, published: dict[str, Any]) -> None:
    checks = list(verify(lm, PublishedResults.from_dict(published), training=True))
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == 1 + 2 + 1 + 1 + 1 + 4 + 1 + 1 + 4


def test_training_is_replayed_only_when_asked_for(lm: LanguageModel, published: dict[str, Any]) -> None:
    names = [check.name for check in verify(lm, PublishedResults.from_dict(published))]
    assert names and not any(name.startswith("AdamW") for name in names)


def test_training_leaves_the_model_as_it_was(lm: LanguageModel, published: dict[str, Any]) -> None:
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    list(verify(lm, PublishedResults.from_dict(published), training=True))
    after = lm.model.state_dict()
    assert all(bool((after[name] == weight).all()) for name, weight in before.items())


def other_token(fact: dict[str, Any]) -> None:
    fact["rows"][1][2] = ("elsewhere", fact["rows"][1][2][1])


def other_percentage(fact: dict[str, Any]) -> None:
    fact["rows"][0][4] = (fact["rows"][0][4][0], fact["rows"][0][4][1] + 0.02)


def swapped_tokens(fact: dict[str, Any]) -> None:
    fact["rows"][0][0], fact["rows"][0][1] = fact["rows"][0][1], fact["rows"][0][0]


def add(key: str, amount: float) -> Callable[[dict[str, Any]], None]:
    return lambda fact: fact.update({key: fact[key] + amount})


def add_at(key: str, index: int, amount: float) -> Callable[[dict[str, Any]], None]:
    def change(fact: dict[str, Any]) -> None:
        fact[key][index] += amount

    return change


PROMPT = "'long long ago, I was'"


@pytest.mark.parametrize(
    ("fact", "corrupt", "name"),
    [
        (PARAMETERS, add("expected", 1), "parameters"),
        (NEXT, other_token, "next: 'gpt2.drawio'"),
        (NEXT, other_percentage, "next: 'long long ago, I was a boy, I love'"),
        (NEXT, swapped_tokens, "next: 'long long ago, I was a boy, I love'"),
        (GREEDY, lambda fact: fact.update(expected_text=fact["expected_text"] + "!"), f"greedy: {PROMPT}"),
        (BEAMS, lambda fact: fact.update(num_beams=1), f"beams: {PROMPT}"),
        (BEAMS, lambda fact: fact.update(expected_text=fact["expected_text"][:-1]), f"beams: {PROMPT}"),
        (IDS, add_at("expected_ids", -1, 1), f"greedy ids: {PROMPT}"),
        (LOGITS, add_at("first_row_first", 3, 0.01), f"logits of {PROMPT}: first row, first 10"),
        (LOGITS, add_at("last_row_last", 0, 0.01), f"logits of {PROMPT}: last row, last 10"),
        (LOGITS, add_at("next_row_first", 9, 0.01), f"logits of {PROMPT}: next row, first 10"),
        (LOGITS, add_at("next_row_last", 9, -0.01), f"logits of {PROMPT}: next row, last 10"),
        (LOSS, add("expected", 2e-4), "loss"),
        (MEAN_LOSS, add("expected", -2e-4), "mean loss"),
        (TRAINING, add_at("expected", 2, 0.01), "AdamW, loss at step 2"),
    ],
)
def test_a_wrong_fact_fails_its_own_check_and_no_other(
    lm: LanguageModel, published: dict[str, Any], fact: int, corrupt: Callable[[dict[str, Any]], None], name: str
) -> None:
    corrupt(published["facts"][fact])
    assert failed(lm, published) == [name]


def test_a_wrong_learning_rate_is_seen_from_the_second_step_on(lm: LanguageModel, published: dict[str, Any]) -> None:
    published["facts"][TRAINING]["lr"] *= 0.5
    assert failed(lm, published) == [f"AdamW, loss at step {step}" for step in (1, 2, 3)]


def test_other_weights_fail_all_but_the_parameter_count(
    folder: Path, tmp_path: Path, published: dict[str, Any]
) -> None:
    import torch

    model = pellucid.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)), alpha=0.3)
    model.save_pretrained(tmp_path)
    pellucid.GPT2Tokenizer.bundled().save_pretrained(tmp_path)
    passed = [
        check.name
        for check in verify(pellucid.load(tmp_path), PublishedResults.from_dict(published), training=True)
        if check.passed
    ]
    assert passed == ["parameters"]


def test_a_model_too_small_for_a_result_fails_it_and_says_why(lm: LanguageModel, published: dict[str, Any]) -> None:
    published["facts"][GREEDY]["max_new_tokens"] = 100
    checks = verify(lm, PublishedResults.from_dict(published))
    (check,) = [check for check in checks if not check.passed]
    assert check.name == "greedy"
    assert "64 positions" in check.got


def test_every_check_names_its_source(lm: LanguageModel, published: dict[str, Any]) -> None:
    assert {check.source for check in verify(lm, PublishedResults.from_dict(published))} == {"Transformers"}


def test_an_unknown_kind_of_fact_is_an_error() -> None:
    contents = {"name": "x", "facts": [{"kind": "rumour", "name": "r", "source": "s"}]}
    with pytest.raises(OptionError, match="'rumour' is not a kind of fact"):
        PublishedResults.from_dict(contents)
