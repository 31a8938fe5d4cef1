"""`pellucid bench`: decoding speed against the limit that memory bandwidth sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import Json, Model, PrecisionOption, Threads
from pellucid.cli.terminal import show, show_json, waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Group

    from pellucid.native.bandwidth import Measurement


EXAMPLES = (
    "pellucid bench",
    "pellucid bench -m gpt2 --precision int8 --threads 2",
)


def bench(
    model: Model = "demo",
    precision: PrecisionOption = None,
    threads: Threads = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How many times to measure each speed.")] = 5,
    json: Json = False,
) -> None:
    """Measure tokens per second against the limit of memory bandwidth, which is one read of the weights per token."""
    from pellucid import native
    from pellucid.checkpoint import open_checkpoint
    from pellucid.errors import OptionError

    if not native.is_built():
        raise OptionError("bench measures the native engine, which is not built")
    from pellucid.native.bandwidth import measure
    from pellucid.native.engine import PRECISIONS, NativeEngine

    checkpoint = open_checkpoint(model)
    packed = checkpoint.packed
    if precision is not None and precision.value not in PRECISIONS:
        raise OptionError(f"bench measures the native engine, which has no precision {precision.value}")
    wanted = [precision.value] if precision else [packed.precision] if packed else list(PRECISIONS)
    measured = []
    for name in wanted:
        with waiting(f"measuring {name}"):
            engine = NativeEngine.load(checkpoint, precision=name, threads=threads)  # type: ignore[arg-type]
            measured.append(measure(engine, rounds=rounds))
    if json:
        show_json({"model": model, "measured": [{**asdict(one), "of_limit": one.of_limit} for one in measured]})
    else:
        show(_table(model, measured))


def _table(model: str, measured: list[Measurement]) -> Group:
    from rich.console import Group
    from rich.text import Text

    from pellucid.views.columns import Column, ColumnsTable

    def column(title: str, text: Callable[[Measurement], str], drop: int = 0) -> Column:
        return Column(title, [text(one) for one in measured], right=True, drop=drop)

    first = measured[0]
    title = Text(f"{model} · {first.instruction_set} · {first.threads} threads", "italic")
    return Group(
        title,
        ColumnsTable(
            [
                Column("precision", [one.precision for one in measured], style="bold"),
                column("read per token", lambda one: f"{one.weight_bytes / 1e6:,.1f} MB", 4),
                column("bandwidth", lambda one: f"{one.bandwidth / 1e9:,.1f} GB/s", 3),
                column("limit", lambda one: f"{one.limit:,.0f}", 2),
                column("tokens/s", lambda one: f"{one.tokens_per_second:,.0f}"),
                column("of limit", lambda one: f"{one.of_limit:.0%}"),
                column("prompt tokens/s", lambda one: f"{one.prompt_tokens_per_second:,.0f}", 1),
            ]
        ),
    )
