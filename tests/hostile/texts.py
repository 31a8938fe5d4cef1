"""Texts that are hard to tokenize and dangerous to print."""

from __future__ import annotations

from hypothesis import strategies as st

from ..tokenizer.texts import HARD_PIECES
from .budget import SCALE

ESCAPES = [
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\x1b]8;;http://a.b\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x90q\x9c",
    "\x08\x08\x08",
    "\x07",
    "\r",
    "\x7f",
    "\x0e",
    "\x1bc",
]
_PIECES = [
    *HARD_PIECES,
    *ESCAPES,
    "\ud800",
    "\udcff",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u0301" * 40,
    "\U000e0001",
    "[bold]",
    "[/]",
    "\\",
    "%s",
    "{}",
    "--help",
    "-",
]

texts = st.text(st.characters(exclude_categories=[]), max_size=30) | st.lists(
    st.sampled_from(_PIECES) | st.text(max_size=4), max_size=12
).map("".join)

# Very long words, and runs that are hard for the pre-tokenizer: a piece and its number of repetitions.
repeated = st.tuples(
    st.sampled_from([piece for piece in _PIECES if piece.isprintable()]) | st.text(min_size=1, max_size=3),
    st.sampled_from([100, 3_000, 30_000 * min(SCALE, 10)]),
)
