"""A command that fails prints one line and sets an exit status. It leaves no files and shows no traceback."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli import failures

HEAR_SIGNALS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
MAIN = "from pellucid.cli import main; main()"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which `pellucid` is the command line."""
    function = f"pellucid() {{ '{sys.executable}' -c '{MAIN}' \"$@\"; }}; "
    return subprocess.run(["bash", "-c", function + command], capture_output=True, env=ENVIRONMENT, **options)


def assert_one_line(done: subprocess.CompletedProcess[bytes], said: str) -> None:
    assert done.stderr.startswith(b"pellucid: error: "), done.stderr
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr.decode()


class TestStreams:
    @pytest.mark.parametrize("command", ["tokens hello --json", "--help"])
    def test_a_closed_stdout_is_a_failure(self, command: str) -> None:
        done = shell(f"pellucid {command} >&-")
        assert done.returncode == 1
        assert_one_line(done, "standard output cannot be written: Bad file descriptor")

    @full_disk
    @pytest.mark.parametrize("command", ["generate hello -n 2", "--help"])
    def test_a_full_disk_is_a_failure(self, command: str) -> None:
        done = shell(f"pellucid {command} >/dev/full")
        assert done.returncode == 1
        assert_one_line(done, "standard output cannot be written: No space left on device")

    def test_notices_do_not_reach_stdout_when_stderr_is_closed(self) -> None:
        done = shell("pellucid show nowhere 2>&-")
        assert (done.returncode, done.stdout) == (1, b"")

    @full_disk
    def test_a_failure_that_cannot_be_printed_keeps_its_status(self) -> None:
        done = shell("pellucid show nowhere 2>/dev/full")
        assert (done.returncode, done.stdout) == (1, b"")

    def test_a_file_does_not_get_the_number_of_a_closed_stream(self, tmp_path: Path) -> None:
        record = tmp_path / "record.json"
        assert shell(f"pellucid generate hello -n 2 --record {record} >&- 2>&-").returncode == 1
        assert record.read_bytes().startswith(b"{")


class TestMemory:
    @pytest.mark.needs("torch")
    @pytest.mark.parametrize(
        ("command", "megabytes"),
        [("predict hello", 60), ("predict hello", 200), ("predict hello", 220), ("predict hello --engine torch", 500)],
    )
    def test_a_process_out_of_memory_says_so(self, command: str, megabytes: int) -> None:
        limit = megabytes << 20
        done = shell(
            f"pellucid {command}", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)), timeout=60
        )
        assert done.returncode in (0, 1)
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0 or b"emory" in done.stderr

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError("std::bad_alloc"),
            ImportError("libtorch.so: failed to map segment from shared object"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            OSError(12, "Cannot allocate memory"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_every_memory_error_gives_the_same_message(
        self, error: Exception, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert failures.report(error) == 1
        message = capsys.readouterr().err
        assert message.startswith("pellucid: error: there is not enough memory: ")
        assert message.count("\n") == 1

    def test_a_command_that_runs_out_of_memory_is_status_1(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def out_of_memory(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("pellucid.cli.predict.load_model", out_of_memory)
        result = run("predict", "hello")
        assert result.exit_code == 1
        assert "there is not enough memory" in result.stderr


SIGNAL_AT_IMPORT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
module, number = sys.argv[1], int(sys.argv[2])
class SignalAtImport:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            signal.raise_signal(number)
sys.meta_path.insert(0, SignalAtImport())
sys.argv[1:] = ["tokens", "hello"]
from pellucid.cli import main
main()
"""
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class TestSignals:
    @pytest.mark.parametrize(
        ("module", "number"),
        [("typer", number) for number in NUMBERS] + [("rich", signal.SIGINT)],
    )
    def test_a_signal_during_the_imports_ends_the_command_quietly(self, module: str, number: signal.Signals) -> None:
        command = [sys.executable, "-c", SIGNAL_AT_IMPORT, module, str(int(number))]
        done = subprocess.run(command, capture_output=True, env=ENVIRONMENT)
        assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")

    @pytest.mark.parametrize("number", NUMBERS)
    def test_a_signal_ends_a_decode_and_leaves_no_file(self, number: signal.Signals, tmp_path: Path) -> None:
        command = ("generate", "Once", "-n", "500", "--num-beams", "4", "--record", "record.json")
        process = subprocess.Popen(
            [sys.executable, "-c", f"{HEAR_SIGNALS}; {MAIN}", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=tmp_path,
        )
        while not any(tmp_path.iterdir()):  # waits for the temporary file of the record
            assert process.poll() is None
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (128 + number, b"", b"")
        assert list(tmp_path.iterdir()) == []


def test_a_programming_error_is_one_line_that_says_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(KeyError("rows")) == 1
    message = capsys.readouterr().err
    assert message.startswith("pellucid: error: unexpected KeyError: 'rows' (")
    assert "PELLUCID_TRACEBACK=1" in message and message.count("\n") == 1
