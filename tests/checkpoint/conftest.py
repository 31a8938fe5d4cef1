"""Random checkpoints made by Transformers (the oracle of these tests), and a local server with the Hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pellucid
from pellucid.checkpoint import Checkpoint, expected_shapes, open_checkpoint

if TYPE_CHECKING:
    import torch
    import transformers


def make_model(**config: Any) -> transformers.GPT2LMHeadModel:
    """A small random GPT-2 whose biases and layer norms differ from their initial zeros and ones."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {"vocab_size": 101, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **ends, **config})).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def make_weights(model: transformers.GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """Weights of a model by their canonical names, those of `Checkpoint`."""
    state = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


@pytest.fixture
def random_model() -> Callable[..., transformers.GPT2LMHeadModel]:
    return make_model


@pytest.fixture
def weights_of() -> Callable[..., dict[str, torch.Tensor]]:
    return make_weights


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, transformers.GPT2LMHeadModel]]:
    """Returns a function that saves a random model with Transformers and returns (folder, model)."""

    def save(*, max_shard_size: str = "1GB", **config: Any) -> tuple[Path, transformers.GPT2LMHeadModel]:
        model = make_model(**config)
        folder = tmp_path / "saved"
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        return folder, model

    return save


@pytest.fixture
def assert_holds() -> Callable[[Checkpoint | Path, dict[str, torch.Tensor]], None]:
    """Returns a function that asserts that a checkpoint yields exactly these weights, in writable copies."""

    def check(checkpoint: Checkpoint | Path, weights: dict[str, torch.Tensor]) -> None:
        if isinstance(checkpoint, Path):
            checkpoint = open_checkpoint(checkpoint)
        assert set(checkpoint.tensor_names()) == set(weights)
        for name in checkpoint.tensor_names():
            array = checkpoint.take(name)
            assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
            assert array.shape == checkpoint.shape(name) == expected_shapes(checkpoint.config)[name]
            np.testing.assert_array_equal(array, weights[name].float().numpy(), err_msg=name)

    return check


@dataclass
class PythonRun:
    """Result of a Python subprocess."""

    stdout: str
    stderr: str


@pytest.fixture
def run_python() -> Callable[..., PythonRun]:
    """Returns a function that runs a program in a fresh interpreter, for settings that are read at import and for
    measurements of memory."""

    def run(program: str, *arguments: object, **environment: str) -> PythonRun:
        path = [str(Path(pellucid.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        env = {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "NO_PROXY": "127.0.0.1,localhost",
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={**env, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return PythonRun(done.stdout, done.stderr)

    return run


_MEASURED = """
import sys
from pathlib import Path

def status(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024

{setup}
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = status("VmHWM")
{action}
print(status("VmHWM") - before)
"""


@pytest.fixture
def peak_of(run_python: Callable[..., PythonRun]) -> Callable[..., int]:
    """Returns a function that runs `setup` and `action` in a subprocess and returns how many bytes the action adds to
    its peak memory. (`ru_maxrss` is unsuitable: a process inherits it from its parent.)"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory is read from /proc, which this system does not have")

    def measure(action: str, *arguments: object, setup: str) -> int:
        return int(run_python(_MEASURED.format(setup=setup, action=action), *arguments).stdout)

    return measure


@dataclass
class HubServer:
    """A local server with the Hub's protocol. Each model is a folder of files.

    It redirects requests for weights to another path, as the Hub redirects to its storage. cuts: number of the next
    downloads that break off in the middle, by file name.
    """

    models: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cuts: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)  # names of files that are sent with one wrong byte
    etags: dict[str, str] = field(default_factory=dict)  # by file name, replaces the digest
    commits: dict[str, str] = field(default_factory=dict)  # by file name, replaces the commit
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    url: str = ""

    def commit(self, model: str) -> str:
        """Commit hash of a model, computed from its files."""
        digest = hashlib.sha1()
        for path in sorted(self.models[model].iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def downloads(self) -> list[str]:
        """Names of the files whose content was requested."""
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET"]


class _HubHandler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # buffered: headers and body go out in one packet, not delayed by Nagle's algorithm

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        if self.path.startswith("/api/"):
            return self.refuse(404, "EntryNotFound")
        self.hub.requests.append((self.command, self.path, self.headers["Range"]))
        model, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if self.path.startswith("/storage/"):
            _, _, model, name = self.path.rsplit("/", 3)
            model = model.replace("--", "/")
            return self.send_file(self.hub.models[model] / name)
        if model not in self.hub.models:
            return self.refuse(401, "RepoNotFound")
        commit = self.hub.commits.get(name, self.hub.commit(model))
        if model in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        if revision not in ("main", self.hub.commit(model)):
            return self.refuse(404, "RevisionNotFound")
        path = self.hub.models[model] / name
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", commit)
        if path.suffix in (".safetensors", ".bin"):
            return self.redirect(path, f"/storage/{commit}/{model.replace('/', '--')}/{name}", commit)
        return self.send_file(path, commit)

    def refuse(self, status: int, code: str, commit: str | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if commit is not None:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def redirect(self, path: Path, target: str, commit: str) -> None:
        self.send_response(302)
        # To another host: for headers, clients follow only redirects within a host.
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
        self.send_header("Location", f"{elsewhere}{target}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Etag", f'"{self.etag(path)}"')
        self.send_header("X-Linked-Size", str(path.stat().st_size))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, path: Path, commit: str | None = None) -> None:
        contents = path.read_bytes()
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
        if commit is not None:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{self.etag(path)}"')
        self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cuts.get(path.name, 0) > 0:
            self.hub.cuts[path.name] -= 1
            self.wfile.write(contents[start : (start + len(contents)) // 2])
            self.close_connection = True
            return
        if path.name in self.hub.damaged:
            contents = contents[:-1] + bytes([contents[-1] ^ 1])
        self.wfile.write(contents[start:])

    def etag(self, path: Path) -> str:
        """ETag as on the Hub: the SHA-256 of weights, the git blob id of other files."""
        contents = path.read_bytes()
        if path.suffix in (".safetensors", ".bin"):
            digest = hashlib.sha256(contents)
        else:
            digest = hashlib.sha1(b"blob %d\0" % len(contents) + contents)
        return self.hub.etags.get(path.name, digest.hexdigest())


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    handler = type("Handler", (_HubHandler,), {"hub": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        http.shutdown()
        thread.join()


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Returns a function that changes fields of a JSON file in place. A value of None removes the field."""

    def edit(path: Path, **changes: Any) -> None:
        contents = {**json.loads(path.read_text()), **changes}
        removed = {name for name, value in changes.items() if value is None}
        path.write_text(json.dumps({name: value for name, value in contents.items() if name not in removed}))

    return edit
