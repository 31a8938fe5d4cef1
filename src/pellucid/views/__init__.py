"""Renderers of results: terminal tables, HTML for notebooks, matplotlib figures. Views draw values that others compute.

Importing this package registers the renderers of results. matplotlib is imported when a figure is drawn.
"""

from pellucid.views import (
    architecture,
    attention,
    attention_html,
    attribution,
    heads,
    interventions,
    logit_lens,
    neurons,
    overview,
    predictions,
    records,
    records_html,
    sampling,
    tables,
    token_colours,
    traces,
)

__all__ = [
    "architecture",
    "attention",
    "attention_html",
    "attribution",
    "heads",
    "interventions",
    "logit_lens",
    "neurons",
    "overview",
    "predictions",
    "records",
    "records_html",
    "sampling",
    "tables",
    "token_colours",
    "traces",
]
