"""The architecture of a model with the shapes of one forward pass: a figure, a terminal tree, an HTML table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.text import Text
from rich.tree import Tree

from pellucid import display
from pellucid.reference.architecture import Architecture, Part, Shape
from pellucid.views.figures import (
    ATTENTION,
    ATTENTION_FILL,
    EMBEDDING,
    EMBEDDING_FILL,
    FAINT,
    MLP,
    MLP_FILL,
    MUTED,
    PAPER,
    STREAM,
    STREAM_FILL,
    Page,
    Point,
)
from pellucid.views.tables import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 12.0, 11.9

# The column of the whole model, and the panel of one block beside it: left and right edges.
_LEFT, _RIGHT = 0.75, 4.15
_PANEL_LEFT, _PANEL_RIGHT = 4.95, 11.75
_TOP, _BOTTOM = 1.2, 11.25
_STREAM_X = 5.45  # the residual stream within the panel
_CARD_LEFT, _CARD_RIGHT = 6.25, 11.45
_INNER_LEFT, _INNER_WIDTH = 6.45, 4.8
_STREAM_LINE = 3.2


def architecture_figure(architecture: Architecture) -> Figure:
    """Draw a model (`pellucid.reference.architecture.read_architecture`): modules with the shapes and numbers of their
    parameters, and arrows with the shapes of the activations.

    Raises `MissingExtraError` without the `plot` extra.
    """
    page = Page(_WIDTH, _HEIGHT, "architecture_figure")
    drawing = _Drawing(page, architecture)
    drawing.title()
    drawing.model()
    drawing.block()
    drawing.legend()
    return page.figure


@dataclass(frozen=True)
class _Drawing:
    """Draws an architecture on a page."""

    page: Page
    whole: Architecture

    def title(self) -> None:
        batch, seq = self.whole["transformer.wte"].inputs[0]
        total = self.whole.parameter_count
        self.page.text((0.35, 0.42), f"GPT-2, {total:,} parameters", size=17, bold=True)
        sequences = "1 sequence" if batch == 1 else f"{batch:,} sequences"
        tokens = "1 token" if seq == 1 else f"{seq:,} tokens"
        self.page.text((0.35, 0.76), f"shapes of a pass over {sequences} of {tokens}", size=10.5, color=MUTED)

    # The whole model, top to bottom

    def model(self) -> None:
        page, wte, wpe = self.page, self.whole["transformer.wte"], self.whole["transformer.wpe"]
        ln_f, lm_head = self.whole["transformer.ln_f"], self.whole["lm_head"]
        centre, half = (_LEFT + _RIGHT) / 2, (_RIGHT - _LEFT) / 2 - 0.1
        starts = (_LEFT, _RIGHT - half)
        for x, name, part in zip(starts, ("input_ids", "position_ids"), (wte, wpe), strict=True):
            self._pill((x, _TOP), half, name, part.inputs[0])
            page.line([(x + half / 2, 1.6), (x + half / 2, 2.0)])
            self._module((x, 2.0), half, part, fill=EMBEDDING_FILL, edge=EMBEDDING)
        for x, part in zip(starts, (wte, wpe), strict=True):
            middle = x + half / 2
            near = 0.13 if middle < centre else -0.13
            page.line([(middle, 2.55), (middle, 3.2), (centre - near, 3.2)])
            self._shape((middle, 2.85), part.outputs[0], behind="white")
        self._stream([(centre, 3.2), (centre, 9.6)])
        page.plus((centre, 3.2))
        page.box((centre - 0.4, 3.55), 0.8, 0.32)
        page.text((centre, 3.71), "drop", size=9.5, mono=True, bold=True, align="center")
        self._shape((centre, 4.13), self.whole["transformer.drop"].outputs[0], behind="white")
        self._stack(4.55, 7.65)
        self._shape((centre, 8.0), self.whole.blocks[-1].outputs[0], behind="white")
        self._module((_LEFT, 8.35), _RIGHT - _LEFT, ln_f)
        self._shape((centre, 9.25), ln_f.outputs[0], behind="white")
        note = "tied to wte" if self.whole.tied else None
        self._module((_LEFT, 9.65), _RIGHT - _LEFT, lm_head, fill=EMBEDDING_FILL, edge=EMBEDDING, note=note)
        page.line([(centre, 10.2), (centre, 10.85)])
        self._pill((_LEFT, 10.85), _RIGHT - _LEFT, "logits", lm_head.outputs[0])
        if self.whole.tied:
            page.line([(_LEFT, 2.27), (0.42, 2.27), (0.42, 9.92), (_LEFT, 9.92)], color=EMBEDDING, dashed=True)
            page.text(
                (0.42, 6.1),
                "  tied: the same matrix  ",
                size=8.5,
                color=EMBEDDING,
                rotation=90,
                align="center",
                behind="white",
            )

    def _stack(self, top: float, bottom: float) -> None:
        """A stack of blocks, with the residual stream and the additions of attention and MLP."""
        page, blocks = self.page, self.whole.blocks
        for offset in range(min(len(blocks), 3) - 1, -1, -1):
            shift = 0.07 * offset
            page.box(
                (_LEFT + shift, top - shift),
                _RIGHT - _LEFT - 0.14,
                bottom - top,
                fill=PAPER,
                edge=MUTED if offset == 0 else FAINT,
                layer=3 - offset / 10,
            )
        stream, writer_left = (_LEFT + _RIGHT) / 2, (_LEFT + _RIGHT) / 2 + 0.42
        self._stream([(stream, top), (stream, bottom)], layer=3.5, arrow=False)
        for y, name, fill, edge in (
            (top + 0.95, "attn", ATTENTION_FILL, ATTENTION),
            (top + 2.0, "mlp", MLP_FILL, MLP),
        ):
            page.line(
                [(stream, y - 0.38), (writer_left + 0.4, y - 0.38), (writer_left + 0.4, y), (stream + 0.13, y)],
                color=edge,
                layer=3.6,
            )
            page.box((writer_left, y - 0.31), 0.8, 0.22, fill=fill, edge=edge, rounding=0.04, layer=4)
            page.text((writer_left + 0.4, y - 0.2), name, size=8.5, mono=True, bold=True, color=edge, align="center")
            page.plus((stream, y))
        left, room = _LEFT + 0.15, stream - _LEFT - 0.3
        first, last = blocks[0], blocks[-1]
        page.text((left, top + 0.3), first.kind, size=9.5, mono=True, bold=True, room=room)
        page.text((left, top + 0.85), f"× {len(blocks)}", size=22, bold=True, room=room)
        names = first.name.removeprefix("transformer.")
        if len(blocks) > 1:
            names += f" … {last.name.removeprefix('transformer.')}"
        page.text((left, top + 1.35), names, size=8.5, mono=True, room=room)
        page.text((left, top + 2.2), f"{_count(first.parameter_count)} each", size=8, color=MUTED, room=room)
        together = _count(sum(block.parameter_count for block in blocks))
        page.text((left, top + 2.45), f"{together} in all", size=8, color=MUTED, room=room)
        opened = [
            (_RIGHT - 0.14, top),
            (_PANEL_LEFT, _TOP + 0.1),
            (_PANEL_LEFT, _BOTTOM - 0.1),
            (_RIGHT - 0.14, bottom),
        ]
        page.area(opened, PAPER)
        for edge_points in (opened[:2], opened[2:]):
            page.line(edge_points, color=FAINT, width=0.8, arrow=False, layer=0.5)

    # One block, opened

    def block(self) -> None:
        page, block = self.page, self.whole.blocks[0]
        page.box(
            (_PANEL_LEFT, _TOP),
            _PANEL_RIGHT - _PANEL_LEFT,
            _BOTTOM - _TOP,
            fill=PAPER,
            edge=FAINT,
            rounding=0.1,
            layer=1,
        )
        self._stream([(_STREAM_X, _TOP - 0.28), (_STREAM_X, _BOTTOM + 0.3)])
        self._shape((_STREAM_X + 0.12, _TOP - 0.16), block.inputs[0], align="left")
        self._shape((_STREAM_X + 0.12, _BOTTOM + 0.18), block.outputs[0], align="left")
        page.text((_STREAM_X - 0.2, 4.3), "the residual stream", size=9, color=STREAM, rotation=90, align="center")
        name = block.name.removeprefix("transformer.")
        page.text((_CARD_RIGHT, 1.68), name, size=11, mono=True, bold=True, align="right")
        page.text((_CARD_RIGHT, 1.92), _count(block.parameter_count), size=8.5, color=MUTED, align="right")
        page.text((_CARD_RIGHT - 0.5, 1.68), block.kind, size=8.5, color=MUTED, align="right")
        self._attention(f"{block.name}.")
        self._mlp(f"{block.name}.")

    def _attention(self, block: str) -> None:
        page, attn = self.page, self.whole[f"{block}attn"]
        c_attn, c_proj = self.whole[f"{block}attn.c_attn"], self.whole[f"{block}attn.c_proj"]
        key, value, weights = attn.outputs[1:]
        query = (*weights[:3], key[-1])
        left, third, gap = _INNER_LEFT, (_INNER_WIDTH - 0.4) / 3, 0.2
        middles = [left + third / 2 + number * (third + gap) for number in range(3)]
        self._norm(self.whole[f"{block}ln_1"], 1.5, 2.4)
        self._panel(2.4, 6.84, attn, ATTENTION_FILL, ATTENTION)
        self._module((left, 2.85), _INNER_WIDTH, c_attn, edge=ATTENTION)
        for middle, name, shape in zip(middles, ("query", "key", "value"), (query, key, value), strict=True):
            page.line([(middle, 3.4), (middle, 3.85)], color=ATTENTION)
            page.card((middle - third / 2, 3.85), third, 0.5, [(name, ""), (_brackets(shape), "")], numbers=STREAM)
        self._shape((middles[0] + 0.1, 3.62), c_attn.outputs[0], align="left")
        page.text((middles[1] + 0.1, 3.62), "split in three, then in heads", size=8, color=MUTED)
        width = 2 * third + gap
        for middle in middles[:2]:
            page.line([(middle, 4.35), (middle, 4.6)], color=ATTENTION)
        scores = f"query · keyᵀ × {self.whole.attention_scale:.4g}"
        how = "causal mask, softmax, dropout"
        page.card((left, 4.6), width, 0.5, [("attention weights", scores), (_brackets(weights), how)], numbers=STREAM)
        gathered = (*weights[:3], value[-1])
        page.line([(left + width / 2, 5.1), (left + width / 2, 5.32)], color=ATTENTION)
        page.line([(middles[2], 4.35), (middles[2], 5.32)], color=ATTENTION)
        page.card((left, 5.32), _INNER_WIDTH, 0.5, [("weights · value", ""), (_brackets(gathered), "")], numbers=STREAM)
        page.line([(left + _INNER_WIDTH / 2, 5.82), (left + _INNER_WIDTH / 2, 6.14)], color=ATTENTION)
        self._shape((left + _INNER_WIDTH / 2 + 0.1, 5.97), c_proj.inputs[0], align="left")
        page.text((middles[0] - third / 2 + 0.1, 5.97), "heads side by side", size=8, color=MUTED)
        self._module((left, 6.14), _INNER_WIDTH, c_proj, edge=ATTENTION)
        self._join(6.84, 7.16, attn.outputs[0], "resid_dropout")

    def _mlp(self, block: str) -> None:
        page, mlp = self.page, self.whole[f"{block}mlp"]
        c_fc, act, c_proj = (self.whole[f"{block}mlp.{name}"] for name in ("c_fc", "act", "c_proj"))
        left, middle = _INNER_LEFT, _INNER_LEFT + _INNER_WIDTH / 2
        self._norm(self.whole[f"{block}ln_2"], 7.4, 8.27)
        self._panel(8.27, 10.68, mlp, MLP_FILL, MLP)
        self._module((left, 8.72), _INNER_WIDTH, c_fc, edge=MLP)
        page.line([(middle, 9.27), (middle, 9.52)], color=MLP)
        self._shape((middle + 0.1, 9.38), c_fc.outputs[0], align="left")
        page.card((left, 9.52), _INNER_WIDTH, 0.28, [("act", act.kind)])
        page.line([(middle, 9.8), (middle, 9.98)], color=MLP)
        self._module((left, 9.98), _INNER_WIDTH, c_proj, edge=MLP)
        self._join(10.68, 11.0, mlp.outputs[0], "dropout")

    def _norm(self, part: Part, top: float, card_top: float) -> None:
        """A layer norm that reads the residual stream, and the arrow from it to the card below."""
        middle = top + 0.275
        self.page.line([(_STREAM_X, middle), (_CARD_LEFT, middle)])
        self._module((_CARD_LEFT, top), 3.2, part)
        self.page.line([(_CARD_LEFT + 1.6, top + 0.55), (_CARD_LEFT + 1.6, card_top)])
        self._shape((_CARD_LEFT + 1.7, (top + 0.55 + card_top) / 2), part.outputs[0], align="left")

    def _panel(self, top: float, bottom: float, part: Part, fill: str, edge: str) -> None:
        page = self.page
        page.box((_CARD_LEFT, top), _CARD_RIGHT - _CARD_LEFT, bottom - top, fill=fill, edge=edge, layer=1.5)
        page.text((_INNER_LEFT, top + 0.23), part.name.rpartition(".")[2], size=11, mono=True, bold=True, color=edge)
        page.text((_INNER_LEFT + 0.65, top + 0.23), part.kind, size=8.5, color=MUTED)
        right = _INNER_LEFT + _INNER_WIDTH
        page.text((right, top + 0.23), _count(part.parameter_count), size=8.5, color=MUTED, align="right")

    def _join(self, bottom: float, y: float, shape: Shape, dropout: str) -> None:
        """The arrow from the bottom of a card back to the residual stream, with the addition."""
        middle = _INNER_LEFT + _INNER_WIDTH / 2
        self.page.line([(middle, bottom), (middle, y), (_STREAM_X + 0.13, y)])
        self.page.plus((_STREAM_X, y))
        self.page.text((middle + 0.1, (bottom + y) / 2), dropout, size=8, mono=True, color=MUTED)
        self._shape((_CARD_LEFT + 1.2, y), shape, behind=PAPER)

    def legend(self) -> None:
        y = _HEIGHT - 0.27
        self.page.text((0.35, y), "[weights] + [biases]", size=8.5, mono=True)
        self.page.text((2.2, y), "[activations]", size=8.5, mono=True, color=STREAM)

    # Pieces

    def _module(
        self,
        corner: Point,
        width: float,
        part: Part,
        *,
        fill: str = "white",
        edge: str = FAINT,
        note: str | None = None,
    ) -> None:
        name = part.name.rpartition(".")[2]
        lines = [(name, part.kind), (_weights(part), note or _count(part.parameter_count))]
        self.page.card(corner, width, 0.55, lines, fill=fill, edge=edge)

    def _pill(self, corner: Point, width: float, name: str, shape: Shape) -> None:
        x, y = corner
        self.page.box(corner, width, 0.4, fill=STREAM_FILL, edge=STREAM, rounding=0.2)
        end = self.page.text(
            (x + width - 0.14, y + 0.2),
            _brackets(shape),
            size=8.5,
            mono=True,
            color=STREAM,
            align="right",
            room=width * 0.6,
        )
        room = width - 0.36 - self.page.width_of(end)
        self.page.text((x + 0.14, y + 0.2), name, size=8.5, mono=True, bold=True, color=STREAM, room=room)

    def _shape(
        self, at: Point, shape: Shape, align: Literal["left", "center"] = "center", behind: str | None = None
    ) -> None:
        self.page.text(at, _brackets(shape), size=8.5, mono=True, color=STREAM, align=align, behind=behind)

    def _stream(self, points: list[Point], *, layer: float = 2, arrow: bool = True) -> None:
        self.page.line(points, color=STREAM, width=_STREAM_LINE, layer=layer, arrow=arrow)


def _brackets(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _count(parameters: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**4, "K")):
        if parameters >= unit:
            return f"{parameters / (1000 if letter == 'K' else unit):.2f}{letter}"
    return f"{parameters:,}"


@display.terminal.register(Architecture)
def architecture_tree(architecture: Architecture) -> Tree:
    """The module tree with weights, parameters and output shapes. Only the first of the equal blocks is shown."""
    branches: dict[str, Tree] = {}
    for name, part in _distinct_parts(architecture):
        label = Text.assemble(
            (name, "bold"),
            (f"  {part.kind}", "dim"),
            (f"  {_weights(part)}" if part.weights else ""),
            (f"  {_count(part.parameter_count)}" if part.parameter_count else "", "dim"),
            (f"  → {_brackets(part.outputs[0])}" if part.outputs else "", "cyan"),
        )
        parent = branches.get(part.name.rpartition(".")[0])
        branches[part.name] = parent.add(label) if part.name and parent is not None else Tree(label)
    return branches[""]


@display.html.register(Architecture)
def architecture_html(architecture: Architecture) -> str:
    titles = ("module", "kind", "weights", "parameters", "output")
    rows = []
    for name, part in _distinct_parts(architecture):
        indented = "\u2003" * part.depth + name
        output = _brackets(part.outputs[0]) if part.outputs else ""
        rows.append((indented, part.kind, _weights(part), f"{part.parameter_count:,}", output))
    return html_table(titles, rows)


def _distinct_parts(architecture: Architecture) -> list[tuple[str, Part]]:
    """Each part with its name. The first block represents all, named by their range of numbers."""
    first, *alike = architecture.blocks
    inside = tuple(f"{block.name}." for block in alike)
    named = []
    for part in architecture:
        if part in alike or part.name.startswith(inside):
            continue
        name = part.name.rpartition(".")[2] or "model"
        named.append((f"0 … {len(alike)}" if part is first and alike else name, part))
    return named


def _weights(part: Part) -> str:
    return " + ".join(_brackets(shape) for _, shape in part.weights)
