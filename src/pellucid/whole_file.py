"""Files that appear whole or not at all, and are known to be writable before the work that fills them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import PellucidError


@dataclass(frozen=True)
class WholeFile:
    """A file on its way. partial: where to write it; what stands there becomes the file with `complete`."""

    partial: Path
    _target: Path
    _mode: int

    def write(self, content: bytes) -> None:
        """Write all of it, and let it take its place."""
        self.partial.write_bytes(content)
        self.complete()

    def complete(self) -> None:
        self.partial.chmod(self._mode)
        os.replace(self.partial, self._target)


@contextmanager
def whole_file(path: Path) -> Iterator[WholeFile]:
    """A new file beside the one at a path, which takes its place when it is complete; where nothing was completed, a
    file that was there stays. Raises `PellucidError` at once where the path cannot be written."""
    target = path.expanduser().resolve()  # through a link, to what it points to
    mode = _mode(path, target)
    # The name is chosen before the file exists, so that an interrupt between the two leaves nothing behind.
    partial = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    try:
        _create(partial, path)
        yield WholeFile(partial, target, mode)
    finally:
        partial.unlink(missing_ok=True)


def _create(partial: Path, path: Path) -> None:
    try:
        partial.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise PellucidError(f"{path} cannot be written: {error.strerror}") from error


def _mode(path: Path, target: Path) -> int:
    """The permissions that the file has, or that a new one gets."""
    try:
        found = target.stat()
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    except OSError as error:
        raise PellucidError(f"{path} cannot be written: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise PellucidError(f"{path} cannot be written: it is no regular file")
    if not os.access(target, os.W_OK):
        raise PellucidError(f"{path} cannot be written: Permission denied")
    return stat.S_IMODE(found.st_mode)
