"""The parts of a report that are readable without its script: the text, the walk, the model, the decodes.

They show the last token. The script replaces the walk and the decodes when the reader chooses another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape

from pellucid.decoding.records.record import Record
from pellucid.lens.overview import Overview, Sample, in_block
from pellucid.reference.architecture import Architecture, Part
from pellucid.views.labels import running_text
from pellucid.views.panels.scales import number_text, probability_scale, share_text
from pellucid.views.records_html import record_html
from pellucid.views.tables import visible
from pellucid.views.walk_readings import layer_says, strongest_head

_BYTES = re.compile(r"\\x[89a-f][0-9a-f]")
# Texts with more tokens scroll within their box.
_SCROLLING = 200


def section(name: str, title: str, lead: str, body: str) -> str:
    """One part of the page, with its heading and introduction."""
    return f'<section id="{name}"><h2>{title}</h2><p class="lead">{lead}</p>{body}</section>'


# The text


def text_part(overview: Overview) -> str:
    """The tokens as running text, coloured by probability by default."""
    scale = probability_scale()
    pieces = []
    for position, row in enumerate(overview.score):
        shown = running_text(row.token, row.id)
        tint = "" if row.logprob is None else f' style="background:{scale.css(math.exp(row.logprob))}"'
        kind = "tok bytes" if row.token is not None and _BYTES.search(row.token) else "tok"
        mark = escape(shown).replace("↵\n", "<i>↵</i>\n") if row.token and "\n" in row.token else escape(shown)
        pieces.append(f'<span class="{kind}" data-p="{position}"{tint}>{mark}</span>')
    tall = " tall" if len(pieces) > _SCROLLING else ""
    legend = "".join(f'<span style="background:{scale.css(s)}">{share_text(s)}</span>' for s in scale.samples)
    return (
        '<div class="choices" id="text-colouring"></div>'
        f'<div class="text{tall}" id="text" aria-label="the tokens of the text">{"".join(pieces)}</div>'
        f'<div class="legend"><em id="text-words">how likely the model found each token, given those before it</em>'
        f'<b class="legend" id="text-legend" style="margin:0;font-weight:400">{legend}</b></div>'
        '<p class="told muted" id="text-told"></p>'
    )


# The walk


def walk_part(overview: Overview) -> str:
    """The last token's numbers in every block, and the first values of every activation."""
    last = len(overview.ids) - 1
    rows = [_walk_row(overview, layer) for layer in range(-1, overview.config.n_layer)]
    head = [
        ("layer", ""),
        *((title, "n") for title in ("stream", "attention adds", "MLP adds")),
        ("its strongest head attends most to", ""),
        ("the logit lens predicts", ""),
    ]
    predicted = [
        [
            (str(row.rank), "n"),
            (visible(row.token, row.id), "t"),
            (str(row.id), "n"),
            (share_text(row.probability), "n"),
        ]
        for row in overview.prediction
    ]
    titles = [("rank", "n"), ("token", ""), ("id", "n"), ("probability", "n")]
    steps = "".join(_values(title, samples) for title, samples in walk_steps(overview))
    first = overview.prediction[0]
    return (
        f'<div class="scroll" id="walk-blocks">{html_rows(head, rows)}</div>'
        f"<p>After the last layer norm and the unembedding, the {len(overview.prediction)} likeliest of "
        f"{overview.config.vocab_size:,} next tokens; greedy decoding takes "
        f'<b class="mono" id="walk-taken">{escape(visible(first.token, first.id))}</b>.</p>'
        f'<div class="scroll" id="walk-predicted">{html_rows(titles, predicted)}</div>'
        '<details class="values"><summary>every activation at position '
        f'<span id="walk-position">{last}</span>, in the order of the pass, with its first numbers</summary>'
        f'<div id="walk-values">{steps}</div></details>'
    )


def _walk_row(overview: Overview, layer: int) -> list[tuple[str, str]]:
    last = len(overview.ids) - 1
    said = layer_says(overview, layer)[:3]
    says = "  ".join(f"{visible(row.token, row.id)} {share_text(row.probability)}" for row in said)
    stream = number_text(float(overview.residual.stream[0 if layer < 0 else 2 * layer + 2, last]))
    if layer < 0:
        return [("embeddings", ""), (stream, "n"), ("", "n"), ("", "n"), ("", "t"), (says, "t")]
    head, key, weight = strongest_head(overview, layer)
    looks = f"H{head}  {key} {visible(overview.tokens[key], overview.ids[key])} {share_text(weight)}"
    adds = [number_text(float(of[layer, last])) for of in (overview.residual.attention, overview.residual.mlp)]
    return [(str(layer), ""), (stream, "n"), (adds[0], "n"), (adds[1], "n"), (looks, "t"), (says, "t")]


def walk_steps(overview: Overview) -> Iterator[tuple[str, list[tuple[str, Sample]]]]:
    """The samples in the order of the forward pass, grouped under the headings of the walk."""
    samples = overview.samples
    yield "embeddings", [(sample.name, sample) for sample in samples if sample.name in ("embed", "pos_embed")]
    for layer in range(overview.config.n_layer):
        yield f"block {layer}", list(in_block(samples, layer))
    yield "output", [(sample.name, sample) for sample in samples if sample.name in ("ln_final.normalized", "logits")]


def _values(title: str, samples: Sequence[tuple[str, Sample]]) -> str:
    rows = []
    for name, sample in samples:
        more = " …" if sample.row_length > len(sample.values) else ""
        values = "".join(f"{value:>9.3f}" for value in sample.values.tolist()) + more
        rows.append([(name, "t"), (_brackets(sample.shape), "t"), (number_text(sample.norm), "n"), (values, "t")])
    head = [("activation", ""), ("shape", ""), ("norm", "n"), ("first numbers", "")]
    opened = " open" if title == "embeddings" else ""
    return (
        f'<details class="values"{opened}><summary>{title}</summary><div class="scroll">{html_rows(head, rows)}</div>'
        "</details>"
    )


# The model


def model_part(overview: Overview, architecture: Architecture) -> str:
    """The model from ids to logits, with the shapes of this pass."""
    block = architecture.blocks[0].name
    length, config = len(overview.ids), overview.config
    heads = (1, config.n_head, length, config.head_dim)
    attn, mlp = f"{block}.attn", f"{block}.mlp"
    weights = (1, config.n_head, length, length)

    def stage(name: str, activation: str, what: str, *, plus: bool = False) -> str:
        return _stage(architecture[name], overview.sample(activation).shape, what, plus=plus)

    per_block = (
        stage(f"{block}.ln_1", "blocks.0.ln1.normalized", "layer norm")
        + _stage(
            architecture[f"{attn}.c_attn"], (1, length, 3 * config.n_embd), "queries, keys and values of all heads"
        )
        + _box("q, k, v", "split", "", heads)
        + _box("attention", f"softmax(q · kᵀ × {architecture.attention_scale:.4g}), causal", "", weights)
        + stage(
            f"{attn}.c_proj", "blocks.0.attn.out", "the heads' values, concatenated: added to the stream", plus=True
        )
        + stage(f"{block}.ln_2", "blocks.0.ln2.normalized", "layer norm")
        + stage(f"{mlp}.c_fc", "blocks.0.mlp.pre", "each position separately")
        + _box("act", architecture[f"{mlp}.act"].kind, "", overview.sample("blocks.0.mlp.post").shape)
        + stage(f"{mlp}.c_proj", "blocks.0.mlp.out", "added to the stream", plus=True)
    )
    tied = "; its weight is the token embedding's" if architecture.tied else ""
    count = len(architecture.blocks)
    millions = f"{architecture.blocks[0].parameter_count:,} parameters each"
    return (
        '<div class="model">'
        + _box("ids", f"the text's {length:,} tokens", "", (1, length))
        + stage("transformer.wte", "embed", "a row for each id")
        + stage("transformer.wpe", "pos_embed", "a row for each position: added", plus=True)
        + '<div class="blocks"><div class="stage"><div class="rail"></div>'
        + f'<div class="times">{count} × block <span class="muted small">{millions}</span></div></div>{per_block}</div>'
        + stage("transformer.ln_f", "ln_final.normalized", "the final layer norm")
        + stage("lm_head", "logits", f"to logits{tied}")
        + "</div>"
    )


def _stage(part: Part, shape: Sequence[int], what: str, *, plus: bool = False) -> str:
    """A module with the shapes of its weights and of its output."""
    weights = " + ".join(_brackets(own) for _, own in part.weights)
    return _box(part.name.rpartition(".")[2], what, weights, shape, plus=plus)


def _box(name: str, what: str, weights: str, shape: Sequence[int], *, plus: bool = False) -> str:
    mark = '<span class="plus">+</span>' if plus else ""
    return (
        f'<div class="stage"><div class="rail">{mark}</div><div class="box"><b>{escape(name)}</b> <span>{escape(what)}'
        f'</span> <span class="weights">{escape(weights)}</span><span class="shape">{_brackets(shape)}</span></div>'
        "</div>"
    )


def _brackets(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


# The decodes


def decodes_html(greedy: Record, beams: Record) -> str:
    """Two decodes of one prefix: greedy with its steps, beam search with its tree."""
    return (
        f'<h3>Greedy</h3><div class="scroll">{record_html(greedy)}</div>'
        f'<h3 style="margin-top:20px">Beam search</h3><div class="scroll">{record_html(beams)}</div>'
    )


def html_rows(titles: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A table of (text, kind) cells. A kind is a CSS class: n for a number, t for a token."""
    head = "".join(f'<th scope="col" class="{kind}">{escape(title)}</th>' for title, kind in titles)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
