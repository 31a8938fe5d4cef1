"""The installed command as a process: imports, output, exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid

# A background process ignores Ctrl-C, and its children inherit that: restore the default, as in a terminal.
HEAR_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PELLUCID = (sys.executable, "-c", f"{HEAR_CTRL_C}; from pellucid.cli import main; main()")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def pellucid_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run((*PELLUCID, *arguments), capture_output=True, env={**ENVIRONMENT, **environment}, check=False)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-u", *PELLUCID[1:], *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)


def modules_after(*arguments: str) -> set[str]:
    """Packages that a command has imported when it ends."""
    script = (
        "import json, sys\nfrom pellucid.cli.app import app\n"
        f"try:\n    app({list(arguments)!r})\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "json.dump(sorted({name.partition('.')[0] for name in sys.modules}), sys.stderr)"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, env=ENVIRONMENT, check=True)
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("arguments", [("tokens", "hello"), ("tokens", "hello", "--json"), ("--help",), ("models",)])
def test_light_commands_import_no_torch(arguments: tuple[str, ...]) -> None:
    assert not {"torch", "transformers"} & modules_after(*arguments)


def test_tokens_and_help_import_no_numpy_and_no_hub_client() -> None:
    for arguments in (("tokens", "hello"), ("--help",)):
        assert not {"numpy", "huggingface_hub"} & modules_after(*arguments)


def test_version_is_the_packages() -> None:
    done = pellucid_command("--version")
    assert done.stdout.decode() == f"pellucid {pellucid.__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    arguments = ("tokens", "hello", "--json")
    done = subprocess.run(
        (sys.executable, "-m", "pellucid", *arguments), capture_output=True, env=ENVIRONMENT, check=False
    )
    assert (done.returncode, done.stdout) == (0, pellucid_command(*arguments).stdout)


def test_the_streamed_pieces_make_the_text(model_folder: Path) -> None:
    process = start("generate", "Käse", "-m", str(model_folder), "-n", "40", "--do-sample", "--seed", "1")
    assert process.stdout is not None
    pieces = []
    while piece := os.read(process.stdout.fileno(), 65536):
        pieces.append(piece)
    assert process.wait() == 0
    expected = pellucid.load(model_folder).generate("Käse", max_new_tokens=40, do_sample=True, seed=1)
    assert b"".join(pieces).decode() == expected.text + "\n"
    assert len(pieces) > 3  # several pieces: the output was streamed


def test_ctrl_c_ends_a_stream_quietly_with_status_130(model_folder: Path) -> None:
    process = start("generate", "Once", "-m", str(model_folder), "-n", "1000")
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""


def test_a_reader_that_leaves_ends_a_stream_quietly(model_folder: Path) -> None:
    process = start("generate", "Once", "-m", str(model_folder), "-n", "1000")
    assert process.stdout is not None and process.stderr is not None
    os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 141
    assert errors == b""


def test_a_locale_without_the_characters_gets_escapes_and_valid_json(model_folder: Path) -> None:
    options = ("generate", "Käse 日本", "-m", str(model_folder), "-n", "3")
    plain = pellucid_command(*options, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith(rb"K\xe4se \u65e5\u672c")
    as_json = pellucid_command(*options, "--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert json.loads(as_json.stdout.decode("ascii"))["text"].startswith("Käse 日本")


def test_an_argument_that_is_not_utf8_is_status_1_and_one_line() -> None:
    command = [*(part.encode() for part in PELLUCID), b"tokens", b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"pellucid: error: ")
    assert done.stderr.count(b"\n") == 1


def test_in_a_terminal_the_prompt_is_dim_and_the_continuation_bright(model_folder: Path) -> None:
    controller, terminal = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    command = (*PELLUCID, "generate", "Once \x1b upon", "-m", str(model_folder), "-n", "3")
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, env=environment) as process:
        os.close(terminal)
        written = b""
        try:
            while piece := os.read(controller, 65536):
                written += piece
        except OSError:  # Linux reports EIO when the other end of the terminal is closed
            pass
    os.close(controller)
    assert process.returncode == 0
    assert written.startswith(b"\x1b[2mOnce \\x1b upon\x1b[0m\x1b[1m")
    assert written.endswith(b"\x1b[0m\r\n")
