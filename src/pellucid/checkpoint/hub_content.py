"""Whether files from the Hub are what their digests say.

The Hub gives each file an ETag, which is also the name of its content in the cache: the SHA-256 of a large file, the
git blob id (a SHA-1) of a small one.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import CheckpointError

_SHA256 = re.compile("[0-9a-f]{64}")
_SHA1 = re.compile("[0-9a-f]{40}")
_FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class CachedFile:
    """A file of a model in the Hub's cache. intact: whether its content has its digest; None if it has no digest."""

    name: str
    path: Path
    size: int  # bytes
    intact: bool | None


def check_etag(file_name: str, etag: str | None) -> str:
    """An ETag that can be the name of a file in the cache. Raises `CheckpointError` for any other, which could lead out
    of it."""
    if etag is None or not _FILE_NAME.fullmatch(etag):
        raise CheckpointError(f"the Hub gives {file_name} the ETag {etag!r:.100}, which is no digest: not downloaded")
    return etag


def check_commit(file_name: str, commit: str | None) -> str:
    """A commit, which is the name of a folder of the cache. Raises `CheckpointError` for anything else."""
    if commit is None or not _SHA1.fullmatch(commit):
        raise CheckpointError(f"the Hub gives {file_name} the commit {commit!r:.100}, which is none: not downloaded")
    return commit


def is_intact(path: Path, digest: str) -> bool | None:
    """Whether a file has the digest by which the Hub knows it; None if that is neither a SHA-256 nor a git blob id."""
    if _SHA256.fullmatch(digest):
        content = hashlib.sha256()
    elif _SHA1.fullmatch(digest):
        content = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        return None
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            content.update(block)
    return content.hexdigest() == digest


def checked_files(snapshot: Path) -> list[CachedFile]:
    """The files of a folder of the cache, by name, each read as a whole and compared with its digest."""
    files = []
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            digest = Path(os.readlink(path)).name if path.is_symlink() else ""
            name = path.relative_to(snapshot).as_posix()
            files.append(CachedFile(name, path, path.stat().st_size, is_intact(path, digest)))
    return files


def discard(path: Path) -> None:
    """Remove a file of the cache: the link in the snapshot, and the content that it leads to."""
    content = {path, path.resolve()}
    if path.is_symlink():
        content.add(path.parent / os.readlink(path))
    for file in content:
        file.unlink(missing_ok=True)
