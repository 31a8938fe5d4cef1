"""Traces in a terminal: a table of the activations' names and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pellucid import display
from pellucid.lens.generation_trace import GenerationTrace
from pellucid.lens.names import layer_of, tail_of
from pellucid.lens.trace import Trace


@display.terminal.register(Trace)
def trace_view(trace: Trace) -> Group:
    """A line about the trace, then the activations with their shapes."""
    return Group(Text(repr(trace), "bold"), _shapes(trace))


@display.terminal.register(GenerationTrace)
def generation_trace_view(trace: GenerationTrace) -> Group:
    """A line about the trace, then the activations of the last step with their shapes."""
    return Group(Text(repr(trace), "bold"), Text("activations of the last step", "dim"), _shapes(trace.steps[-1]))


def _shapes(trace: Trace) -> Table:
    """Names and shapes. The same activation of several blocks takes one row."""
    layers: dict[tuple[str, tuple[int, ...]], list[int | None]] = {}
    for name in trace:
        layers.setdefault((tail_of(name), trace[name].shape), []).append(layer_of(name))
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(style="cyan", overflow="fold")
    for (tail, shape), found in layers.items():
        numbers = [layer for layer in found if layer is not None]
        table.add_row(f"  blocks.{_ranges(numbers)}.{tail}" if numbers else f"  {tail}", str(list(shape)))
    return table


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs abbreviated: "0..3,7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
