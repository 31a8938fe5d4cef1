"""One MLP neuron: the tokens whose logits it raises and lowers, and its activations in a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from pellucid import display
from pellucid.lens.results import NeuronView, WeightedToken
from pellucid.views.labels import token_labels
from pellucid.views.panels.figure import picture_figure
from pellucid.views.panels.html import picture_html
from pellucid.views.panels.picture import Bar, Bars, Panel, Picture, TokenText
from pellucid.views.panels.scales import signed_scale, signed_text
from pellucid.views.panels.terminal import picture_view
from pellucid.views.tables import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ACTIVE = 10


def neuron_picture(neuron: NeuronView) -> Picture:
    """The tokens that the neuron raises and lowers, and its activations if it was traced in a text."""
    panels: list[Panel] = [
        _weights("raises, logit per unit of activation", neuron.raises),
        _weights("lowers", neuron.lowers),
    ]
    if len(neuron.activations):
        values = [float(value) for value in neuron.activations]
        tooltips = [
            f"{label}, position {place}: {signed_text(value)}"
            for place, (label, value) in enumerate(zip(token_labels(neuron.tokens, neuron.ids), values, strict=True))
        ]
        scale = signed_scale("activation", values)
        panels.append(TokenText("in the text", neuron.tokens, neuron.ids, values, scale, tooltips))
        most = [
            Bar(visible(one.token, one.id), one.activation, f"position {one.position}")
            for one in neuron.most_active(_MOST_ACTIVE)
        ]
        panels.append(Bars("most active at", most, signed_text))
    return Picture(f"neuron {neuron.index} of layer {neuron.layer}", panels)


def _weights(title: str, tokens: tuple[WeightedToken, ...]) -> Bars:
    bars = [Bar(visible(one.token, one.id), one.weight, f"id {one.id}") for one in tokens]
    return Bars(title, bars, signed_text)


@display.terminal.register(NeuronView)
def neuron_view(neuron: NeuronView) -> Group:
    return picture_view(neuron_picture(neuron))


@display.html.register(NeuronView)
def neuron_html(neuron: NeuronView) -> str:
    return picture_html(neuron_picture(neuron))


def neuron_figure(neuron: NeuronView) -> Figure:
    """Draw a neuron. Raises `MissingExtraError` without the `plot` extra."""
    return picture_figure(neuron_picture(neuron), "neuron_figure")
