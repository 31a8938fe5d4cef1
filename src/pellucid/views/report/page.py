"""The report of a text as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from pellucid.decoding.records.record import Record
from pellucid.lens.overview import Overview
from pellucid.reference.architecture import Architecture
from pellucid.views.labels import shortened
from pellucid.views.record_text import written_out
from pellucid.views.report.data import LARGEST_LOGITS, STRONGEST_ENTRIES, attention_bits, contents_json, is_whole
from pellucid.views.report.parts import decodes_html, model_part, section, text_part, walk_part

# Concatenated in this order: later scripts call earlier ones.
_SCRIPTS = (
    "data.js",
    "page.js",
    "tokens.js",
    "heads.js",
    "attention.js",
    "lens.js",
    "attribution.js",
    "norms.js",
    "next_token.js",
    "walk.js",
    "decodes.js",
    "start.js",
)

# The content security policy forbids all requests.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

_PARTS = (
    ("tokens", "Text"),
    ("walk", "Step by step"),
    ("model", "Model"),
    ("attention", "Attention"),
    ("lens", "Lens"),
    ("attribution", "Attribution"),
    ("norms", "Norms"),
    ("heads", "Heads"),
    ("next", "Next token"),
    ("decodes", "Decoding on"),
)


def report_html(
    overview: Overview, architecture: Architecture, *, greedy: Sequence[Record], beams: Sequence[Record]
) -> str:
    """The page as one string. It opens from disk, has a light and a dark theme, and makes no network request.

    overview: the results of the instruments. architecture: of the same model, from
    `pellucid.reference.architecture.read_architecture(model)` with any shape. greedy, beams: records of decodes that
    continue the last prefixes of the text, shortest prefix first; the last ones continue the whole text.

    Attention patterns are complete for texts of up to 200 tokens. For longer texts each row has its 16 largest weights.
    The page states this, and the precision of the weights. The sliders of the next token use all logits at the last
    position; at the others, logits beyond the 256 largest are interpolated.
    """
    decodes = [decodes_html(*records) for records in zip(greedy, beams, strict=True)]
    sections = "".join(
        (
            section("tokens", "The text", _TEXT_LEAD, text_part(overview)),
            section("walk", "Step by step", _WALK_LEAD, walk_part(overview)),
            section("model", "The model", _MODEL_LEAD, model_part(overview, architecture)),
            section("attention", "Attention", _ATTENTION_LEAD, _attention_note(overview) + _ATTENTION),
            section("lens", "The logit lens", _LENS_LEAD, _LENS),
            section("attribution", "Direct logit attribution", _ATTRIBUTION_LEAD, _ATTRIBUTION),
            section("norms", "Norms", _NORMS_LEAD, _NORMS),
            section("heads", "Known kinds of heads", _HEADS_LEAD, _HEADS),
            section("next", "The next token", _next_lead(overview), _NEXT),
            section("decodes", "Decoding on", _DECODES_LEAD, f'<div id="decodes-shown">{decodes[-1]}</div>'),
        )
    )
    started = written_out(shortened(overview.text or "", 60))
    return (
        '<!DOCTYPE html>\n<html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(started)} · {escape(overview.model)} · Pellucid</title>"
        f"<style>{_asset('report.css')}</style></head><body>"
        f"{_header(overview)}{_bar()}<main>"
        '<noscript><p class="notice">Scripts are off. The text, the walk of its last token, the model and the decodes '
        "are shown; attention, lens, attribution and the sliders need the script in this file.</p></noscript>"
        f'<p class="notice" id="failed" hidden></p>{sections}</main><div id="tip" aria-hidden="true"></div>'
        f'<script type="application/json" id="contents">{contents_json(overview, decodes)}</script>\n'
        f"<script>(() => {{\n{_PREAMBLE}{''.join(map(_asset, _SCRIPTS))}}})();</script></body></html>\n"
    )


# The most characters of the text in the heading.
_HEADING = 160
_PREAMBLE = '"use strict";\n'


def _asset(name: str) -> str:
    return (resources.files("pellucid") / "assets" / "report" / name).read_text(encoding="utf-8")


def _header(overview: Overview) -> str:
    config = overview.config
    tokens = "1 token" if len(overview.ids) == 1 else f"{len(overview.ids):,} tokens"
    facts = (
        f"{config.parameter_count / 1e6:,.1f}M parameters · {config.n_layer} layers · {config.n_head} heads · "
        f"width {config.n_embd} · {overview.precision} · {tokens}"
    )
    return (
        f'<header class="title"><div><h1>{escape(overview.model)} reads {_quoted(overview)}</h1>'
        f'<p class="facts">{escape(facts)}</p></div>'
        '<button type="button" id="theme" class="small">dark page</button></header>'
    )


def _quoted(overview: Overview) -> str:
    """The text in quotation marks for the heading. A long text is cut."""
    if overview.text is None:
        return "a text"
    return f'“<span class="sentence">{escape(written_out(shortened(overview.text, _HEADING)))}</span>”'


def _bar() -> str:
    """The sticky bar: selection of token, layer and head, and links to all parts."""
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in _PARTS)
    return (
        '<div class="bar"><div><span><button type="button" id="bar-before" aria-label="the token before">‹</button> '
        '<label>token <input type="number" id="bar-position" min="0" aria-label="position"></label> '
        '<span class="chosen" id="bar-token"></span> '
        '<button type="button" id="bar-after" aria-label="the token after">›</button></span>'
        '<label>layer <select id="bar-layer"></select></label><label>head <select id="bar-head"></select></label>'
        f'<nav aria-label="parts of the page">{links}</nav></div></div>'
    )


_TEXT_LEAD = (
    "The model reads tokens: words and pieces of words. Choose one by a click or the arrow keys: the whole page then "
    "shows that token. The colour of a token is the probability that the model gave it after the tokens before it."
)
_WALK_LEAD = (
    "The chosen token in the model: the norm of its residual stream after each block, the norms of what the "
    "block's attention and MLP add, and the next token that the logit lens predicts after the block. All numbers are "
    "from this pass."
)
_MODEL_LEAD = (
    "From ids to logits, with the shapes of this pass: [sequences, tokens, …]. The line on the left is the residual "
    "stream, a vector for each token. Boxes with a plus add their output to it."
)
_ATTENTION_LEAD = (
    "For each token, the query, a head computes weights over the tokens up to it, the keys; they sum to 1 and mix the "
    "keys' values. Every small picture is a head: queries down, keys across. Choose one to enlarge it; the page starts "
    "with the head that contributes most to the predicted logit. A colour is proportional to the root of the weight."
)
_ATTENTION = (
    '<div class="pair"><div class="grow"><h3>every head, layers down</h3><div id="attention-heads"></div></div>'
    '<div class="grow"><h3>the chosen head: a row for each query, a column for each key</h3>'
    '<div id="attention-map"></div></div></div>'
    '<h3 style="margin-top:18px" id="attention-told" aria-live="polite"></h3>'
    '<div class="choices" id="attention-towards"></div><div class="pair">'
    '<div class="scroll" id="attention-list"></div>'
    '<div class="grow text" id="attention-text" aria-label="the text, coloured by attention"></div></div>'
)
_LENS_LEAD = (
    "What would the model predict if it stopped after a layer? The residual stream after each layer goes through the "
    "last layer norm and the unembedding (nostalgebraist, 2020). Rows are layers, columns are tokens; a cell shows the "
    "layer's likeliest next token. The last row is the model's own prediction. Choose a cell to see its details."
)
_LENS = (
    '<div class="choices" id="lens-colouring"></div><p class="muted small" id="lens-words"></p>'
    '<div id="lens-strip" style="margin-bottom:8px"></div><div class="lens scroll" id="lens-table" tabindex="0" '
    'aria-label="the logit lens"></div><p class="told" id="lens-told" aria-live="polite"></p>'
    '<h3 id="lens-cell-title"></h3><div class="scroll" id="lens-cell" aria-live="polite"></div>'
)
_ATTRIBUTION_LEAD = (
    "The residual stream is a sum. With the scale of the last layer norm held fixed, so is a logit: the embeddings, "
    "every head, every MLP and the biases contribute a term each. Blue terms raise the logit, orange ones lower it."
)
_ATTRIBUTION = (
    '<p id="attribution-told" aria-live="polite"></p><div class="pair"><div class="scroll" id="attribution-bars"></div>'
    '<div class="grow"><h3>every head: layers down, heads across</h3><div id="attribution-heads"></div></div></div>'
)
_NORMS_LEAD = (
    "At the chosen token. The line is the L2 norm of the residual stream before the first layer and after each layer. "
    "The bars are the norms of what each layer's attention (orange) and MLP (purple) add to it."
)
_NORMS = (
    '<div class="pair"><div class="grow"><h3>the residual stream, layer by layer</h3><div id="norms-chart"></div></div>'
    '<div class="grow"><h3>the output of every head: layers down, heads across</h3>'
    '<div id="norms-heads"></div></div></div>'
)
_HEADS_LEAD = (
    "Two known kinds of heads, each by the attention that it pays to certain positions: a previous-token head attends "
    "to the token before (Elhage et al., 2021); an induction head attends to what followed earlier occurrences of the "
    "same token (Olsson et al., 2022)."
)
_HEADS = (
    '<div class="choices" id="scores-mode"></div><div class="pair">'
    '<div class="grow"><h3>previous-token heads</h3><p class="muted small" id="scores-previous_token-told"></p>'
    '<div id="scores-previous_token" data-name="attention to the token before"></div></div>'
    '<div class="grow"><h3>induction heads</h3><p class="muted small" id="scores-induction-told"></p>'
    '<div id="scores-induction" data-name="attention to what followed earlier occurrences"></div></div></div>'
)
_NEXT = (
    '<p id="next-after" aria-live="polite"></p><div class="sliders">'
    '<label for="temperature">temperature</label>'
    '<input type="range" id="temperature" min="0" max="2" step="0.05" value="1"><output id="temperature-out"></output>'
    '<label for="top-k">top-k</label>'
    '<input type="range" id="top-k" min="0" max="200" step="1" value="200"><output id="top-k-out"></output>'
    '<label for="top-p">top-p</label>'
    '<input type="range" id="top-p" min="0.01" max="1" step="0.01" value="1"><output id="top-p-out"></output></div>'
    '<div class="choices"><button type="button" id="next-reset">the model\'s own</button>'
    '<span id="next-told" aria-live="polite"></span></div><div class="scroll" id="next-table"></div>'
)
_DECODES_LEAD = (
    "How the model continues the text after the chosen token: greedily, with the likeliest token at every step, and by "
    "a beam search that keeps the three likeliest continuations. Open a step to see its alternatives."
)


def _attention_note(overview: Overview) -> str:
    steps = "1/65,535" if attention_bits(overview) == 16 else "1/255"
    if is_whole(overview):
        return f'<p class="muted small">The patterns are whole; weights are rounded to {steps}.</p>'
    return (
        f'<p class="notice">The text has {len(overview.ids):,} tokens, more than 200: this file has the '
        f"{STRONGEST_ENTRIES} strongest weights of each row. Weights are rounded to {steps}.</p>"
    )


def _next_lead(overview: Overview) -> str:
    return (
        f"The tokens that may follow. The sliders work on all {overview.config.vocab_size:,} logits in the order of "
        f"decoding: temperature, top-k, top-p. Except at the last token, those beyond the {LARGEST_LOGITS} largest are "
        "interpolated. The pale bar is the model's own probability, the full bar its probability after the sliders."
    )
