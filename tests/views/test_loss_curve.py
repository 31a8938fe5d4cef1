"""The log of a training run as a table and a plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.views.loss_curve import draw, read_log, smoothed, table


def line(step: int, **values: float | bool) -> str:
    return json.dumps({"minutes": step / 10, "step": step, "tokens": step * 4096, **values})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two losses and an evaluation, of which the second was lost and computed again, then the end of the run."""
    path = tmp_path / "log.jsonl"
    lines = [
        line(100, loss=6.0, lr=1.0),
        line(200, loss=5.5, lr=1.0),
        line(150, loss=5.0, lr=1.0),
        line(150, averaged=False, held_out=5.25),
        line(300, loss=4.0, lr=0.01),
        line(300, averaged=False, held_out=4.125),
        line(300, averaged=True, held_out=4.2),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_steps_repeated_after_a_resume_are_shown_once(log: Path) -> None:
    assert [record["step"] for record in read_log(log)] == [100, 150, 150, 300, 300, 300]


def test_the_table_has_a_row_for_each_evaluation(log: Path) -> None:
    header, _, first, last = table(read_log(log)).splitlines()
    assert header.endswith("| training | held_out |")
    assert first == "| 15 | 150 | 0.61M | 5.00 | 5.250 |"
    assert last == "| 30 | 300 | 1.23M | 5.00 | 4.125 |"


def test_smoothing_keeps_a_straight_line_and_the_length() -> None:
    assert smoothed([1.0, 2.0, 3.0, 4.0, 5.0], over=3) == [1.5, 2.0, 3.0, 4.0, 4.5]


def test_the_curve_is_drawn_as_a_png(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(read_log(log), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
