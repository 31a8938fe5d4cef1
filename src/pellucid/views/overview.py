"""The walk through the model in a terminal: one forward pass in numbers, from ids to the next token."""

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

# The number of tokens shown; of longer texts, the last ones.
_SHOWN_TOKENS = 200
# Below this probability, only the likeliest token is shown.
_LEAST_SHOWN = 0.001
# Columns of a terminal: one attended position, one number.
_ATTENDED_WIDTH, _NUMBER_WIDTH = 22, 9
# The most attended positions shown for a head.
_MOST_ATTENDED = 5


@display.terminal.register(Overview)
def overview_view(overview: Overview) -> Group:
    """The whole walk: tokens, embeddings, the contribution of every block, the final logits, the next token."""
    first = overview.prediction[0]
    parts = [
        *_opening(overview),
        heading("2  embeddings", f"the token's vector plus the position's vector; at {_last(overview)}"),
        indented(_samples([(name, overview.sample(name)) for name in ("embed", "pos_embed", "blocks.0.resid_pre")])),
        Text(),
        heading(
            f"3  {overview.config.n_layer} blocks",
            "norm of the residual stream after each block, norms of what its attention and its MLP add, "
            "and the prediction of the logit lens",
        ),
        indented(_blocks(overview)),
        Text(),
        heading("4  logits", f"the final layer norm, then a number for each of {overview.config.vocab_size:,} tokens"),
        indented(_samples([(name, overview.sample(name)) for name in ("ln_final.normalized", "logits")])),
        Text(),
        heading("5  next token", f"the softmax of the logits; greedy decoding takes {_piece(first)}"),
        indented(next_token_bars(overview.prediction.rows)),
    ]
    return Group(*parts)


def block_view(overview: Overview, layer: int) -> Group:
    """One block in detail: every activation, every head, and the logit lens after it.

    Raises `OptionError` if the model has no such layer.
    """
    count = overview.config.n_layer
    if not 0 <= layer < count:
        raise OptionError(f"layer is {layer}, but the model's are numbered 0 to {count - 1}")
    parts = [
        *_opening(overview),
        heading(f"2  block {layer} of 0 to {count - 1}", f"every activation in order, at {_last(overview)}"),
        indented(_samples(list(in_block(overview.samples, layer)))),
        Text(),
        heading("3  heads", "norm of what each adds to the residual stream, and its attention"),
        indented(_heads(overview, layer)),
        Text(),
        heading("4  logit lens", "the next token that the model would predict after this block"),
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
    """Activations with their shapes, norms, and as many of their first numbers as fit."""
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
    attended = [_attended(overview, *strongest_head(overview, layer), _ATTENDED_WIDTH) for layer in layers]
    columns = [
        Column("layer", ["input", *map(str, layers)], style="bold"),
        Column("stream", stream, right=True),
        Column("attention", norms(residual.attention), right=True, style="magenta", drop=2),
        Column("MLP", norms(residual.mlp), right=True, style="magenta", drop=2),
        Column("a head attends to", ["", *attended], drop=1),
    ]

    def predictions(room: int) -> list[Text]:
        return [_predicted(overview, layer, room) for layer in (-1, *layers)]

    return ColumnsTable(columns, Remainder("logit lens", predictions, least=18, most=80), ruled=False)


def _attended(overview: Overview, head: int | None, key: int, weight: float, room: int) -> Text:
    """A position that a head attends to, with its token and the attention weight."""
    start = f"{key} " if head is None else f"H{head} {key} "
    share = share_text(weight)
    piece = fitted(visible(overview.tokens[key], overview.ids[key]), room - len(start) - len(share) - 1).rstrip()
    return Text.assemble((start, "dim"), (piece, ""), (f" {share}", "cyan"))


def _predicted(overview: Overview, layer: int, room: int) -> Text:
    """The logit lens after a layer: as many of the likeliest next tokens as fit."""
    text, used = Text(), 0
    for row in layer_says(overview, layer):
        share = share_text(row.probability)
        piece = visible(row.token, row.id)
        needed = cell_len(piece) + len(share) + (3 if used else 1)
        if used and (used + needed > room or row.probability < _LEAST_SHOWN):
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
            "norm",
            [number_text(float(overview.heads.norms[layer, head, -1])) for head in heads],
            right=True,
            style="magenta",
        ),
    ]

    def attended(room: int) -> list[Text]:
        shown = max(1, min(_MOST_ATTENDED, (room + 2) // _ATTENDED_WIDTH))
        return [
            Text("  ").join(
                _attended(overview, None, key, weight, _ATTENDED_WIDTH - 2)
                for key, weight in looked_at_most(overview, layer, head, shown)
            )
            for head in heads
        ]

    most = _MOST_ATTENDED * _ATTENDED_WIDTH - 2
    return ColumnsTable(
        columns, Remainder("attends most to", attended, least=_ATTENDED_WIDTH - 2, most=most), ruled=False
    )
