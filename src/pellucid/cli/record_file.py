"""The file that `generate --record` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.decoding.records.record import Record

Write = Callable[[list["Record"]], None]


@contextmanager
def record_file(path: Path) -> Iterator[Write]:
    """A function that writes records to a path: one as a JSON object, several as an array, with a line end.

    The file appears when it is complete. Raises `PellucidError` at once where the path cannot be written.
    """
    with whole_file(path) as file:

        def write(records: list[Record]) -> None:
            texts = [record.to_json() for record in records]
            whole = texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]"
            file.write((whole + "\n").encode("utf-8"))

        yield write
