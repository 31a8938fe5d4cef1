"""Atomic writes: a temporary file or folder in the target's folder, renamed to the target when it is complete.

A process that is killed leaves its temporary behind. Each temporary is locked while its process runs, so the next write
to the same folder can tell which ones nobody is writing any more, and removes them.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import PellucidError

try:
    import fcntl
except ImportError:  # Windows: temporaries of killed processes stay
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".pellucid-", ".partial"
_NO_LOCK = -1


@dataclass(frozen=True)
class WholeFile:
    """A file that is being written. partial: the temporary to write to; `complete` renames it to the target."""

    partial: Path
    _target: Path
    _mode: int | None  # the permissions of the file that is replaced

    def write(self, content: bytes) -> None:
        """Write the whole content and complete the file."""
        with _writing(self._target):
            self.partial.write_bytes(content)
        self.complete()

    def complete(self) -> None:
        """Rename the temporary to the target, after its content has reached the disk: a crash of the machine leaves
        the old file or the new one."""
        with _writing(self._target):
            if self._mode is not None:
                self.partial.chmod(self._mode)
            flush_to_disk(self.partial)
            os.replace(self.partial, self._target)
            flush_to_disk(self._target.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[WholeFile]:
    """Write a file atomically. If the block completes nothing, a file that was there stays as it was.

    Raises `PellucidError` before the block runs if the path cannot be written.
    """
    with ExitStack() as stack:
        with _writing(path):
            target = path.expanduser().resolve()  # through a link, to what it points to
            mode = _permissions(target)
            partial = stack.enter_context(temporary(target.parent, folder=False))
        yield WholeFile(partial, target, mode)


@contextmanager
def temporary(parent: Path, *, folder: bool) -> Iterator[Path]:
    """A new, empty file or folder in `parent`, removed at the end of the block unless it was renamed."""
    _remove_stale(parent)
    # The name is chosen before the file exists, so that an interrupt between the two leaves nothing behind.
    path = parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    lock: int | None = None
    try:
        while lock is None:
            path.mkdir() if folder else path.touch(exist_ok=False)
            lock = _lock_new(path)
        yield path
    finally:
        _remove(path)
        if lock is not None and lock != _NO_LOCK:
            os.close(lock)


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, has reached the disk."""
    if path.is_dir():
        with suppress(OSError):  # some systems cannot flush a folder
            _flush(path, os.O_RDONLY)
    else:
        _flush(path, os.O_RDWR)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_new(path: Path) -> int | None:
    """The descriptor that holds the lock of a new temporary, or None if another process has removed it as stale:
    that can happen between its making and its locking."""
    if fcntl is None:
        return _NO_LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: the removal of stale files cannot lock it either
        os.close(descriptor)
        return _NO_LOCK
    if path.exists():
        return descriptor
    os.close(descriptor)
    return None


def _remove_stale(parent: Path) -> None:
    """Remove the temporaries in a folder whose processes have ended: those that can be locked."""
    if fcntl is None:
        return
    for path in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # another user's, or in use
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise `PellucidError`, naming the path, where it cannot be written."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # not only of the disk: ~nobody, a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise PellucidError(f"{path} cannot be written: {reason}") from error


def _permissions(target: Path) -> int | None:
    """The permissions of the file that will be replaced, or None if there is none."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(found.st_mode)
