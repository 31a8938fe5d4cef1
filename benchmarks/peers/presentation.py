"""Presentation of the results: tables in a terminal, a Markdown page, a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table

from peers.catalogue import CASES, OURS, Case
from peers.pictures import draw
from peers.results import Results

GOAL_COLUMNS = ("", "ratio", "goal", "relative to")


def tables(results: Results) -> Group:
    """Speeds by contestant and case, then ratios with their goals, then failures."""
    speeds = Table(box=box.SIMPLE_HEAD, title=headline(results), title_justify="left", pad_edge=False)
    goals = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for table, columns in ((speeds, speed_columns(results)), (goals, GOAL_COLUMNS)):
        for number, title in enumerate(columns):
            left = number == 0 or title == GOAL_COLUMNS[-1]
            table.add_column(title, justify="left" if left else "right", no_wrap=number == 0)
    for row in speed_rows(results):
        if not any(row[2:]) and speeds.row_count:
            speeds.add_section()
        speeds.add_row(*row, style="bold" if row[0].startswith(OURS.name) else None)
    for row, reached in goal_rows(results):
        goals.add_row(*row, style="green" if reached else "yellow")
    return Group(speeds, goals, *failure_lines(results))


def headline(results: Results) -> str:
    rounds = f"medians of {results.rounds} rounds" if results.rounds > 1 else "one round"
    return f"GPT-2, 124M shape · {results.machine} · {results.threads} threads · {rounds} · {results.date}"


def measured_cases(results: Results) -> list[Case]:
    """Cases with a result, and always the first case: the bandwidth limit is shown in its column."""
    return [
        case for case in CASES if case is CASES[0] or any(results.speed(one, case.name) for one in results.contestants)
    ]


def speed_columns(results: Results) -> list[str]:
    return ["tokens per second", *(case.title for case in measured_cases(results)), "same first tokens", "same tokens"]


def speed_rows(results: Results) -> Iterator[list[str]]:
    """Rows by width: the bandwidth limit, then one row per contestant with its speed in each case, and its agreement
    with the reference."""
    cases, width = measured_cases(results), None
    for one in results.contestants:
        if one.width != width:
            width, limit = one.width, results.limit(one.width)
            yield [f"bandwidth limit, {width}", f"{limit:,.0f}" if limit else "", *[""] * (len(cases) + 1)]
        failures = results.failures(one)
        cells = []
        for case in cases:
            speed = results.speed(one, case.name)
            failed = "loading" in failures or case.name in failures
            cells.append("failed" if failed else "" if speed is None else f"{speed:,.0f}")
        same = results.agreement(one)
        agreement = [f"{same.first} of {same.sequences}", f"{same.same} of {same.compared}"] if same else ["", ""]
        yield [one.name, *cells, *agreement]


def goal_rows(results: Results) -> Iterator[tuple[list[str], bool]]:
    """Table rows of the goals whose ratio was measured, each with True if the goal is reached."""
    for goal in results.goals():
        if goal.ratio is not None:
            yield [goal.name, f"{goal.ratio:.2f}", f"{goal.least:.2f}", goal.against], goal.ratio >= goal.least


def failure_lines(results: Results) -> list[str]:
    return [
        f"{one.name} failed in {what}: {said}"
        for one in results.contestants
        for what, said in results.failures(one).items()
    ]


def markdown(results: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    lines = [f"{headline(results)}.", "", f"`{results.command}`; {versions}.", "", *_rows(speed_columns(results))]
    lines += ["| " + " | ".join(row) + " |" for row in speed_rows(results)]
    goals = [row for row, _ in goal_rows(results)]
    if goals:
        lines += ["", *_rows(GOAL_COLUMNS), *("| " + " | ".join(row) + " |" for row in goals)]
    for line in failure_lines(results):
        lines += ["", line]
    if results.missing:
        lines += ["", f"Not installed: {', '.join(results.missing)}."]
    return "\n".join(lines) + "\n"


def _rows(columns: Sequence[str]) -> list[str]:
    rules = ["---" if number == 0 or title == GOAL_COLUMNS[-1] else "---:" for number, title in enumerate(columns)]
    return ["| " + " | ".join(columns) + " |", "| " + " | ".join(rules) + " |"]


def write(results: Results, folder: Path) -> None:
    """Write `decode.md`, `decode.json` and, if matplotlib is installed, `decode.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decode.md").write_text(markdown(results), encoding="utf-8")
    (folder / "decode.json").write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        draw(results, folder / "decode.png")
