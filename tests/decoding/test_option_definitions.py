"""One definition per option: its default is a legal value, and the documents name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.decoding.options import OPTION_NAMES, GenerationOptions
from pellucid.decoding.options.option import options_of

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_the_page_on_decoding_names_the_option(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_default_keeps_its_own_rule_and_every_help_is_a_sentence() -> None:
    for name, defined, default in options_of(GenerationOptions):
        assert default is None or defined.rule(name, default) == default
        assert defined.help[0].isupper() and defined.help.endswith(".")
