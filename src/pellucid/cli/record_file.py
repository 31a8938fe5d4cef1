"""The file that `generate --record` writes: whole or not at all, and known to be writable before the work."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.errors import PellucidError

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record

Write = Callable[[list["Record"]], None]


@contextmanager
def record_file(path: Path) -> Iterator[Write]:
    """A function that writes records to a path: one as a JSON object, several as an array, with a line end.

    The text goes to a new file beside it, which takes its place when it is complete; where nothing was written, a
    file that was there stays. Raises `PellucidError` at once where the path cannot be written.
    """
    target = path.expanduser().resolve()  # through a link, to what it points to
    mode = _mode(path, target)
    try:
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise PellucidError(f"{path} cannot be written: {error.strerror}") from error
    partial = Path(name)

    def write(records: list[Record]) -> None:
        texts = [record.to_json() for record in records]
        whole = texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]"
        partial.write_text(whole + "\n", encoding="utf-8")
        partial.chmod(mode)
        os.replace(partial, target)

    os.close(number)
    try:
        yield write
    finally:
        partial.unlink(missing_ok=True)


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
