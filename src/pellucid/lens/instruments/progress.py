"""How far a long sweep has come, shown on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

# Shorter work needs no bar.
_PATIENCE_SECONDS = 1.0


def tracked(items: Sequence[Item], title: str, show: bool | None = None) -> Iterator[Item]:
    """The items one by one, with a bar on stderr that tells how many are done and how long the rest will take.

    show: True draws the bar at once (where stderr is no terminal, one line at the end), False never; None where stderr
        is a terminal and the work takes over a second.
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
            if not bar.live.is_started and (show or time.monotonic() - begun > _PATIENCE_SECONDS):
                bar.start()
            yield item
            bar.advance(task)
    finally:
        bar.stop()
