"""What trials count, and the table of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Outcomes that are no failure: a call that did its work; one that refused it with a `PellucidError`; one that the
# trial broke off, or ended on purpose.
DONE = "done"
REFUSED = "refused"
BROKEN_OFF = "broken off"

_NO_FAILURES = (DONE, REFUSED, BROKEN_OFF)


@dataclass
class Tally:
    """Outcomes of one trial's calls, by kind. seconds: how long the trial took."""

    trial: str
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _begun: float = field(default_factory=time.perf_counter, repr=False)

    def count(self, kind: str, times: int = 1) -> None:
        self.outcomes[kind] += times

    def closed(self) -> dict[str, Any]:
        """The tally as plain values, which pytest can send from a worker process."""
        seconds = time.perf_counter() - self._begun
        return {"trial": self.trial, "outcomes": dict(self.outcomes), "seconds": seconds}


def merged(plain: Iterable[dict[str, Any]]) -> list[Tally]:
    """One tally a trial, in the order in which the trials came."""
    tallies: dict[str, Tally] = {}
    for one in plain:
        tally = tallies.setdefault(one["trial"], Tally(one["trial"]))
        tally.outcomes.update(one["outcomes"])
        tally.seconds += one["seconds"]
    return list(tallies.values())


def table(tallies: Iterable[Tally]) -> list[str]:
    """The lines of a Markdown table: trial, calls, those done, refused and broken off, failures by kind, seconds."""
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
