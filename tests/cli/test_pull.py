"""`pellucid pull` from a local server with the Hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HUB_ID = "someone/small-gpt2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# A background process ignores Ctrl-C, and its children inherit that: restore the default, as in a terminal.
HEAR_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PELLUCID = (sys.executable, "-c", f"{HEAR_CTRL_C}; from pellucid.cli import main; main()")


class Hub:
    """Serves the files of one folder as `HUB_ID`. While `stalls` is set, the server sends only the first half of the
    weights, and then sets `stalled`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stalls = threading.Event()
        self.stalled = threading.Event()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.hub.folder / self.path.rpartition("/")[2]
        found = self.path.startswith(f"/{HUB_ID}/resolve/") and path.is_file()
        contents = path.read_bytes() if found else b""
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(404 if not found else 206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(contents) - 1}/{len(contents)}")
        self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = (start + len(contents)) // 2
        self.wfile.write(contents[start:half])
        self.wfile.flush()
        if path.suffix == ".safetensors" and self.hub.stalls.is_set():
            self.hub.stalled.set()
            while self.hub.stalls.is_set():
                threading.Event().wait(0.01)
        try:
            self.wfile.write(contents[half:])
        except OSError:  # the client closed the connection
            self.close_connection = True


@pytest.fixture
def hub(model_folder: Path) -> Iterator[Hub]:
    hub = Hub(model_folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub})) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.stalls.clear()
        server.shutdown()
        thread.join()


def environment(hub: Hub, cache: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return {**inherited, **own, **more}


def pull(hub: Hub, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*PELLUCID, "pull", HUB_ID), capture_output=True, text=True, env=environment(hub, cache, **more), check=False
    )


def test_pull_downloads_with_progress_and_then_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    first = pull(hub, tmp_path, TQDM_POSITION="-1")  # makes the Hub's client show bars without a terminal
    assert first.returncode == 0, first.stderr
    path = Path(first.stdout.removesuffix("\n"))
    assert path.is_relative_to(tmp_path)
    assert (path / "model.safetensors").read_bytes() == (hub.folder / "model.safetensors").read_bytes()
    assert "model.safetensors" in first.stderr and "100%" in first.stderr
    assert f"{HUB_ID} is here" in first.stderr

    again = pull(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout
    assert "was already here" in again.stderr


def test_ctrl_c_leaves_nothing_broken_and_says_how_to_go_on(hub: Hub, tmp_path: Path) -> None:
    hub.stalls.set()
    process = subprocess.Popen(
        (*PELLUCID, "pull", HUB_ID), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(hub, tmp_path)
    )
    assert hub.stalled.wait(timeout=60)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == b""
    assert f"`pellucid pull {HUB_ID}` downloads the rest".encode() in errors
    assert b"Traceback" not in errors
    offline = pull(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "pellucid: error: " in offline.stderr

    hub.stalls.clear()
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.removesuffix("\n"))
    assert (path / "model.safetensors").read_bytes() == (hub.folder / "model.safetensors").read_bytes()


def test_verify_reports_a_damaged_cached_file_and_pull_downloads_it_again(hub: Hub, tmp_path: Path) -> None:
    path = Path(pull(hub, tmp_path).stdout.removesuffix("\n"))

    def verify() -> subprocess.CompletedProcess[str]:
        command = (*PELLUCID, "verify", HUB_ID, "--files", "--json")
        return subprocess.run(command, capture_output=True, text=True, env=environment(hub, tmp_path), check=False)

    assert verify().returncode == 0
    (path / "model.safetensors").resolve().write_bytes(b"damaged")
    found = verify()
    assert found.returncode == 1
    assert [file["name"] for file in json.loads(found.stdout)["files"] if not file["intact"]] == ["model.safetensors"]
    assert f"`pellucid pull {HUB_ID}` downloads the damaged files again" in found.stderr

    again = pull(hub, tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"model.safetensors of {HUB_ID} is damaged in the cache" in again.stderr
    assert (path / "model.safetensors").read_bytes() == (hub.folder / "model.safetensors").read_bytes()
    assert verify().returncode == 0


def test_pull_of_what_the_hub_does_not_have_is_status_1(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        (*PELLUCID, "pull", "someone/else"), capture_output=True, text=True, env=environment(hub, tmp_path), check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pellucid: error: ")
    assert done.stderr.count("\n") == 1
