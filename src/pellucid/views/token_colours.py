"""Texts with coloured tokens: by probability, rank or entropy (scores, records), or by attribution."""

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

# A text of more than `_EVERY_BAR` tokens has bars for the `_STRONGEST` largest attributions only.
_EVERY_BAR, _STRONGEST = 40, 24


def score_picture(score: Score, by: TokenScale = "probability") -> Picture:
    """A scored text. by: the value that colours its tokens. A first token without a score has no colour."""
    values: list[float | None] = []
    tooltips = []
    for row in score:
        if row.logprob is None or row.rank is None or row.entropy is None:
            values.append(None)
            tooltips.append(f"{visible(row.token, row.id)}, id {row.id}: nothing precedes it")
            continue
        probability = min(1.0, math.exp(row.logprob))
        values.append({"probability": probability, "rank": float(row.rank), "entropy": row.entropy}[by])
        tooltips.append(
            f"{visible(row.token, row.id)}, id {row.id}\nprobability {share_text(probability)} "
            f"(log {row.logprob:.3f})\nrank {row.rank:,}\nentropy before it {row.entropy:.2f} nats"
        )
    tokens, ids = [row.token for row in score], [row.id for row in score]
    panel = TokenText("", tokens, ids, values, token_scale(by), tooltips)
    return Picture(f"{len(score)} tokens by {by}", [panel], [f"perplexity {score.perplexity:.2f}"])


def score_colours(score: Score, by: TokenScale = "probability") -> Group:
    """A scored text with coloured tokens, for terminals."""
    return picture_view(score_picture(score, by))


def score_colours_html(score: Score, by: TokenScale = "probability") -> str:
    return picture_html(score_picture(score, by))


def score_figure(score: Score, by: TokenScale = "probability") -> Figure:
    """Draw a scored text with coloured tokens. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(score_picture(score, by), "score_figure")


def record_picture(record: Record, by: TokenScale = "probability") -> Picture:
    """The prompt and the new tokens of a record. A new token is coloured by its value under the model in the step that
    chose it. The record of a beam search has a tree instead of steps, and so no colours."""
    steps = {step.step: step for step in record.steps}
    ids = [*record.prompt_ids, *record.new_ids]
    values: list[float | None] = [None] * len(record.prompt_ids)
    tooltips = [f"{visible(record.text(token), token)}, id {token}: prompt" for token in record.prompt_ids]
    for number, token in enumerate(record.new_ids):
        step = steps.get(number)
        label = f"{visible(record.text(token), token)}, id {token}"
        if step is None:
            values.append(None)
            tooltips.append(label)
            continue
        probability, entropy = min(1.0, math.exp(step.logprob)), step.expansion.model.entropy
        values.append({"probability": probability, "rank": float(step.rank), "entropy": entropy}[by])
        tooltips.append(
            f"step {number}: {label}\nprobability {share_text(probability)}\nrank {step.rank:,}\n"
            f"entropy before it {entropy:.2f} nats\n{step.source}"
        )
    panel = TokenText(
        "", [record.text(token) for token in ids], ids, values, token_scale(by), tooltips, quiet=len(record.prompt_ids)
    )
    notes = [] if record.steps or not record.new_ids else ["a beam search: the record has a tree instead of steps"]
    return Picture(f"{len(record.new_ids)} new tokens by {by}", [panel], notes)


def record_colours(record: Record, by: TokenScale = "probability") -> Group:
    """A record's text with coloured new tokens, for terminals."""
    return picture_view(record_picture(record, by))


def record_colours_html(record: Record, by: TokenScale = "probability") -> str:
    return picture_html(record_picture(record, by))


def record_figure(record: Record, by: TokenScale = "probability") -> Figure:
    """Draw a record's text with coloured new tokens. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(record_picture(record, by), "record_figure")


def token_attribution_picture(attribution: TokenAttribution) -> Picture:
    """The attribution of each token: the coloured text, and bars for all tokens or for the largest attributions."""
    is_share = attribution.method == "rollout"
    values = [float(value) for value in attribution.values]
    scale = share_scale("share") if is_share else signed_scale("attribution", values)
    text = share_text if is_share else signed_text
    labels = token_labels(attribution.tokens, attribution.ids)
    tooltips = [f"{label}, position {place}: {text(values[place])}" for place, label in enumerate(labels)]
    shown = list(range(len(values)))
    if len(shown) > _EVERY_BAR:
        shown = sorted(sorted(shown, key=lambda place: -abs(values[place]))[:_STRONGEST])
    places = numbered(labels)
    hue = scale.more if is_share else None
    left_out = len(values) - len(shown)
    rest = sum(values) - sum(values[place] for place in shown)
    bars = Bars(
        "every token" if not left_out else f"the {len(shown)} largest attributions",
        [Bar(places[place], values[place], hue=hue) for place in shown],
        text,
        f"{left_out} more tokens: {text(rest)} together" if left_out else "",
    )
    panels: list[Panel] = [TokenText("", attribution.tokens, attribution.ids, values, scale, tooltips), bars]
    return Picture(_attribution_title(attribution), panels, _attribution_notes(attribution))


def _attribution_title(attribution: TokenAttribution) -> str:
    method = attribution.method.replace("_", " ")
    if attribution.target_id is None:
        return f"attribution of position {attribution.position} to each token, by {method}"
    target = visible(attribution.target, attribution.target_id)
    return f"attribution of the logit of {target} after position {attribution.position} to each token, by {method}"


def _attribution_notes(attribution: TokenAttribution) -> list[str]:
    if attribution.score is None or attribution.baseline_score is None:
        return []
    note = f"logit {attribution.score:.2f}, {attribution.baseline_score:.2f} at the baseline"
    if attribution.convergence_delta is not None:
        note += f"; the sum differs by {attribution.convergence_delta:.2g}"
    return [note + (f" after {attribution.steps} steps" if attribution.steps else "")]


@display.terminal.register(TokenAttribution)
def token_attribution_view(attribution: TokenAttribution) -> Group:
    return picture_view(token_attribution_picture(attribution))


@display.html.register(TokenAttribution)
def token_attribution_html(attribution: TokenAttribution) -> str:
    return picture_html(token_attribution_picture(attribution))


def token_attribution_figure(attribution: TokenAttribution) -> Figure:
    """Draw the attribution of each token. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(token_attribution_picture(attribution), "token_attribution_figure")
