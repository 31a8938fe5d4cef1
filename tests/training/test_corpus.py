"""Preparation of the corpus: text files to documents and ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import PellucidError
from pellucid.tokenizer import GPT2Tokenizer
from pellucid.training.corpus import (
    END_OF_TEXT_ID,
    encode_documents,
    is_heading,
    plain_signs,
    read_training,
    shingles,
    split_documents,
    unwrap_block,
    unwrap_book,
    without_repeats,
    without_title,
)

PROSE = """The sun had gone down behind the hills, and the little house at the edge of
the wood was dark. No one had lit the lamp--and no one had thought of the well-
worn path that led down to the river, where the boats were tied up for the
night."""

BOOK = f"""The House at the Edge of the Wood
A. Nobody

     To my sister

CHAPTER I. In which the lamp is not lit

{PROSE}

     * * * * *

[Illustration: the house]

"Who is there?" _said_ the boy.

CHAPTER II.

NOBODY answered him, so that he went to the door and opened it, and saw that the
moon was standing over the river, and that the boats were gone, every one.

     Sail, sail, little boat,
     Over the sea,
     Bring me a golden coat,
     Bring it to me.

THE END
"""


def test_lines_of_a_paragraph_become_one_line_and_a_dash_at_a_break_gets_no_space() -> None:
    text = unwrap_block(PROSE)
    assert "\n" not in text
    assert "edge of the wood was dark" in text
    assert "lamp--and no one" in text
    assert "well-worn" in text


def test_verse_keeps_its_lines() -> None:
    assert unwrap_block("  Sail, sail,\n  Over the sea,\n  Bring me\n  A coat.") == (
        "Sail, sail,\nOver the sea,\nBring me\nA coat."
    )


def test_a_book_becomes_its_chapters_without_what_is_not_prose() -> None:
    first, second = unwrap_book(BOOK)
    assert first.startswith("The sun had gone down") and first.endswith('"Who is there?" said the boy.')
    assert second.startswith("Nobody answered him") and second.endswith("Bring it to me.")
    for residue in ("CHAPTER", "*", "Illustration", "sister", "THE END", "A. Nobody"):
        assert residue not in first + second


@pytest.mark.parametrize(
    "block", ["CHAPTER I.", "CHAPTER IV. Pig and Pepper", "XII", "PART 1.", "THE END", "Chapter 3", "THE RED SHOES"]
)
def test_headings_are_recognised(block: str) -> None:
    assert is_heading(block)


@pytest.mark.parametrize("block", ["I went home.", '"STOP!"', "Part of it was gone.", "NO!", "Book in hand, he slept."])
def test_short_paragraphs_are_not_headings(block: str) -> None:
    assert not is_heading(block)


def test_documents_are_split_at_the_end_of_text_mark_and_one_that_breaks_off_is_left_out() -> None:
    text = "One day it rained.  \nIt stopped.\n<|endoftext|>\n\nThe end came.\n<|endoftext|>\nThere was a"
    assert split_documents(text) == ["One day it rained.\nIt stopped.", "The end came."]


def test_a_tale_loses_its_title_only_if_it_has_one() -> None:
    assert without_title("1. HOW THEY WENT\n\nThe nuts are ripe.") == "The nuts are ripe."
    assert without_title("The nuts are ripe.\n\nLet us go.") == "The nuts are ripe.\n\nLet us go."


def test_shingles_ignore_punctuation_and_case() -> None:
    assert shingles("‘Don’t go,’ said the Fox, and the hen did not go.") == shingles(
        "'DON'T GO' said the fox -- and the hen did not go!"
    )


def test_repeats_and_held_out_documents_are_left_out() -> None:
    first = " ".join(f"alpha{i}" for i in range(40))
    second = " ".join(f"beta{i}" for i in range(40))
    secret = " ".join(f"gamma{i}" for i in range(40))
    seen: set[int] = set()
    kept = without_repeats([first, second, first.upper(), "A quote: " + secret], seen, shingles(secret))
    assert kept == [first, second]
    assert without_repeats([second + " the end"], seen, set()) == []


@given(st.text())
def test_plain_signs_leaves_no_typographic_quote_and_changes_nothing_twice(text: str) -> None:
    plain = plain_signs(text)
    assert not set("‘’“”–—…") & set(plain)
    assert plain_signs(plain) == plain


def test_ids_decode_to_the_documents_and_each_ends_with_the_end_of_text() -> None:
    tokenizer = GPT2Tokenizer.bundled()
    documents = ["long long ago, I was", "Ein schöner Tag.\n\n'Yes!'"]
    tokens = encode_documents(documents, tokenizer)
    assert len(tokens) == len(tokens.ids)
    ends = np.flatnonzero(tokens.ids == END_OF_TEXT_ID)
    for document, start, end in zip(documents, tokens.starts, ends, strict=True):
        assert tokenizer.decode(tokens.ids[start:end].tolist()) == document
    assert tokens.ids[:6].tolist() == [6511, 890, 2084, 11, 314, 373]


def test_a_folder_without_one_of_the_sets_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "tinystories.txt").write_text("One day it rained.\n<|endoftext|>\n")
    with pytest.raises(PellucidError, match=r"has no tales"):
        read_training(tmp_path, {})
