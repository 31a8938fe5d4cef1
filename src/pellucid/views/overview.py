"""The walk through the model in a terminal: a text's way from ids to the next token, in the numbers of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from pellucid import display
from pellucid.errors import OptionError
from pellucid.lens.overview import Overview, Sample, in_block
from pellucid.views.columns import Column, ColumnsTable, Remainder
from pellucid.views.labels import fitted
from pellucid.views.panels.scales import number_text, share_text
from pellucid.views.tables import visible
from pellucid.views.walk_parts import heading, indented, model_title, next_token_bars, token_cells
from pellucid.views.walk_readings import layer_says, looked_at_most, strongest_head

if TYPE_CHECKING:
    from pellucid.engine import FloatArray

# Texts of more tokens are shown by their last ones.
_SHOWN_TOKENS = 200
# After the likeliest token, those of lower probability are left out.
_WORTH_SAYING = 0.001
# What a line of a terminal has room for beside the numbers.
_LOOKS_WIDTH, _NUMBER_WIDTH = 22, 9
# Positions that a head of one block looks at.
_MOST_LOOKS = 5


@display.terminal.register(Overview)
def overview_view(overview: Overview) -> Group:
    """The whole walk: tokens, embeddings, what every block adds, the final logits, the next token."""
    first = overview.prediction[0]
    parts = [
        *_opening(overview),
        heading("2  embeddings", f"a vector for the id and one for the place, added; at {_last(overview)}"),
        indented(_samples([(name, overview.sample(name)) for name in ("embed", "pos_embed", "blocks.0.resid_pre")])),
        Text(),
        heading(
            f"3  {overview.config.n_layer} blocks",
            "norm of the residual stream after each block, norms of what its attention and its MLP add, "
            "and the prediction of the logit lens",
        ),
        indented(_blocks(overview)),
        Text(),
        heading("4  logits", f"the last layer norm, then a number for each of {overview.config.vocab_size:,} tokens"),
        indented(_samples([(name, overview.sample(name)) for name in ("ln_final.normalized", "logits")])),
        Text(),
        heading("5  next token", f"softmax makes them probabilities; a greedy decode takes {_piece(first)}"),
        indented(next_token_bars(overview.prediction.rows)),
    ]
    return Group(*parts)


def block_view(overview: Overview, layer: int) -> Group:
    """One block in detail: every activation, every head, and what the model would say after it.

    Raises `OptionError` for a layer that is not there.
    """
    count = overview.config.n_layer
    if not 0 <= layer < count:
        raise OptionError(f"layer is {layer}, but the model's are numbered 0 to {count - 1}")
    parts = [
        *_opening(overview),
        heading(f"2  block {layer} of 0 to {count - 1}", f"every activation in order, at {_last(overview)}"),
        indented(_samples(list(in_block(overview.samples, layer)))),
        Text(),
        heading("3  its heads", "how much each writes to the stream, and where it looks"),
        indented(_heads(overview, layer)),
        Text(),
        heading("4  logit lens", "what the model would say next if it stopped here"),
        indented(next_token_bars(layer_says(overview, layer))),
    ]
    return Group(*parts)


def _opening(overview: Overview) -> list[Any]:
    ids, tokens = overview.ids[-_SHOWN_TOKENS:], overview.tokens[-_SHOWN_TOKENS:]
    cut = "" if len(ids) == len(overview.ids) else f"; the last {len(ids)} of them"
    return [
        Text(),
        model_title(overview.model, overview.config, overview.precision),
        Text(),
        heading("1  tokens", f"{len(overview.ids):,}, each with its id{cut}"),
        indented(token_cells(tokens, ids)),
        Text(),
    ]


def _last(overview: Overview) -> str:
    return f"{len(overview.ids) - 1} {visible(overview.tokens[-1], overview.ids[-1])}"


def _piece(row: Any) -> str:
    return visible(row.token, row.id)


def _samples(samples: Sequence[tuple[str, Sample]]) -> ColumnsTable:
    """Activations with their shapes, their norms, and as many of their first numbers as fit."""
    columns = [
        Column("", [name for name, _ in samples], style="bold"),
        Column("shape", [f"[{', '.join(map(str, sample.shape))}]" for _, sample in samples], style="cyan", drop=1),
        Column("norm", [number_text(sample.norm) for _, sample in samples], right=True),
    ]

    def numbers(room: int) -> list[Text]:
        count = max(1, (room - 2) // _NUMBER_WIDTH)
        texts = []
        for _, sample in samples:
            shown = "".join(f"{value:{_NUMBER_WIDTH}.3f}" for value in sample.values[:count].tolist())
            more = " …" if sample.row_length > min(count, len(sample.values)) else ""
            texts.append(Text(shown + more, "dim"))
        return texts

    width = len(samples[0][1].values) * _NUMBER_WIDTH + 2
    return ColumnsTable(columns, Remainder("first numbers", numbers, _NUMBER_WIDTH + 2, width, drop=2), ruled=False)


def _blocks(overview: Overview) -> ColumnsTable:
    residual, last, layers = overview.residual, len(overview.ids) - 1, range(overview.config.n_layer)

    def norms(of: FloatArray) -> list[str]:
        return ["", *(number_text(float(of[layer, last])) for layer in layers)]

    stream = [number_text(float(residual.stream[2 * layer, last])) for layer in range(len(layers) + 1)]
    looked = [_looks(overview, *strongest_head(overview, layer), _LOOKS_WIDTH) for layer in layers]
    columns = [
        Column("layer", ["input", *map(str, layers)], style="bold"),
        Column("stream", stream, right=True),
        Column("attention", norms(residual.attention), right=True, style="magenta", drop=2),
        Column("MLP", norms(residual.mlp), right=True, style="magenta", drop=2),
        Column("a head looks at", ["", *looked], drop=1),
    ]

    def says(room: int) -> list[Text]:
        return [_says(overview, layer, room) for layer in (-1, *layers)]

    return ColumnsTable(columns, Remainder("would say next", says, least=18, most=80), ruled=False)


def _looks(overview: Overview, head: int | None, key: int, weight: float, room: int) -> Text:
    """Where a head looks: the place, its token, how much."""
    start = f"{key} " if head is None else f"H{head} {key} "
    share = share_text(weight)
    piece = fitted(visible(overview.tokens[key], overview.ids[key]), room - len(start) - len(share) - 1).rstrip()
    return Text.assemble((start, "dim"), (piece, ""), (f" {share}", "cyan"))


def _says(overview: Overview, layer: int, room: int) -> Text:
    """The likeliest next tokens after a layer, as many as fit."""
    text, used = Text(), 0
    for row in layer_says(overview, layer):
        share = share_text(row.probability)
        piece = visible(row.token, row.id)
        needed = cell_len(piece) + len(share) + (3 if used else 1)
        if used and (used + needed > room or row.probability < _WORTH_SAYING):
            break
        piece = fitted(piece, room - len(share) - 1).rstrip() if needed > room else piece
        text.append("  " if used else "")
        text.append(piece, "" if used else "bold")
        text.append(f" {share}", "cyan" if not used else "dim")
        used += needed
    return text


def _heads(overview: Overview, layer: int) -> ColumnsTable:
    heads = range(overview.config.n_head)
    columns = [
        Column("head", list(map(str, heads)), style="bold"),
        Column(
            "writes",
            [number_text(float(overview.heads.norms[layer, head, -1])) for head in heads],
            right=True,
            style="magenta",
        ),
    ]

    def looks(room: int) -> list[Text]:
        shown = max(1, min(_MOST_LOOKS, (room + 2) // _LOOKS_WIDTH))
        return [
            Text("  ").join(
                _looks(overview, None, key, weight, _LOOKS_WIDTH - 2)
                for key, weight in looked_at_most(overview, layer, head, shown)
            )
            for head in heads
        ]

    most = _MOST_LOOKS * _LOOKS_WIDTH - 2
    return ColumnsTable(columns, Remainder("looks at most", looks, least=_LOOKS_WIDTH - 2, most=most), ruled=False)
