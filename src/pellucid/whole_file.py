"""Atomic writes: a temporary file or folder in the target's folder, renamed to the target when it is complete.

A killed process leaves its temporary behind. Each process holds a lock on its temporary while it runs. The next write
to the same folder removes the temporaries that are not locked.
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
        """Flush the temporary to disk, then rename it to the target, so that a crash of the machine leaves either the
        old file or the new one."""
        with _writing(self._target):
            if self._mode is not None:
                self.partial.chmod(self._mode)
            flush_to_disk(self.partial)
            os.replace(self.partial, self._target)
            flush_to_disk(self._target.parent)


def target_of(path: Path) -> Path:
    """The file that a write to a path replaces: links are followed and `~` is expanded.

    Raises `PellucidError` if the path cannot be resolved.
    """
    with _writing(path):
        return path.expanduser().resolve()


@contextmanager
def whole_file(path: Path) -> Iterator[WholeFile]:
    """Write a file atomically. If the block does not complete it, an existing file stays unchanged.

    Raises `PellucidError` before the block runs if the path cannot be written.
    """
    with ExitStack() as stack:
        target = target_of(path)
        with _writing(path):
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
    """Flush a file's content, or a folder's entries, to disk (fsync)."""
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
    """Lock a new temporary and return the descriptor that holds the lock.

    Returns `_NO_LOCK` if the system or the file system has no locks, None if another process removed the file as stale
    before it was locked.
    """
    if fcntl is None:
        return _NO_LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks, where `_remove_stale` fails to lock too
        os.close(descriptor)
        return _NO_LOCK
    if path.exists():
        return descriptor
    os.close(descriptor)
    return None


def _remove_stale(parent: Path) -> None:
    """Remove the temporaries in a folder that no running process has locked."""
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
    """Raise errors of the block as a `PellucidError` that names the path."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # of the disk, of ~nobody, of a NUL in the name
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
