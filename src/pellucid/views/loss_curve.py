"""Plot and tabulate the loss curve of a pretraining run from its log.

    python -m pellucid.views.loss_curve LOG PICTURE

The table is written to standard output, in Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.extras import require

Record = dict[str, Any]
_PROGRESS = {"minutes", "step", "tokens", "averaged"}
_SMOOTHED_OVER = 9  # training losses; the log has one about every 20 seconds


def read_log(path: Path) -> list[Record]:
    """The log's records in order of steps. After a run was resumed from a checkpoint, the repeated steps replace those
    logged before the interruption."""
    records: list[Record] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        while records and records[-1]["step"] > record["step"]:
            records.pop()
        records.append(record)
    return records


def evaluations(records: Sequence[Record]) -> list[Record]:
    """The records with validation losses of the current weights, not of their running mean."""
    return [record for record in records if record.get("averaged") is False]


def smoothed(losses: Sequence[float], over: int = _SMOOTHED_OVER) -> list[float]:
    """Moving average over a centred window, which is narrower at both ends."""
    half = over // 2
    windows = [losses[max(0, i - half) : i + half + 1] for i in range(len(losses))]
    return [sum(window) / len(window) for window in windows]


def table(records: Sequence[Record]) -> str:
    """A Markdown table, one row per evaluation: time, steps, tokens, smoothed training loss, validation losses."""
    rows = evaluations(records)
    names = [name for name in rows[0] if name not in _PROGRESS] if rows else []
    lines = [
        "| minutes | steps | tokens | training | " + " | ".join(names) + " |",
        "| ---: " * (4 + len(names)) + "|",
    ]
    batches = [record for record in records if "lr" in record]
    means = smoothed([record["loss"] for record in batches])
    for row in rows:
        nearest = min(range(len(batches)), key=lambda i: abs(batches[i]["step"] - row["step"]))
        cells = [f"{row['minutes']:.0f}", f"{row['step']:,}", f"{row['tokens'] / 1e6:.2f}M", f"{means[nearest]:.2f}"]
        lines.append("| " + " | ".join([*cells, *(f"{row[name]:.3f}" for name in names)]) + " |")
    return "\n".join(lines)


def draw(records: Sequence[Record], picture: Path) -> None:
    """Plot training and validation losses over tokens into a PNG file."""
    require("plot", "drawing a loss curve")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    batches = [record for record in records if "lr" in record]
    axes.plot(
        [record["tokens"] / 1e6 for record in batches],
        smoothed([record["loss"] for record in batches]),
        color="0.7",
        label="training batches (the mixture changes)",
    )
    rows = evaluations(records)
    for name in [name for name in rows[0] if name not in _PROGRESS] if rows else []:
        axes.plot([row["tokens"] / 1e6 for row in rows], [row[name] for row in rows], marker="o", ms=3, label=name)
    axes.set_xlabel("tokens seen (millions)")
    axes.set_ylabel("loss (nats a token, over all ids)")
    axes.set_ylim(top=7)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("log", type=Path, help="log.jsonl of a pretraining run")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    arguments = parser.parse_args()
    records = read_log(arguments.log)
    draw(records, arguments.picture)
    print(table(records))


if __name__ == "__main__":
    main()
