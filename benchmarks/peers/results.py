"""Results of a run: speeds by contestant and case, their medians, ratios and goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from peers.catalogue import OURS, TRANSFORMERS, WIDTHS, Case, Contestant


@dataclass(frozen=True)
class Goal:
    """A ratio and its lower bound, `least`. `ratio` is None if one of its terms was not measured."""

    name: str
    ratio: float | None
    least: float
    against: str


@dataclass(frozen=True)
class Agreement:
    """Agreement with the reference: `first` of `sequences` first tokens, and `same` of `compared` tokens, are equal."""

    first: int
    sequences: int
    same: int
    compared: int


@dataclass
class Results:
    """Measurements and failures of a run.

    date, command, machine, threads, rounds, versions: the conditions of the run. missing: runtimes that are not
    installed. ids: the tokens of each contestant that are compared with the reference.
    """

    date: str
    command: str
    machine: str
    threads: int
    rounds: int
    missing: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    ids: dict[Contestant, list[list[int]]] = field(default_factory=dict)
    _speeds: dict[tuple[Contestant, str], list[float]] = field(default_factory=dict)
    _limits: dict[Contestant, list[tuple[float, float]]] = field(default_factory=dict)
    _failures: dict[tuple[Contestant, str], str] = field(default_factory=dict)

    def add(self, contestant: Contestant, case: Case, tokens_per_second: float) -> None:
        self._speeds.setdefault((contestant, case.name), []).append(tokens_per_second)

    def add_limit(self, contestant: Contestant, allowed: float, engine: float) -> None:
        """Add tokens per second at memory bandwidth, and of engine steps that alternate with the bandwidth reads."""
        self._limits.setdefault(contestant, []).append((allowed, engine))

    def fail(self, contestant: Contestant, what: str, message: str) -> None:
        """Record a failure. what: "loading", "limit", "check" or the name of a case."""
        self._failures[contestant, what] = message

    @property
    def contestants(self) -> list[Contestant]:
        """Contestants that were measured or failed, from the widest weights to the narrowest."""
        seen = dict.fromkeys([*self.ids, *(one for one, _ in self._speeds), *(one for one, _ in self._failures)])
        return sorted(seen, key=lambda one: WIDTHS.index(one.width))

    def failures(self, contestant: Contestant) -> dict[str, str]:
        """Error messages of a contestant, by what failed."""
        return {what: said for (who, what), said in self._failures.items() if who == contestant}

    def speed(self, contestant: Contestant, case: str) -> float | None:
        """Median over rounds in tokens per second; None if not measured."""
        speeds = self._speeds.get((contestant, case))
        return statistics.median(speeds) if speeds else None

    def limit(self, width: str) -> float | None:
        """Median over rounds of the bandwidth limit at this width, in tokens per second; None if not measured."""
        limits = [allowed for one, rounds in self._limits.items() if one.width == width for allowed, _ in rounds]
        return statistics.median(limits) if limits else None

    def of_limit(self, width: str) -> float | None:
        """Median over rounds of engine speed divided by bandwidth limit; None if not measured."""
        ratios = [
            engine / allowed for one, rounds in self._limits.items() if one.width == width for allowed, engine in rounds
        ]
        return statistics.median(ratios) if ratios else None

    def agreement(self, contestant: Contestant) -> Agreement | None:
        """Agreement with the reference: Transformers in float32, or Pellucid in float32 if that did not run."""
        reference = self.ids.get(Contestant(TRANSFORMERS, "float32")) or self.ids.get(Contestant(OURS, "float32"))
        found = self.ids.get(contestant)
        if reference is None or found is None:
            return None
        pairs = list(zip(found, reference, strict=True))
        return Agreement(
            first=sum(ids[0] == expected[0] for ids, expected in pairs),
            sequences=len(pairs),
            same=sum(a == b for ids, expected in pairs for a, b in zip(ids, expected, strict=True)),
            compared=sum(len(ids) for ids, _ in pairs),
        )

    def goals(self) -> list[Goal]:
        """The speed goals, with the ratios that this run measured."""
        return list(self._goals())

    def _goals(self) -> Iterator[Goal]:
        for width, least in zip(WIDTHS, (0.90, 0.90, 0.80, 0.65), strict=True):
            yield Goal(f"batch 1, {width}", self.of_limit(width), least, "bandwidth limit")
        for width in ("int8", "int4"):
            peer, speed = self._fastest("alone", width)
            yield Goal(f"batch 1, {width}", _ratio(self._own(width, "alone"), speed), 1.8, peer)
        alone = self._own("int8", "alone")
        yield Goal("context of 1,000, int8", _ratio(self._own("int8", "context"), alone), 0.7, "Pellucid at 32")
        batch = self._own("int8", "batch")
        yield Goal("batch 16, int8", _ratio(batch, alone), 8, "Pellucid, batch 1")
        peer, speed = self._fastest("batch")
        yield Goal("batch 16, int8", _ratio(batch, speed), 2, peer)
        beams = self.speed(Contestant(TRANSFORMERS, "float32"), "beams")
        yield Goal("4 beams, int8", _ratio(self._own("int8", "beams"), beams), 8, "Transformers float32")
        peer, speed = self._fastest("prompt")
        prompt = max((self._own(width, "prompt") or 0 for width in WIDTHS), default=0)
        yield Goal("prompt of 512, best precision", _ratio(prompt or None, speed), 1, peer)

    def _own(self, width: str, case: str) -> float | None:
        return self.speed(Contestant(OURS, width), case)

    def _fastest(self, case: str, width: str | None = None) -> tuple[str, float | None]:
        """Name and speed of the fastest other runtime, at one width or at any."""
        speeds = {
            one.name: speed
            for one in self.contestants
            if one.peer is not OURS and width in (None, one.width) and (speed := self.speed(one, case))
        }
        return max(speeds.items(), key=lambda item: item[1]) if speeds else ("the fastest peer", None)

    def to_json(self) -> dict[str, Any]:
        return {
            "date": self.date,
            "command": self.command,
            "machine": self.machine,
            "threads": self.threads,
            "rounds": self.rounds,
            "versions": self.versions,
            "missing": self.missing,
            "limits": {
                width: {"tokens_per_second": self.limit(width), "engine_of_limit": self.of_limit(width)}
                for width in WIDTHS
                if self.limit(width)
            },
            "contestants": [
                {
                    "name": one.name,
                    "width": one.width,
                    "agreement": (agreement := self.agreement(one)) and asdict(agreement),
                    "tokens_per_second": {case: speeds for (who, case), speeds in self._speeds.items() if who == one},
                    "errors": self.failures(one),
                }
                for one in self.contestants
            ],
            "goals": [asdict(goal) for goal in self.goals()],
        }


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None else None
