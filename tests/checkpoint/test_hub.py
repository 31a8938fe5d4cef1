"""Models on the Hub, from a local server with its protocol. Each load runs in its own process, because the Hub's
client reads its settings at import."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.checkpoint import open_checkpoint
from pellucid.tokenizer import GPT2Tokenizer

MODEL = "someone/little-gpt2"

LOAD = """
import json, sys
from pellucid.checkpoint import open_checkpoint
from pellucid.errors import PellucidError
name, options = sys.argv[1], json.loads(sys.argv[2])
try:
    checkpoint = open_checkpoint(name, **options)
    total = sum(float(checkpoint.take(tensor).sum(dtype="float64")) for tensor in checkpoint.tensor_names())
    print(json.dumps({"path": str(checkpoint.path), "sum": total, "has_tokenizer": checkpoint.has_tokenizer,
                      "generation_config": checkpoint.generation_config, "torch": "torch" in sys.modules}))
except PellucidError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


@pytest.fixture
def load(hub: Any, run_python: Callable, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Returns a function that loads a name in a subprocess, from the local server into an empty cache."""

    def run(name: str = MODEL, *, program: str = LOAD, offline: bool = False, **options: Any) -> dict[str, Any]:
        environment = {
            "HF_HOME": str(tmp_path / "cache"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": str(int(offline)),
            "TQDM_POSITION": "-1",  # shows progress bars although stderr is no terminal
        }
        done = run_python(program, name, json.dumps(options), **environment)
        return {**json.loads(done.stdout), "stderr": done.stderr}

    return run


@pytest.fixture
def published(hub: Any, saved: Callable) -> Path:
    """A random model with a tokenizer, and unrelated files, on the server."""
    folder, _ = saved()
    GPT2Tokenizer.bundled().save_pretrained(folder)
    for name in ("README.md", "flax_model.msgpack", "tf_model.h5", "rust_model.ot", "pytorch_model.bin"):
        (folder / name).write_bytes(b"not needed")
    hub.models[MODEL] = folder
    return folder


def sum_of(folder: Path) -> float:
    checkpoint = open_checkpoint(folder)
    return sum(float(checkpoint.take(name).sum(dtype="float64")) for name in checkpoint.tensor_names())


def test_the_first_load_downloads_what_is_needed_and_nothing_else(published: Path, load: Callable, hub: Any) -> None:
    loaded = load()
    assert loaded["sum"] == sum_of(published)
    assert loaded["has_tokenizer"] and loaded["generation_config"]["eos_token_id"] == 0
    assert not loaded["torch"]
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert needed <= set(hub.downloads()) <= needed | {"special_tokens_map.json", "added_tokens.json"}
    assert len(hub.downloads()) == len(set(hub.downloads()))


def test_the_bars_of_the_hub_are_shown_and_can_be_hidden(published: Path, load: Callable, tmp_path: Path) -> None:
    assert "model.safetensors: 100%" in load()["stderr"]
    (tmp_path / "cache").rename(tmp_path / "old cache")
    assert load(progress=False)["stderr"] == ""


def test_a_second_load_downloads_nothing(published: Path, load: Callable, hub: Any) -> None:
    load()
    hub.requests.clear()
    assert load()["sum"] == sum_of(published)
    assert [(method, path) for method, path, _ in hub.requests] == [("HEAD", f"/{MODEL}/resolve/main/config.json")]


def test_a_cached_model_loads_offline_without_a_request(published: Path, load: Callable, hub: Any) -> None:
    load()
    hub.requests.clear()
    loaded = load(offline=True)
    assert loaded["sum"] == sum_of(published) and loaded["has_tokenizer"]
    assert hub.requests == []


def test_a_cached_model_loads_when_the_hub_is_gone(published: Path, load: Callable, hub: Any) -> None:
    load()
    hub.url = "http://127.0.0.1:9"  # no server listens on this port
    assert load()["sum"] == sum_of(published)


def test_a_new_commit_is_loaded_and_only_what_changed_is_downloaded(published: Path, load: Callable, hub: Any) -> None:
    load()
    hub.requests.clear()
    (published / "generation_config.json").write_text('{"max_length": 77}')
    assert load()["generation_config"] == {"max_length": 77}
    assert hub.downloads() == ["generation_config.json"]


def test_a_revision_can_be_named(published: Path, load: Callable, hub: Any) -> None:
    commit = hub.commit(MODEL)
    assert load(revision=commit)["path"].endswith(commit)
    refused = load(revision="no-such-branch")
    assert refused["error"] == "ModelNotFoundError"
    assert f"{MODEL} on {hub.url} has no revision no-such-branch" in refused["message"]


def test_shards_are_downloaded(load: Callable, saved: Callable, hub: Any) -> None:
    folder, _ = saved(max_shard_size="20KB")
    hub.models[MODEL] = folder
    assert load()["sum"] == sum_of(folder)
    assert {path.name for path in folder.glob("*.safetensors*")} <= set(hub.downloads())


def test_pytorchs_format_is_used_if_there_is_no_other(load: Callable, saved: Callable, hub: Any) -> None:
    folder, model = saved()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    expected = sum_of(folder)
    (folder / "model.safetensors").unlink()
    hub.models[MODEL] = folder
    assert load()["sum"] == expected


def test_pytorchs_format_needs_no_torch(load: Callable, saved: Callable, hub: Any) -> None:
    folder, model = saved()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    expected = sum_of(folder)
    (folder / "model.safetensors").unlink()
    hub.models[MODEL] = folder
    assert load(program="import sys\nsys.modules['torch'] = None\n" + LOAD)["sum"] == expected


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2"])
def test_a_size_is_loaded_from_its_id(name: str, published: Path, load: Callable, hub: Any) -> None:
    hub.models = {"openai-community/gpt2": published, "distilbert/distilgpt2": published}
    assert load(name)["sum"] == sum_of(published)


def test_a_size_that_an_older_tool_cached_under_its_short_name_is_found(
    published: Path, load: Callable, hub: Any, tmp_path: Path
) -> None:
    load()
    cache = tmp_path / "cache" / "hub"
    (cache / "models--someone--little-gpt2").rename(cache / "models--gpt2")
    assert load("gpt2", offline=True)["sum"] == sum_of(published)


class TestInterruptions:
    def test_a_connection_that_breaks_once_is_resumed(self, published: Path, load: Callable, hub: Any) -> None:
        small_chunks = "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 1000"
        hub.cuts["model.safetensors"] = 1
        assert load(program=small_chunks + LOAD)["sum"] == sum_of(published)
        ranges = [span for method, path, span in hub.requests if method == "GET" and path.endswith("model.safetensors")]
        assert ranges[0] is None and ranges[1].startswith("bytes=")

    def test_a_failed_download_is_an_error_and_the_next_load_resumes_it(
        self, published: Path, load: Callable, hub: Any, tmp_path: Path
    ) -> None:
        give_up = """
import huggingface_hub.file_download as client
get = client.http_get
client.http_get = lambda *args, **options: get(*args, **{"_nb_retries": 0, **options})
client.time.sleep = lambda seconds: None
"""
        hub.cuts["model.safetensors"] = 1000
        broken = load(program=give_up + LOAD)
        assert broken["error"] == "CheckpointError"
        assert f"the download of model.safetensors of {MODEL} failed" in broken["message"]
        hub.cuts.clear()
        hub.requests.clear()
        assert load()["sum"] == sum_of(published)
        assert hub.downloads() == ["model.safetensors"]
        assert not list((tmp_path / "cache").rglob("*.incomplete"))

    def test_a_partly_cached_model_says_what_is_missing_when_offline(
        self, published: Path, load: Callable, hub: Any, tmp_path: Path
    ) -> None:
        load()
        for weights in (tmp_path / "cache").rglob("model.safetensors"):
            weights.unlink()
        refused = load(offline=True)
        assert refused["error"] == "ModelNotFoundError"
        assert "only partly in the Hub's cache: its weights are missing" in refused["message"]
        assert load()["sum"] == sum_of(published)


class TestModelsThatCannotBeHad:
    def test_an_unknown_id(self, load: Callable, hub: Any) -> None:
        refused = load("someone/nothing")
        assert refused["error"] == "ModelNotFoundError"
        assert f"no model 'someone/nothing' was found: {hub.url} has no model someone/nothing" in refused["message"]
        assert "a folder or a file of weights" in refused["message"]

    def test_a_gated_model(self, published: Path, load: Callable, hub: Any) -> None:
        hub.gated.add(MODEL)
        refused = load()
        assert refused["error"] == "ModelNotFoundError"
        assert f"{MODEL} is gated: accept its terms at {hub.url}/{MODEL}, then set HF_TOKEN" in refused["message"]

    def test_offline_and_not_cached(self, published: Path, load: Callable, hub: Any) -> None:
        refused = load(offline=True)
        assert refused["error"] == "ModelNotFoundError"
        assert "offline mode (HF_HUB_OFFLINE) forbids downloading it" in refused["message"]
        assert hub.requests == []

    def test_a_hub_that_cannot_be_reached(self, load: Callable, hub: Any) -> None:
        hub.url = "http://127.0.0.1:9"
        refused = load()
        assert refused["error"] == "ModelNotFoundError"
        assert "http://127.0.0.1:9 cannot be reached (" in refused["message"]
        assert refused["stderr"] == ""

    def test_a_model_that_is_no_gpt2_is_refused_before_its_weights(
        self, published: Path, load: Callable, hub: Any, edit_json: Callable
    ) -> None:
        edit_json(published / "config.json", model_type="llama")
        refused = load()
        assert refused["error"] == "ConfigError"
        assert "model_type is 'llama': this is not a GPT-2" in refused["message"]
        assert hub.downloads() == ["config.json"]

    def test_a_model_without_weights(self, published: Path, load: Callable, hub: Any) -> None:
        for name in ("model.safetensors", "pytorch_model.bin"):
            (published / name).unlink()
        refused = load()
        assert refused["error"] == "CheckpointError"
        assert f"{MODEL} on the Hub has no weights: none of model.safetensors, " in refused["message"]

    def test_a_model_without_a_config(self, published: Path, load: Callable) -> None:
        (published / "config.json").unlink()
        refused = load()
        assert refused["error"] == "ModelNotFoundError"
        assert "has no config.json, so it cannot be loaded" in refused["message"]

    def test_a_shard_that_the_index_names_but_the_hub_lacks(self, load: Callable, saved: Callable, hub: Any) -> None:
        folder, _ = saved(max_shard_size="20KB")
        shard = sorted(folder.glob("model-*.safetensors"))[1]
        shard.unlink()
        hub.models[MODEL] = folder
        refused = load()
        assert refused["error"] == "CheckpointError"
        assert f"{MODEL} on the Hub has no {shard.name}" in refused["message"]


class TestContent:
    """Content that does not match the Hub's digest is refused and removed."""

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])  # verified by SHA-256, and by git blob id
    def test_damaged_content_is_refused_and_not_kept(
        self, name: str, published: Path, load: Callable, hub: Any, tmp_path: Path
    ) -> None:
        hub.damaged.add(name)
        refused = load()
        assert refused["error"] == "CheckpointError"
        assert f"{name} of {MODEL} arrived damaged: its content does not match the digest" in refused["message"]
        etag = hashlib.sha256((published / name).read_bytes()).hexdigest()
        cached = [path.name for path in (tmp_path / "cache").rglob("*")]
        assert name not in cached and etag not in cached
        hub.damaged.clear()
        assert load()["sum"] == sum_of(published)

    def test_a_file_without_a_digest_is_loaded_with_a_warning(self, published: Path, load: Callable, hub: Any) -> None:
        hub.etags["model.safetensors"] = "version-7"
        loaded = load()
        assert loaded["sum"] == sum_of(published)
        assert f"model.safetensors of {MODEL} has no digest on the Hub" in loaded["stderr"]

    @pytest.mark.parametrize(
        ("name", "etag"),
        [("config.json", "../../../../outside"), ("model.safetensors", "/outside"), ("tokenizer.json", "..")],
    )
    def test_an_etag_that_is_a_path_is_refused_before_anything_is_written(
        self, name: str, etag: str, published: Path, load: Callable, hub: Any, tmp_path: Path
    ) -> None:
        hub.etags[name] = etag
        refused = load()
        assert refused["error"] == "CheckpointError"
        assert f"the Hub gives {name} the ETag" in refused["message"]
        assert name not in hub.downloads()
        assert not [path for path in tmp_path.rglob("*") if "outside" in path.name]

    @pytest.mark.parametrize("name", ["config.json", "special_tokens_map.json"])
    def test_a_commit_that_is_a_path_is_refused(
        self, name: str, published: Path, load: Callable, hub: Any, tmp_path: Path
    ) -> None:
        # The client records absent files too, in a folder named after the commit.
        (published / "special_tokens_map.json").unlink()
        hub.commits[name] = "../../../../outside"
        refused = load()
        assert refused["error"] == "CheckpointError"
        assert f"the Hub gives {name} the commit" in refused["message"]
        assert not list(tmp_path.rglob("outside"))


CACHED = """
import json, sys
from pellucid.checkpoint import cached_files
print(json.dumps({file.name: file.intact for file in cached_files(sys.argv[1])}))
"""


def test_cached_files_are_compared_with_their_digests(published: Path, load: Callable, tmp_path: Path) -> None:
    path = Path(load()["path"])
    found = load(program=CACHED, offline=True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} < found.keys()
    assert all(intact for name, intact in found.items() if name != "stderr")
    contents = bytearray((path / "model.safetensors").read_bytes())
    contents[-1] ^= 1
    (path / "model.safetensors").resolve().write_bytes(contents)
    damaged = load(program=CACHED, offline=True)
    assert [name for name, intact in damaged.items() if intact is False] == ["model.safetensors"]


PARTS = """
import json, sys
from pellucid.checkpoint import open_config, open_tokenizer
options = json.loads(sys.argv[2])
print(json.dumps({"n_embd": open_config(sys.argv[1], **options).n_embd,
                  "ids": open_tokenizer(sys.argv[1], **options).encode("long ago")}))
"""


def test_config_and_tokenizer_are_read_without_the_weights(published: Path, load: Callable, hub: Any) -> None:
    parts = load(program=PARTS)
    assert parts["n_embd"] == 32 and parts["ids"] == GPT2Tokenizer.bundled().encode("long ago")
    assert "model.safetensors" not in hub.downloads() and "tokenizer.json" in hub.downloads()


def test_a_vocabulary_without_tokenizer_json_is_downloaded(published: Path, load: Callable, hub: Any) -> None:
    (published / "tokenizer.json").unlink()
    assert load(program=PARTS)["ids"] == GPT2Tokenizer.bundled().encode("long ago")
    assert {"vocab.json", "merges.txt"} <= set(hub.downloads())


LIST = """
import json, sys
from pellucid.checkpoint import cached_models
print(json.dumps({"models": [[m.id, str(m.path), m.size_on_disk, m.config.n_embd] for m in cached_models()]}))
"""


def test_cached_models_are_listed_with_their_size(
    published: Path, load: Callable, hub: Any, edit_json: Callable, tmp_path: Path
) -> None:
    assert load(program=LIST)["models"] == []
    path = load()["path"]
    hub.models["someone/llama"] = published
    other = tmp_path / "cache" / "hub" / "models--someone--llama" / "snapshots" / ("0" * 40)
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "llama"}')
    (other / "model.safetensors").touch()
    ((model_id, listed_path, size, n_embd),) = load(program=LIST)["models"]
    assert (model_id, listed_path, n_embd) == (MODEL, path, 32)
    files = [file for file in Path(path).iterdir()]
    assert size == sum(file.stat().st_size for file in files)
