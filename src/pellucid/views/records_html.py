"""Records of decodes as self-contained HTML fragments, for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from pellucid import display
from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Expansion, TokenStep
from pellucid.decoding.session import NextToken
from pellucid.views.beam_lattice import beam_lattice
from pellucid.views.beam_tree import main_line, read_in_order, stretch_text
from pellucid.views.panels.scales import probability_scale
from pellucid.views.record_text import (
    alternatives,
    births,
    chances,
    facts,
    fate,
    how_chosen,
    kept,
    passage,
    probability,
    slide_note,
    stages,
    token_text,
    tokens_to_compare,
    written_out,
)
from pellucid.views.tables import percent

_TOP = 10
_BOX = "font-family: system-ui, sans-serif; font-size: 13px; line-height: 1.5; max-width: 100%"
_MONO = "font-family: ui-monospace, monospace; white-space: pre"
_FAINT = "opacity: .65"
_CELL = "padding: 1px 10px 1px 0; text-align: {}; border: 0; background: none; vertical-align: top"
FATE_COLOURS = {"returned": "#1a9850", "finished": "#4575b4", "displaced": "#b35806", "running": "#2b8cbe"}


@display.html.register(Record)
def record_html(record: Record) -> str:
    """The whole record: facts about the decode, the text with new tokens coloured by probability, then collapsed steps
    or the tree."""
    body = _tree(record) if record.tree else _steps(record)
    return f'<div style="{_BOX}">{_header(record)}{_text(record)}{body}</div>'


@display.html.register(NextToken)
def next_token_html(next_token: NextToken) -> str:
    """The distribution of the next token under the model and after each processor."""
    return f'<div style="{_BOX}">{_expansion(next_token.expansion, next_token.tokens)}</div>'


def _header(record: Record) -> str:
    rows = [
        [(name, f"{_FAINT}; padding-right: 16px; white-space: nowrap"), (value, "")] for name, value in facts(record)
    ]
    return _table([], rows)


def _text(record: Record) -> str:
    """The prompt, then the continuation. A record with steps has a coloured element for each token."""
    prompt = passage(record.tokens, record.prompt_ids)
    if record.steps:
        new = "".join(_coloured(record, step) for step in record.steps)
        samples = (
            f'<span style="background: {_tint(value)}; padding: 0 6px; border-radius: 3px">{value:g}</span>'
            for value in (1.0, 0.1, 0.01, 0.001, 0.0001)
        )
        legend = f'<div style="{_FAINT}; margin-top: 4px">probability under the model: {" ".join(samples)}</div>'
    else:
        new = f"<b>{escape(_readable(passage(record.tokens, record.new_ids)))}</b>"
        legend = ""
    return (
        f'<div style="white-space: pre-wrap; margin: 8px 0; font-size: 15px; line-height: 1.8">'
        f'<span style="{_FAINT}">{escape(_readable(prompt))}</span>{"" if record.tokens else " "}{new}</div>{legend}'
    )


def _coloured(record: Record, step: TokenStep) -> str:
    """A new token, with incomplete characters as escaped bytes."""
    token = record.tokens.get(step.token)
    shown = f"#{step.token} " if token is None else _readable(token).replace("\n", "↵\n")
    title = f"step {step.step}: {token_text(record.tokens, step.token)}, {how_chosen(record.tokens, step)}"
    style = (
        f"background: {_tint(probability(step))}; border-radius: 3px; box-shadow: inset 1px 0 rgba(128, 128, 128, .35)"
    )
    return f'<span style="{style}" title="{escape(title)}">{escape(shown)}</span>'


def _readable(text: str) -> str:
    """Text with control characters escaped, except line ends and tabs."""
    return "".join(c if c in "\n\t" else written_out(c) for c in text)


def _tint(value: float) -> str:
    return probability_scale().css(value)


def _steps(record: Record) -> str:
    """A collapsed element for every step."""
    if not record.steps:
        return ""
    lines = "".join(_step(record, step) for step in record.steps)
    summary = f'<summary style="cursor: pointer; margin-top: 8px">{len(record.steps)} steps</summary>'
    return f"<details>{summary}{lines}</details>"


def _step(record: Record, step: TokenStep) -> str:
    tokens = record.tokens
    others = "  ".join(f"{token_text(tokens, token)} {percent(value)}" for token, value in alternatives(step, 3))
    summary = (
        f'<span style="{_FAINT}; display: inline-block; min-width: 2.5em; text-align: right">{step.step}</span> '
        f'<span style="{_MONO}; background: {_tint(probability(step))}; border-radius: 3px; padding: 0 4px; '
        f'display: inline-block; min-width: 9em">{escape(token_text(tokens, step.token))}</span> '
        f'<span style="display: inline-block; min-width: 5em; text-align: right">{percent(probability(step))}</span> '
        f'<span style="{_MONO}; {_FAINT}; margin-left: 12px">{escape(others)}</span>'
    )
    parts = [f"<div>{escape(how_chosen(tokens, step))}; candidates {kept(step.expansion)}</div>"]
    if step.slid is not None:
        parts.append(f"<div>{escape(slide_note(step.slid))}</div>")
    parts.append(_expansion(step.expansion, tokens, step))
    if step.candidates:
        parts.append(_contrastive(record, step))
    return (
        f'<details style="margin-left: 12px"><summary style="cursor: pointer">{summary}</summary>'
        f'<div style="margin: 4px 0 10px 3.5em">{"".join(parts)}</div></details>'
    )


def _expansion(expansion: Expansion, tokens: Mapping[int, str], step: TokenStep | None = None) -> str:
    """The likeliest tokens by row; the model and each processor by column, with candidates and entropy at the foot."""
    shown = stages(expansion)
    titles = ["token", "id", *(stage.name for stage in shown)]
    rows = []
    for token in tokens_to_compare(expansion, _TOP, step):
        weight = "font-weight: bold" if step is not None and token == step.token else ""
        cells = [(token_text(tokens, token), f"{_MONO}; {weight}"), (str(token), _FAINT)]
        for stage, text in zip(shown, chances(expansion, token, step), strict=True):
            logprob = stage.distribution.logprob(token)
            most = max((entry.logprob for entry in stage.distribution.top), default=0.0)
            share = 0.0 if logprob is None else 100 * min(1.0, math.exp(logprob - most))
            bar = f"linear-gradient(to left, rgba(70, 130, 180, .35) {share:.1f}%, transparent {share:.1f}%)"
            cells.append((text, f"text-align: right; background: {bar}; {weight}"))
        rows.append(cells)
    for name, numbers in (
        ("candidates", [f"{stage.distribution.kept:,}" for stage in shown]),
        ("entropy", [f"{stage.distribution.entropy:.2f}" for stage in shown]),
    ):
        rows.append([(name, _FAINT), ("", ""), *((number, f"text-align: right; {_FAINT}") for number in numbers)])
    return _table(titles, rows)


def _contrastive(record: Record, step: TokenStep) -> str:
    titles = ["candidate", "id", "probability", "likeness", "score"]
    rows = []
    for one in sorted(step.candidates, key=lambda candidate: -candidate.score):
        weight = "font-weight: bold" if one.id == step.token else ""
        numbers = (percent(one.probability), f"{one.likeness:.3f}", f"{one.score:.3f}")
        cells = [(token_text(record.tokens, one.id), f"{_MONO}; {weight}"), (str(one.id), _FAINT)]
        rows.append([*cells, *((number, f"text-align: right; {weight}") for number in numbers)])
    return _table(titles, rows)


def _tree(record: Record) -> str:
    """The tree as a picture, and as a collapsed table."""
    rows = []
    own = {node.id for node in record.path()} if record.returned is not None else set()
    for drawn in read_in_order(main_line(record)):
        end = drawn.stretch.end
        colour = f"color: {FATE_COLOURS[end.fate]}" if end.fate in FATE_COLOURS else ""
        style = "font-weight: bold" if end.id in own else _FAINT if end.fate == "cut" else colour
        indent = f"padding-left: {drawn.depth * 20}px; {_MONO.replace('pre', 'pre-wrap')}"
        words = [f"group {end.group}"] if end.group else []
        rows.append(
            [
                (stretch_text(record, drawn), f"{indent}; {style}"),
                (births(drawn.stretch.nodes), f"{_FAINT}; text-align: right"),
                (f"{end.score:.2f}" if end.token is not None else "", "text-align: right"),
                ("" if end.final_score is None else f"{end.final_score:.3f}", f"text-align: right; {colour}"),
                (", ".join([*words, fate(end)]) if fate(end) else "", colour or _FAINT),
            ]
        )
    titles = ["hypothesis", "steps", "score", "final", "outcome"]
    return (
        f"{beam_lattice(record)}"
        f'<details><summary style="cursor: pointer; margin-top: 8px">{len(record.tree) - 1} hypotheses</summary>'
        f"{_table(titles, rows)}</details>"
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A table of (text, style) cells. A title is aligned as the first row's cell below it."""
    left = [number for number, (_, style) in enumerate(rows[0] if rows else []) if "right" not in style]
    head = "".join(
        f'<th style="{_CELL.format("left" if number in left else "right")}; {_FAINT}; font-weight: normal">'
        f"{escape(title)}</th>"
        for number, title in enumerate(titles)
    )
    body = "".join(
        "<tr style='background: none'>"
        + "".join(f'<td style="{_CELL.format("left")}; {style}">{escape(text)}</td>' for text, style in row)
        + "</tr>"
        for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if titles else ""
    style = "border-collapse: collapse; border: 0; margin: 4px 0; font-size: 13px; color: inherit"
    return f'<table style="{style}">{head}<tbody>{body}</tbody></table>'
