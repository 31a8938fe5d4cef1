"""The logit lens as a table: what each layer would say at each position of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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
    from rich.console import Group

# What cells are coloured by: the probability of the token in them, the layer's entropy, or the probability or the
# rank of the token that is followed.
LensColour = Literal["probability", "entropy", "rank", "target"]

# In longer texts a cell tells its likeliest token only, else the page would be large.
_TELLS_ALL = 200


def logit_lens_picture(lens: LogitLens, by: LensColour = "probability") -> Picture:
    """A row for each layer, a column for each position; in each cell the likeliest token. by: what colours it."""
    values, scale, meaning = _coloured(lens, by)
    rows, columns = lens.entropy.shape
    texts = [[_piece(lens, int(lens.top_ids[row, column, 0])) for column in range(columns)] for row in range(rows)]
    tokens = token_labels(lens.tokens, lens.ids)

    def told(row: int, column: int) -> str:
        return _told(lens, row, column, f"{column} {tokens[column]}", brief=columns > _TELLS_ALL)

    grid = Grid("", "layer", "position", lens.layers, tokens, values, scale, texts, told, numbered="columns")
    notes = ["in each cell the token that the layer finds likeliest to come next", f"coloured by {meaning}"]
    return Picture(f"logit lens, {rows} layers × {columns} positions", [grid], notes)


def _coloured(lens: LogitLens, by: LensColour) -> tuple[Any, Scale, str]:
    if by == "probability":
        return lens.top_probabilities[:, :, 0], share_scale("probability", BLUE), "its probability"
    if by == "entropy":
        return lens.entropy, entropy_scale(), "the entropy of what the layer says, in nats"
    followed = _followed(lens)
    if by == "rank":
        return lens.target_ranks, rank_scale(), f"the rank of {followed}"
    return lens.target_probabilities, share_scale("probability", BLUE), f"the probability of {followed}"


def _followed(lens: LogitLens) -> str:
    ids = set(lens.target_ids.tolist())
    return _piece(lens, ids.pop()) if len(ids) == 1 else "the token that the model predicts in the end"


def _piece(lens: LogitLens, token: int) -> str:
    return visible(lens.pieces.get(token), token)


def _told(lens: LogitLens, row: int, column: int, position: str, *, brief: bool) -> str:
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
def logit_lens_view(lens: LogitLens, by: LensColour = "probability") -> Group:
    return picture_view(logit_lens_picture(lens, by))


@display.html.register(LogitLens)
def logit_lens_html(lens: LogitLens, by: LensColour = "probability") -> str:
    return picture_html(logit_lens_picture(lens, by))


def logit_lens_figure(lens: LogitLens, by: LensColour = "probability") -> Figure:
    """Draw the table. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(logit_lens_picture(lens, by), "logit_lens_figure")
