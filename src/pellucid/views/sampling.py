"""One distribution after different temperatures, top-k and top-p, as a table for terminals and HTML.

`distribution` draws the same as a figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pellucid import display
from pellucid.decoding.shaping import ShapedComparison, ShapedDistribution
from pellucid.views.labels import token_labels
from pellucid.views.panels.html import view_html
from pellucid.views.panels.scales import BLUE, probability_scale, share_text
from pellucid.views.tables import visible

_LONGEST_PROMPT = 60


def comparison_heading(comparison: ShapedComparison) -> str:
    if comparison.prompt is None:
        return "The next token"
    line = visible(comparison.prompt, 0)[1:-1]
    line = line if len(line) <= _LONGEST_PROMPT else "…" + line[1 - _LONGEST_PROMPT :]
    return f"The token after “{line}”"


def processor_names(shaped: ShapedDistribution) -> str:
    return ", ".join(processor.label.replace("_", "-") for processor in shaped.processors)


def kept_text(shaped: ShapedDistribution) -> str:
    """How many ids have a positive probability, as text."""
    count = len(shaped.probabilities)
    return "all" if shaped.kept == count else f"{shaped.kept:,} of {count:,}"


@display.terminal.register(ShapedComparison)
def comparison_view(comparison: ShapedComparison) -> Group:
    """A row for each token and a column for each list of processors, coloured by probability."""
    scale = probability_scale()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("token", no_wrap=True, max_width=20)
    for title, _ in _columns(comparison):
        table.add_column(_brief(title), justify="right", vertical="bottom", no_wrap=True)
    for label, chances in _rows(comparison):
        cells = [Text(_cell(chance), scale.style(chance) if chance > 0 else "dim", no_wrap=True) for chance in chances]
        table.add_row(Text(label, "bold"), *cells)
    others = [_cell(chance) for chance in _others(comparison)]
    table.add_row(Text("all others", "dim"), *(Text(cell, "dim") for cell in others))
    kept = (f"{shaped.kept:,}" for _, shaped in _columns(comparison))
    table.add_row(Text("can be drawn", "dim"), *(Text(cell, "dim") for cell in kept))
    legend = Text("T: temperature, k: top-k, p: top-p; a dot is a token that cannot be drawn", "dim")
    return Group(Text(comparison_heading(comparison), "bold"), legend, table)


@display.html.register(ShapedComparison)
def comparison_html(comparison: ShapedComparison) -> str:
    """The same table in HTML. Cells have bars, scaled to the largest probability of their column."""
    columns = _columns(comparison)
    head = '<th class="left">token</th>' + "".join(
        f'<th style="min-width:7em;vertical-align:bottom">{escape(title).replace(", ", ",<br>")}</th>'
        for title, _ in columns
    )
    largest = [float(shaped.probabilities.max()) or 1.0 for _, shaped in columns]
    red, green, blue = BLUE
    lines = []
    for label, chances in _rows(comparison):
        cells = []
        for chance, most in zip(chances, largest, strict=True):
            share = 100 * chance / most
            bar = f"linear-gradient(to left,rgba({red},{green},{blue},.45) {share:.1f}%,transparent {share:.1f}%)"
            faint = "" if chance > 0 else ' class="faint"'
            cells.append(f'<td{faint} style="background:{bar}">{escape(_cell(chance))}</td>')
        lines.append(f'<tr><td class="left">{escape(label)}</td>{"".join(cells)}</tr>')
    for name, values in (
        ("all others", [_cell(chance) for chance in _others(comparison)]),
        ("can be drawn", [kept_text(shaped) for _, shaped in columns]),
    ):
        row = "".join(f'<td class="faint">{escape(value)}</td>' for value in values)
        lines.append(f'<tr><td class="left faint">{name}</td>{row}</tr>')
    return view_html(
        f'<div class="title">{escape(comparison_heading(comparison))}</div>'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _brief(title: str) -> str:
    """A narrow column title: a line for each processor, its name abbreviated."""
    for name, letter in (("temperature", "T"), ("top-k", "k"), ("top-p", "p"), (", ", "\n")):
        title = title.replace(name, letter)
    return title


def _columns(comparison: ShapedComparison) -> list[tuple[str, ShapedDistribution]]:
    return [("model", comparison.own), *((processor_names(shaped), shaped) for shaped in comparison.shaped)]


def _rows(comparison: ShapedComparison) -> Iterator[tuple[str, list[float]]]:
    """Each token with its probability in each column."""
    labels = token_labels(comparison.tokens, comparison.ids)
    for label, token in zip(labels, comparison.ids, strict=True):
        yield label, [float(shaped.probabilities[token]) for _, shaped in _columns(comparison)]


def _others(comparison: ShapedComparison) -> list[float]:
    """The total probability of the tokens that are not shown, in each column."""
    ids = list(comparison.ids)
    shown = [float(shaped.probabilities[ids].sum(dtype="float64")) for _, shaped in _columns(comparison)]
    return [
        max(0.0, 1 - sum_) if shaped.kept > int((shaped.probabilities[ids] > 0).sum()) else 0.0
        for sum_, (_, shaped) in zip(shown, _columns(comparison), strict=True)
    ]


def _cell(chance: float) -> str:
    return share_text(chance) if chance > 0 else "·"
