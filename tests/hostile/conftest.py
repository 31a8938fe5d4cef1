"""Fixtures of the trials: counts, the table at the end of a run, and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .samples import write_hub_folder
from .tally import Tally, merged, table
from .worker import Worker, WorkerOf

_PROPERTY = "hostile"


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Tally]]:
    """Returns a function that opens the tally of a trial by name, for the table at the end of the run."""
    opened: list[Tally] = []

    def open_tally(trial: str) -> Tally:
        opened.append(Tally(trial))
        return opened[-1]

    yield open_tally
    request.node.user_properties.extend((_PROPERTY, one.closed()) for one in opened)


@pytest.fixture(scope="session")
def worker_of() -> Iterator[WorkerOf]:
    started: dict[str, Worker] = {}

    def start(calls: str) -> Worker:
        if calls not in started:
            started[calls] = Worker(f"tests.hostile.calls.{calls}")
        return started[calls]

    yield start
    for worker in started.values():
        worker.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random model and a small tokenizer."""
    return write_hub_folder(tmp_path_factory.mktemp("model") / "hub")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counted = [
        value
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if counted:
        terminalreporter.write_sep("=", "hostile trials")
        terminalreporter.write_line("\n".join(table(merged(counted))))
