"""Counts of outcomes, and the table of all trials."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Outcomes that are not failures: the call completed; it raised a `PellucidError`; the trial interrupted or ended it.
DONE = "done"
REFUSED = "refused"
BROKEN_OFF = "broken off"

_NO_FAILURES = (DONE, REFUSED, BROKEN_OFF)


@dataclass
class Tally:
    """Numbers of outcomes in one trial, by kind. seconds: duration of the trial."""

    trial: str
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _begun: float = field(default_factory=time.perf_counter, repr=False)

    def count(self, kind: str, times: int = 1) -> None:
        self.outcomes[kind] += times

    def closed(self) -> dict[str, Any]:
        """The tally as plain values, which pytest-xdist can send between processes."""
        seconds = time.perf_counter() - self._begun
        return {"trial": self.trial, "outcomes": dict(self.outcomes), "seconds": seconds}


def merged(plain: Iterable[dict[str, Any]]) -> list[Tally]:
    """One tally per trial, in the order of the trials."""
    tallies: dict[str, Tally] = {}
    for one in plain:
        tally = tallies.setdefault(one["trial"], Tally(one["trial"]))
        tally.outcomes.update(one["outcomes"])
        tally.seconds += one["seconds"]
    return list(tallies.values())


def table(tallies: Iterable[Tally]) -> list[str]:
    """Lines of a Markdown table: trial, calls, calls done, refused and broken off, failures by kind, seconds."""
    lines = [
        "| trial | calls | done | refused | broken off | failures | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tally in tallies:
        failures = {kind: n for kind, n in sorted(tally.outcomes.items()) if kind not in _NO_FAILURES}
        shown = ", ".join(f"{kind}: {n:,}" for kind, n in failures.items()) or "none"
        counts = [tally.outcomes.total(), *(tally.outcomes[kind] for kind in _NO_FAILURES)]
        cells = [tally.trial, *(f"{n:,}" for n in counts), shown, f"{tally.seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
