"""Figures as values of notebook cells are displayed without pyplot and without `%matplotlib inline`."""

from __future__ import annotations

import pytest

from pellucid.views.logit_lens import logit_lens_figure
from pellucid.views.predictions import prediction_figure

from .measured import a_lens
from .test_results import a_prediction


@pytest.mark.parametrize("figure", [logit_lens_figure(a_lens(["a", "b"])), prediction_figure(a_prediction(["a"]))])
def test_a_figure_is_a_picture_to_a_notebook(figure: object) -> None:
    formatter = pytest.importorskip("IPython.core.formatters").PNGFormatter()  # a notebook's own
    assert formatter(figure).startswith(b"\x89PNG")
