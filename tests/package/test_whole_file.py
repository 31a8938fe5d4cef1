"""Files are written atomically."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pellucid import whole_file as module
from pellucid.errors import PellucidError
from pellucid.whole_file import whole_file


class InterruptAtLine:
    """Raises KeyboardInterrupt at the nth line that runs in the module, as a signal can."""

    def __init__(self, lines: int) -> None:
        self.lines = lines

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            self.lines -= 1
            if self.lines == 0:
                raise KeyboardInterrupt
        return self


def interrupted_at_line(path: Path, lines: int) -> bool:
    """True if the interrupt came before the body of the `with` block began."""
    before = sys.gettrace()
    sys.settrace(InterruptAtLine(lines))
    try:
        with whole_file(path):
            sys.settrace(before)
            return False
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)


def test_an_interrupt_at_any_line_of_the_beginning_leaves_nothing_behind(tmp_path: Path) -> None:
    lines = 1
    while interrupted_at_line(tmp_path / "report.html", lines):
        assert os.listdir(tmp_path) == []
        lines += 1
    assert lines > 10  # the temporary file is created within these lines
    assert os.listdir(tmp_path) == []


def test_an_interrupt_of_the_work_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.safetensors"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == [path.name]


def test_a_completed_file_replaces_the_previous_one_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(b"older")
    path.chmod(0o640)
    with whole_file(path) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"newer"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == [path.name]


def test_a_new_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "new.json") as file:
            file.write(b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "new.json").stat().st_mode & 0o777 == 0o640


def test_a_missing_folder_is_an_error_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "new.json"
    with pytest.raises(PellucidError, match=r"missing.new\.json cannot be written: No such file"), whole_file(path):
        pytest.fail("the work began")


def test_an_invalid_path_is_an_error_before_the_work(tmp_path: Path) -> None:
    for path in (Path("~nobody-has-this-name/file"), tmp_path / ("x" * 300), tmp_path / "a\0b", tmp_path):
        with pytest.raises(PellucidError, match="cannot be written"), whole_file(path):
            pytest.fail("the work began")
    assert os.listdir(tmp_path) == []


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with whole_file(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    path = tmp_path / "record.json"
    with (
        pytest.raises(PellucidError, match=r"record\.json cannot be written: No space left"),
        whole_file(path) as file,
        monkeypatch.context() as patched,
    ):
        patched.setattr(Path, "write_bytes", full)
        file.write(b"{}")
    assert os.listdir(tmp_path) == []


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from pellucid.whole_file import temporary, whole_file
folder = Path(sys.argv[1])
with whole_file(folder / "killed.json") as file, temporary(folder, folder=True) as staging:
    file.partial.write_bytes(b"half")
    (staging / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no locks that end with their process")
def test_the_next_write_removes_only_the_temporary_files_of_killed_processes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)], check=False)
    assert len(left := os.listdir(tmp_path)) == 2 and all(name.startswith(".") for name in left)
    (tmp_path / ".pellucid-notes").write_text("precious")
    with whole_file(tmp_path / "a.json") as first:
        first.partial.write_bytes(b"being written")
        with whole_file(tmp_path / "b.json") as second:
            second.write(b"b")
        first.complete()
    assert sorted(os.listdir(tmp_path)) == [".pellucid-notes", "a.json", "b.json"]
    assert (tmp_path / "a.json").read_bytes() == b"being written"
