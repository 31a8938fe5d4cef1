"""The commands `models`, `pull` and `verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid import native
from pellucid.config import PRESETS

HUB_ID = "someone/small-gpt2"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


def put_in_cache(model_folder: Path, hub_cache: Path, hub_id: str) -> Path:
    """Copy a model into the cache in the layout of the Hub's client; returns its snapshot folder."""
    repository = hub_cache / ("models--" + hub_id.replace("/", "--"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(model_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def test_models_lists_the_published_sizes_with_parameters_and_memory(run_json: Any, hub_cache: Path) -> None:
    listed = {model["name"]: model for model in run_json("models")["models"]}
    assert listed.keys() == {"demo", *PRESETS}
    assert listed["gpt2-xl"]["parameters"] == 1_557_611_200
    memory = listed["gpt2"]["memory"]
    assert (memory["float32"], memory["bfloat16"], memory["float16"]) == (497_759_232, 248_879_616, 248_879_616)
    assert memory["int4"] < memory["int8"] < memory["bfloat16"]
    assert (listed["gpt2"]["n_layer"], listed["gpt2"]["n_head"], listed["gpt2"]["n_embd"]) == (12, 12, 768)
    assert listed["gpt2"]["where"] is None
    assert listed["demo"]["where"] == "bundled"
    assert Path(listed["demo"]["path"]).is_dir()


@pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_memory_listed_is_what_the_engine_takes(run_json: Any, hub_cache: Path, precision: Any) -> None:
    [demo] = [model for model in run_json("models")["models"] if model["name"] == "demo"]
    engine = pellucid.load("demo", precision=precision).engine
    assert demo["memory"][precision] == engine.weight_bytes  # type: ignore[attr-defined]


def test_models_says_what_is_cached(run_json: Any, run: Any, hub_cache: Path, model_folder: Path) -> None:
    snapshot = put_in_cache(model_folder, hub_cache, HUB_ID)
    put_in_cache(model_folder, hub_cache, "openai-community/gpt2")
    listed = {model["name"]: model for model in run_json("models")["models"]}
    assert listed[HUB_ID]["where"] == "cached"
    assert Path(listed[HUB_ID]["path"]) == snapshot
    assert listed[HUB_ID]["parameters"] == pellucid.GPT2Config.from_json_file(snapshot / "config.json").parameter_count
    assert listed["gpt2"]["where"] == "cached"
    assert listed["gpt2-medium"]["where"] is None
    shown = run("models").stdout
    assert "124,439,808" in shown
    assert "cached" in shown


def test_pull_of_a_local_model_prints_its_path(run: Any, hub_cache: Path, model_folder: Path) -> None:
    snapshot = put_in_cache(model_folder, hub_cache, HUB_ID)
    result = run("pull", HUB_ID)
    assert result.exit_code == 0
    assert result.stdout == f"{snapshot}\n"
    assert "was already here" in result.stderr


def test_pull_json_describes_the_model(run_json: Any, hub_cache: Path, model_folder: Path) -> None:
    found = run_json("pull", str(model_folder))
    assert found["path"] == str(model_folder)
    assert found["was_here"] is True
    assert found["dtype"] == "float32"


def test_pull_without_a_network_is_status_1(run: Any, hub_cache: Path) -> None:
    result = run("pull", "gpt2")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("pellucid: error: ")
    assert result.stderr.count("\n") == 1


def test_an_interrupted_pull_says_how_to_go_on(run: Any, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.checkpoint.open_checkpoint", interrupted)
    result = run("pull", "gpt2")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "`pellucid pull gpt2` downloads the rest" in result.stderr


def test_verify_without_the_weights_says_how_to_get_them(run: Any, hub_cache: Path) -> None:
    result = run("verify", "gpt2")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "`pellucid pull gpt2`" in result.stderr
    assert "`pellucid verify gpt2 -m FOLDER`" in result.stderr


def test_verify_of_a_model_without_published_results_is_bad_usage(run: Any) -> None:
    result = run("verify", "gpt3")
    assert result.exit_code == 2
    assert "only for gpt2" in result.stderr


@pytest.mark.needs("torch")
def test_other_weights_do_not_verify_as_gpt2(run: Any, run_json: Any, model_folder: Path) -> None:
    result = run("verify", "gpt2", "-m", str(model_folder), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["passed"] is False
    assert len(found["checks"]) == 17
    assert not any(check["passed"] for check in found["checks"])
    assert all(check["source"] for check in found["checks"])


@pytest.fixture
def published_small(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Published results of the small checkpoint, computed by Transformers, in the package's folder."""
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(model_folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    ids = model.generate(**tokenizer("The dog", return_tensors="pt"), max_new_tokens=5, pad_token_id=50256)[0]
    facts = [
        {"kind": "parameters", "name": "parameters", "expected": model.num_parameters(), "source": "Transformers"},
        {
            "kind": "continuation",
            "name": "greedy",
            "prompt": "The dog",
            "max_new_tokens": 5,
            "expected_ids": ids.tolist(),
            "note": "five tokens",
            "source": "Transformers",
        },
    ]
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "small.json").write_text(json.dumps({"name": "small", "facts": facts}))
    monkeypatch.setattr("pellucid.verification._folder", lambda: folder)
    return {"expected": tokenizer.decode(ids)}


@pytest.mark.needs("transformers")
def test_verify_is_status_0_when_all_pass(
    run: Any, run_json: Any, model_folder: Path, published_small: dict[str, Any]
) -> None:
    found = run_json("verify", "small", "-m", str(model_folder))
    assert found["passed"] is True
    assert found["checks"][1] == {
        "name": "greedy: 'The dog'",
        "expected": published_small["expected"],
        "got": published_small["expected"],
        "passed": True,
        "source": "Transformers",
        "note": "five tokens",
    }
    result = run("verify", "small", "-m", str(model_folder))
    assert result.exit_code == 0
    assert "2 of 2 published results of small reproduced" in " ".join(result.stdout.split())
    assert "[1] five tokens" in result.stdout
