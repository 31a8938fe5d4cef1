"""A text in a model as one HTML page: every view of it in one file that needs no other, and no network."""

from __future__ import annotations

from html import escape
from importlib import resources

from pellucid.decoding.records.record import Record
from pellucid.lens.overview import Overview
from pellucid.reference.architecture import Architecture
from pellucid.views.labels import shortened
from pellucid.views.record_text import written_out
from pellucid.views.report.data import STRONGEST_ENTRIES, attention_bits, contents_json, is_whole
from pellucid.views.report.parts import decodes_part, model_part, section, text_part, walk_part

# In the order in which they are joined: later ones call earlier ones.
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
    "start.js",
)

# Nothing may be fetched from anywhere: what the page shows is in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

_PARTS = (
    ("tokens", "Text"),
    ("walk", "Step by step"),
    ("model", "Model"),
    ("attention", "Attention"),
    ("lens", "Lens"),
    ("attribution", "Attribution"),
    ("norms", "Lengths"),
    ("heads", "Heads"),
    ("next", "Next token"),
    ("decodes", "Decoding on"),
)


def report_html(
    overview: Overview, architecture: Architecture, *, greedy: Record | None = None, beams: Record | None = None
) -> str:
    """The page as one string. It opens from disk, in light and dark, and asks no network for anything.

    overview: what the instruments say of the text. architecture: the model with its weights,
    `pellucid.reference.architecture.survey(model)` of any size. greedy, beams: records of decodes that go on from the
    text, where there is room for one.

    Attention patterns are whole for texts of up to 200 tokens; of longer ones each row keeps its 16 strongest weights,
    and the page says so, and in what steps weights are kept. The next token's sliders work on all logits.
    """
    sections = "".join(
        (
            section("tokens", "The text", _TEXT_LEAD, text_part(overview)),
            section("walk", "Step by step", _walk_lead(overview), walk_part(overview)),
            section("model", "The model", _MODEL_LEAD, model_part(overview, architecture)),
            section("attention", "Attention", _ATTENTION_LEAD, _attention_note(overview) + _ATTENTION),
            section("lens", "The logit lens", _LENS_LEAD, _LENS),
            section("attribution", "What makes the logit", _ATTRIBUTION_LEAD, _ATTRIBUTION),
            section("norms", "Lengths", _NORMS_LEAD, _NORMS),
            section("heads", "Known kinds of heads", _HEADS_LEAD, _HEADS),
            section("next", "The next token", _next_lead(overview), _NEXT),
            section("decodes", "Decoding on", _DECODES_LEAD, decodes_part(greedy, beams)),
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
        '<noscript><p class="notice">Scripts are off: the text, the walk, the model and the decodes are here; '
        "attention, lens, attribution and the sliders are drawn by a script, which is in this file.</p></noscript>"
        f'<p class="notice" id="failed" hidden></p>{sections}</main><div id="tip" aria-hidden="true"></div>'
        f'<script type="application/json" id="contents">{contents_json(overview)}</script>\n'
        f"<script>(() => {{\n{_PREAMBLE}{''.join(map(_asset, _SCRIPTS))}}})();</script></body></html>\n"
    )


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
        f'<header class="title"><div><h1>{escape(overview.model)} reads a text</h1>'
        f'<p class="facts">{escape(facts)}</p></div>'
        '<button type="button" id="theme" class="small">dark page</button></header>'
    )


def _bar() -> str:
    """What is looked at, and the way to every part; it stays in view."""
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
    "The model reads tokens: words and pieces of words. Choose one, by a click or the arrow keys, and the whole page "
    "is about it. Each token is coloured by how well the model, reading from the left, saw it coming."
)
_MODEL_LEAD = (
    "From ids to logits, with the shapes of this very pass: [sequences, tokens, …]. The line on the left is the "
    "residual stream, a vector for each token; what has a plus is added to it."
)
_ATTENTION_LEAD = (
    "At each token a head looks back at the tokens up to it, with weights that sum to 1, and carries on what it finds "
    "there. Every small picture is a head: queries down, keys across. Choose one to see it large; the page begins with "
    "the one that moves the prediction most. Colour grows with the square root of the weight."
)
_ATTENTION = (
    '<div class="pair"><div class="grow"><h3>every head, layers down</h3><div id="attention-heads"></div></div>'
    '<div class="grow"><h3>the chosen head: each row a token that looks, each column one that is looked at</h3>'
    '<div id="attention-map"></div></div></div>'
    '<h3 style="margin-top:18px" id="attention-told" aria-live="polite"></h3>'
    '<div class="choices" id="attention-towards"></div><div class="pair">'
    '<div id="attention-list" style="min-width:330px"></div>'
    '<div class="grow text" id="attention-text" aria-label="the text, coloured by attention"></div></div>'
)
_LENS_LEAD = (
    "What if the model stopped here? Each layer's stream is read through the last layer norm and the head "
    "(nostalgebraist, 2020). Rows are layers from first to last, columns the text's tokens; a cell is the token that "
    "the layer would say next. The last row is what the model says."
)
_LENS = (
    '<div class="choices" id="lens-colouring"></div><p class="muted small" id="lens-words"></p>'
    '<div id="lens-strip" style="margin-bottom:8px"></div><div class="lens scroll" id="lens-table" tabindex="0" '
    'aria-label="the logit lens"></div><p class="told" id="lens-told" aria-live="polite"></p>'
)
_ATTRIBUTION_LEAD = (
    "A logit is a sum: the embeddings, every head, every MLP and the biases each write a vector to the stream, and "
    "each vector has its share of the logit (the last layer norm's scale held as it was). Blue raises it, orange "
    "lowers it."
)
_ATTRIBUTION = (
    '<p id="attribution-told" aria-live="polite"></p><div class="pair"><div class="scroll" id="attribution-bars"></div>'
    '<div class="grow"><h3>every head: layers down, heads across</h3><div id="attribution-heads"></div></div></div>'
)
_NORMS_LEAD = (
    "How long the stream's vector (L2) is on its way through the layers at the chosen token: the line; and how long "
    "what each layer's attention (orange) and MLP (purple) add to it."
)
_NORMS = (
    '<div class="pair"><div class="grow"><h3>the stream, layer by layer</h3><div id="norms-chart"></div></div>'
    '<div class="grow"><h3>what every head writes: layers down, heads across</h3>'
    '<div id="norms-heads"></div></div></div>'
)
_HEADS_LEAD = (
    "Two things that some heads are known to do, as a score for each head on this text. An induction head looks at "
    "what came after this token last time (Olsson et al., 2022); a previous-token head at the token before (Elhage et "
    "al., 2021). A text shows it only where its tokens repeat."
)
_HEADS = (
    '<div class="pair"><div class="grow"><h3>previous-token heads</h3><div id="scores-previous_token" '
    'data-name="previous-token scores" data-none="The text has one token: there is none before it."></div></div>'
    '<div class="grow"><h3>induction heads</h3><div id="scores-induction" data-name="induction scores" '
    'data-none="No token of this text stands in it twice: there is nothing to score."></div></div></div>'
)
_NEXT = (
    '<div class="sliders">'
    '<label for="temperature">temperature</label>'
    '<input type="range" id="temperature" min="0" max="2" step="0.05" value="1"><output id="temperature-out"></output>'
    '<label for="top-k">top-k</label>'
    '<input type="range" id="top-k" min="0" max="200" step="1" value="200"><output id="top-k-out"></output>'
    '<label for="top-p">top-p</label>'
    '<input type="range" id="top-p" min="0.01" max="1" step="0.01" value="1"><output id="top-p-out"></output></div>'
    '<div class="choices"><button type="button" id="next-reset">as the model has it</button>'
    '<span id="next-told" aria-live="polite"></span></div><div class="scroll" id="next-table"></div>'
)
_DECODES_LEAD = (
    "The likeliest token every time; and a beam search, which keeps the three likeliest continuations in each step. "
    "Every step opens; a hypothesis tells more under the pointer."
)


def _walk_lead(overview: Overview) -> str:
    last = len(overview.ids) - 1
    return (
        f"The way of the last token, position {last}, through the model: how long its vector in the stream is, what "
        "each block adds, and what the model would say next if it stopped there. The numbers are this pass's own."
    )


def _attention_note(overview: Overview) -> str:
    steps = "1/65,535" if attention_bits(overview) == 16 else "1/255"
    if is_whole(overview):
        return f'<p class="muted small">The patterns are whole; a weight is kept in steps of {steps}.</p>'
    return (
        f'<p class="notice">The text has {len(overview.ids):,} tokens, more than 200: of each row, the '
        f"{STRONGEST_ENTRIES} strongest weights are in this file and the others are not. A weight is kept in steps of "
        f"{steps}.</p>"
    )


def _next_lead(overview: Overview) -> str:
    return (
        f"What stands after the text. All {overview.config.vocab_size:,} logits are in this page, and the sliders work "
        "on all of them, in the order that decoding has: temperature, top-k, top-p. The pale bar is the model's own "
        "probability, the full one what is left."
    )
