"""The logit lens as a grid: the prediction of each layer at each position of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group

from pellucid import display
from pellucid.lens.results import LogitLens
from pellucid.views.labels import token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Grid, Picture
from pellucid.views.panels.scales import BLUE, Scale, entropy_scale, rank_scale, share_scale, share_text
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The value that colours a cell: the probability of its likeliest token, the entropy of its prediction, or the rank or
# the probability of the target. For the first two the cell shows its likeliest token, for the last two the number.
LensColour = Literal["probability", "entropy", "rank", "target"]

# In longer texts a cell's tooltip has the likeliest token only, which limits the size of the HTML.
_DETAILED = 200


def logit_lens_picture(lens: LogitLens, by: LensColour | None = None) -> Picture:
    """A row for each layer, a column for each position. by: what cells show and are coloured by; default: the rank of
    the target if the lens was made for a token, else the probability of each cell's likeliest token."""
    by = by or ("rank" if _has_chosen_target(lens) else "probability")
    values, scale, meaning = _coloured(lens, by)
    rows, columns = lens.entropy.shape
    shows_target = by in ("rank", "target")
    texts = [
        [
            scale.text(float(values[row, column])) if shows_target else _piece(lens, int(lens.top_ids[row, column, 0]))
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    tokens = token_labels(lens.tokens, lens.ids)

    def tooltip(row: int, column: int) -> str:
        return _tooltip(lens, row, column, f"{column} {tokens[column]}", brief=columns > _DETAILED)

    grid = Grid("", "layer", "position", lens.layers, tokens, values, scale, texts, tooltip, numbered="columns")
    cells = "that number" if shows_target else "the layer's likeliest next token"
    notes = [f"coloured by {meaning}; in each cell {cells}"]
    return Picture(f"logit lens, {rows} layers × {columns} positions", [grid], notes)


def _coloured(lens: LogitLens, by: LensColour) -> tuple[Any, Scale, str]:
    if by == "probability":
        return lens.top_probabilities[:, :, 0], share_scale("probability", BLUE), "its probability"
    if by == "entropy":
        return lens.entropy, entropy_scale(), "the entropy of the layer's prediction, in nats"
    target = _target_name(lens)
    if by == "rank":
        return lens.target_ranks, rank_scale(), f"the rank of {target}"
    return lens.target_probabilities, share_scale("probability", BLUE), f"the probability of {target}"


def _has_chosen_target(lens: LogitLens) -> bool:
    """Whether the lens was made for a chosen token rather than the model's own predictions."""
    return bool((lens.target_ids != lens.top_ids[-1, :, 0]).any())


def _target_name(lens: LogitLens) -> str:
    ids = set(lens.target_ids.tolist())
    return _piece(lens, ids.pop()) if len(ids) == 1 else "the model's final prediction at the position"


def _piece(lens: LogitLens, token: int) -> str:
    return visible(lens.pieces.get(token), token)


def _tooltip(lens: LogitLens, row: int, column: int, position: str, *, brief: bool) -> str:
    layer = lens.layers[row]
    count = 1 if brief else lens.top_ids.shape[2]
    ids, chances = lens.top_ids[row, column, :count].tolist(), lens.top_probabilities[row, column, :count].tolist()
    lines = [f"{'embed' if layer == 'embed' else f'layer {layer}'}, position {position}"]
    lines += [f"{_piece(lens, token)} {share_text(chance)}" for token, chance in zip(ids, chances, strict=True)]
    if not brief:
        lines.append(f"entropy {lens.entropy[row, column]:.2f} nats")
    target = _piece(lens, int(lens.target_ids[column]))
    chance = share_text(float(lens.target_probabilities[row, column]))
    lines.append(f"{target}: rank {int(lens.target_ranks[row, column]):,}, {chance}")
    return "\n".join(lines)


@display.terminal.register(LogitLens)
def logit_lens_view(lens: LogitLens, by: LensColour | None = None) -> Group:
    return picture_view(logit_lens_picture(lens, by))


@display.html.register(LogitLens)
def logit_lens_html(lens: LogitLens, by: LensColour | None = None) -> str:
    return picture_html(logit_lens_picture(lens, by))


def logit_lens_figure(lens: LogitLens, by: LensColour | None = None) -> Figure:
    """Draw the grid. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(logit_lens_picture(lens, by), "logit_lens_figure")
