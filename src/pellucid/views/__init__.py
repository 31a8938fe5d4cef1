"""Pictures of values: tables for terminals and notebooks, figures. Views draw; they compute nothing.

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
