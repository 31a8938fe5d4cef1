"""The example of indirect object identification: its results are consistent, and on GPT-2 it finds the circuit."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

import pellucid
from pellucid import LanguageModel
from pellucid.errors import PellucidError

pytestmark = pytest.mark.needs("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "indirect_object.py"


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


def test_a_prompt_and_its_corrupted_form_differ_in_one_name(example: SimpleNamespace, demo: LanguageModel) -> None:
    asked = example.prompts(32)
    assert len({prompt.text for prompt in asked}) == 32
    for prompt in asked:
        ids, corrupted = demo.tokenizer.encode(prompt.text), demo.tokenizer.encode(prompt.corrupted)
        changed = [place for place, pair in enumerate(zip(ids, corrupted, strict=True)) if pair[0] != pair[1]]
        assert len(changed) == 1
        assert ids[changed[0]] == demo.token_id(prompt.other)
        assert corrupted[changed[0]] == demo.token_id(prompt.answer)
        assert ids.count(demo.token_id(prompt.other)) == 2 and ids.count(demo.token_id(prompt.answer)) == 1


def test_its_results_are_consistent_on_a_model_too_small_for_the_task(
    example: SimpleNamespace, demo: LanguageModel
) -> None:
    found = example.explore(demo, count=2, strongest=2)
    first = example.prompts(1)[0]
    answer, other = (
        demo.trace(first.text, "logits")["logits"][0, -1, demo.token_id(name)] for name in (first.answer, first.other)
    )
    assert found.attribution.total == pytest.approx(float(answer - other), abs=1e-3)
    assert found.stream.clean == pytest.approx(float(answer - other), abs=1e-3)
    assert found.stream.recovered[0].max() == pytest.approx(1, abs=1e-2)  # at the changed name
    assert found.movers[0].value >= found.movers[1].value > found.against[0].value
    assert all(0 <= share <= 1 for pair in found.looks.values() for share in pair)


def test_missing_weights_are_reported(
    example: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert example.main(["--model", str(tmp_path / "nowhere")]) == 1
    assert "Its weights are needed" in capsys.readouterr().err


def test_on_gpt2_it_finds_the_name_movers(example: SimpleNamespace) -> None:
    try:
        lm = pellucid.load("gpt2")
    except PellucidError as error:
        pytest.skip(f"gpt2's weights are not here: {error}")
    found = example.explore(lm, count=16, strongest=4)
    assert found.difference > 1 and found.right > 0.9
    # Wang et al. (2022): name mover heads are 9.9, 9.6 and 10.0; negative name mover heads are 10.7 and 11.10.
    assert {(9, 9), (9, 6), (10, 0)} <= {(head.layer, head.head) for head in found.movers}
    assert {(10, 7), (11, 10)} <= {(head.layer, head.head) for head in found.against}
    assert found.ablated < found.difference
