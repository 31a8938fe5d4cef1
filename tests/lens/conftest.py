"""Fixtures: recorded cases, the demo model, a tiny random model."""

from __future__ import annotations

import pytest

import pellucid
from pellucid import LanguageModel

from .recorded import MODELS, Case


@pytest.fixture(scope="session", params=MODELS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each model for which results of TransformerLens and Captum were recorded."""
    return Case.of(request.param)


@pytest.fixture(scope="session")
def tiny() -> LanguageModel:
    """A random model of two layers, without a tokenizer."""
    return Case.of("tiny").lm


@pytest.fixture(scope="session")
def demo() -> LanguageModel:
    return pellucid.load("demo", engine="torch")
