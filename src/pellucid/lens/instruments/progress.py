"""A progress bar on stderr for long computations."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# A shorter computation shows no bar.
_DELAY_SECONDS = 1.0


def tracked(items: Sequence[Item], title: str, show: bool | None = None) -> Iterator[Item]:
    """Iterate over the items, with a progress bar on stderr: items done, and the remaining time.

    show: True shows the bar from the start; if stderr is not a terminal, it prints one line at the end. False shows no
        bar. None shows it if stderr is a terminal and the computation takes more than a second.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=console.is_terminal)
    task, begun = bar.add_task(title, total=len(items)), time.monotonic()
    try:
        for item in items:
            if not bar.live.is_started and (show or time.monotonic() - begun > _DELAY_SECONDS):
                bar.start()
            yield item
            bar.advance(task)
    finally:
        bar.stop()
