"""Texts whose tokens are coloured: by probability, rank or entropy (scores, records), or by what they count for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group

from pellucid import display
from pellucid.decoding.records.record import Record
from pellucid.decoding.results import Score
from pellucid.lens.results import TokenAttribution
from pellucid.views.labels import numbered, token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Panel, Picture, TokenText
from pellucid.views.panels.scales import TokenScale, share_scale, share_text, signed_scale, signed_text, token_scale
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A longer text has bars only for the tokens that count most.
_EVERY_BAR, _STRONGEST = 40, 24


def score_picture(score: Score, by: TokenScale = "probability") -> Picture:
    """A scored text. by: what its tokens are coloured by; the first has no colour where nothing precedes it."""
    values: list[float | None] = []
    told = []
    for row in score:
        if row.logprob is None or row.rank is None or row.entropy is None:
            values.append(None)
            told.append(f"{visible(row.token, row.id)}, id {row.id}: nothing precedes it")
            continue
        probability = min(1.0, math.exp(row.logprob))
        values.append({"probability": probability, "rank": float(row.rank), "entropy": row.entropy}[by])
        told.append(
            f"{visible(row.token, row.id)}, id {row.id}\nprobability {share_text(probability)} "
            f"(log {row.logprob:.3f})\nrank {row.rank:,}\nentropy before it {row.entropy:.2f} nats"
        )
    tokens, ids = [row.token for row in score], [row.id for row in score]
    panel = TokenText("", tokens, ids, values, token_scale(by), told)
    return Picture(f"{len(score)} tokens by {by}", [panel], [f"perplexity {score.perplexity:.2f}"])


def score_colours(score: Score, by: TokenScale = "probability") -> Group:
    """A scored text in a terminal, its tokens coloured."""
    return picture_view(score_picture(score, by))


def score_colours_html(score: Score, by: TokenScale = "probability") -> str:
    return picture_html(score_picture(score, by))


def score_figure(score: Score, by: TokenScale = "probability") -> Figure:
    """Draw a scored text, its tokens coloured. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(score_picture(score, by), "score_figure")


def record_picture(record: Record, by: TokenScale = "probability") -> Picture:
    """The prompt and the new tokens of a record, each new one coloured by what the model gave it when it was chosen;
    a beam search, whose record is a tree, has no such steps."""
    steps = {step.step: step for step in record.steps}
    ids = [*record.prompt_ids, *record.new_ids]
    values: list[float | None] = [None] * len(record.prompt_ids)
    told = [f"{visible(record.text(token), token)}, id {token}: prompt" for token in record.prompt_ids]
    for number, token in enumerate(record.new_ids):
        step = steps.get(number)
        said = f"{visible(record.text(token), token)}, id {token}"
        if step is None:
            values.append(None)
            told.append(said)
            continue
        probability, entropy = min(1.0, math.exp(step.logprob)), step.expansion.model.entropy
        values.append({"probability": probability, "rank": float(step.rank), "entropy": entropy}[by])
        told.append(
            f"step {number}: {said}\nprobability {share_text(probability)}\nrank {step.rank:,}\n"
            f"entropy before it {entropy:.2f} nats\n{step.source}"
        )
    panel = TokenText(
        "", [record.text(token) for token in ids], ids, values, token_scale(by), told, quiet=len(record.prompt_ids)
    )
    notes = [] if record.steps or not record.new_ids else ["beams searched: there is a tree instead of steps"]
    return Picture(f"{len(record.new_ids)} new tokens by {by}", [panel], notes)


def record_colours(record: Record, by: TokenScale = "probability") -> Group:
    """A record's text in a terminal, its new tokens coloured."""
    return picture_view(record_picture(record, by))


def record_colours_html(record: Record, by: TokenScale = "probability") -> str:
    return picture_html(record_picture(record, by))


def record_figure(record: Record, by: TokenScale = "probability") -> Figure:
    """Draw a record's text, its new tokens coloured. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(record_picture(record, by), "record_figure")


def token_attribution_picture(attribution: TokenAttribution) -> Picture:
    """How much each token counts: the text coloured, and a bar for each token, or for the strongest of many."""
    is_share = attribution.method == "rollout"
    values = [float(value) for value in attribution.values]
    scale = share_scale("share") if is_share else signed_scale("attribution", values)
    text = share_text if is_share else signed_text
    labels = token_labels(attribution.tokens, attribution.ids)
    told = [f"{label}, position {place}: {text(values[place])}" for place, label in enumerate(labels)]
    shown = list(range(len(values)))
    if len(shown) > _EVERY_BAR:
        shown = sorted(sorted(shown, key=lambda place: -abs(values[place]))[:_STRONGEST])
    places = numbered(labels)
    hue = scale.more if is_share else None
    left_out = len(values) - len(shown)
    rest = sum(values) - sum(values[place] for place in shown)
    bars = Bars(
        "every token" if not left_out else f"the {len(shown)} tokens that count most",
        [Bar(places[place], values[place], hue=hue) for place in shown],
        text,
        f"{left_out} more tokens: {text(rest)} together" if left_out else "",
    )
    panels: list[Panel] = [TokenText("", attribution.tokens, attribution.ids, values, scale, told), bars]
    return Picture(_attribution_title(attribution), panels, _attribution_notes(attribution))


def _attribution_title(attribution: TokenAttribution) -> str:
    what = attribution.method.replace("_", " ")
    if attribution.target_id is None:
        return f"what position {attribution.position} draws from each token, by {what}"
    target = visible(attribution.target, attribution.target_id)
    return f"what each token does for {target} after position {attribution.position}, by {what}"


def _attribution_notes(attribution: TokenAttribution) -> list[str]:
    if attribution.score is None or attribution.baseline_score is None:
        return []
    note = f"logit {attribution.score:.2f}, of the baseline {attribution.baseline_score:.2f}"
    if attribution.convergence_delta is not None:
        note += f"; the sum is off by {attribution.convergence_delta:.2g}"
    return [note + (f" after {attribution.steps} steps" if attribution.steps else "")]


@display.terminal.register(TokenAttribution)
def token_attribution_view(attribution: TokenAttribution) -> Group:
    return picture_view(token_attribution_picture(attribution))


@display.html.register(TokenAttribution)
def token_attribution_html(attribution: TokenAttribution) -> str:
    return picture_html(token_attribution_picture(attribution))


def token_attribution_figure(attribution: TokenAttribution) -> Figure:
    """Draw what each token counts for. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(token_attribution_picture(attribution), "token_attribution_figure")
