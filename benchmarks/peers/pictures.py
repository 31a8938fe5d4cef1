"""Plot of the results: one panel per case, one group of bars per width, one colour per runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peers.catalogue import CASES, PEERS, Case
from peers.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = dict(zip((peer.name for peer in PEERS), ("#2f6690", "#b9c2cc", "#c99b5f", "#b4552d", "#7fa68c"), strict=True))
INK, MUTED = "#1f2933", "#6b7683"


def draw(results: Results, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = [case for case in CASES if any(results.speed(one, case.name) for one in results.contestants)]
    if not cases:
        return
    columns = min(3, len(cases) + 1)
    rows = -(-(len(cases) + 1) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows + 0.5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for case, panel in zip(cases, axes, strict=False):
        _panel(panel, case, results)
    for panel in axes[len(cases) :]:
        panel.axis("off")
    _legend(axes[len(cases)], results)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
    figure.suptitle(
        f"GPT-2, 124M shape, tokens per second · {results.machine}, {results.threads} threads, {results.date}",
        fontsize=11,
        color=INK,
        x=0.01,
        horizontalalignment="left",
    )
    figure.savefig(path)


def _panel(panel: Axes, case: Case, results: Results) -> None:
    bars = [(one, speed) for one in results.contestants if (speed := results.speed(one, case.name))]
    position, ticks, width = 0.0, [], None
    for one, speed in bars:
        if one.width != width:
            position, width = position + (0.7 if width else 0), one.width
            members = sum(other.width == width for other, _ in bars)
            ticks.append((position + (members - 1) / 2, width))
            limit = results.limit(width) if case.name == "alone" else None
            if limit:
                panel.hlines(
                    limit, position - 0.5, position + members - 0.5, colors=INK, linestyles=(0, (3, 2)), lw=1.2
                )
        panel.bar(position, speed, 0.9, color=COLOURS[one.peer.name])
        # White background: the line of the bandwidth limit may cross the label.
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        above = {"xytext": (0, 3), "textcoords": "offset points", "horizontalalignment": "center", "bbox": behind}
        panel.annotate(f"{speed:,.0f}", (position, speed), fontsize=7, color=INK, **above)
        position += 1
    panel.set_title(case.title, fontsize=10, color=INK, loc="left")
    panel.set_xticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=8.5)
    panel.tick_params(axis="both", length=0, labelcolor=MUTED, labelsize=8.5)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.yaxis.grid(True, color="#e6e9ed", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.margins(y=0.12)


def _legend(panel: Axes, results: Results) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    present = {one.peer.name for one in results.contestants}
    handles: list[Patch | Line2D] = [
        Patch(color=COLOURS[peer.name], label=peer.name) for peer in PEERS if peer.name in present
    ]
    handles.append(Line2D([], [], color=INK, linestyle=(0, (3, 2)), linewidth=1.2, label="memory bandwidth limit"))
    panel.legend(handles=handles, loc="upper left", frameon=False, fontsize=9.5, labelcolor=INK)
