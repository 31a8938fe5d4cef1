"""Texts for tokenizer tests: any Unicode, and text that is hard for byte-level BPE and its pre-tokenizer."""

from __future__ import annotations

from hypothesis import strategies as st

HARD_PIECES = [
    "<|endoftext|>",
    "<|endoftext",
    "|>",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\u00a0",
    "\u2028",
    "\u3000",
    "\ufeff",
    "\ufffd",
    "'s",
    "'ll",
    "’t",
    "don't",
    "I'M",
    "the",
    " the",
    "Ġ",
    "Ċ",
    "123",
    "４２",
    "½",
    "é",
    "e\u0301",
    "日本語",
    "🙂",
    "👩‍👩‍👧",
    "🇩🇪",
    "\U0010ffff",
    "ß",
    "İ",
    "़",
    "...",
    "--",
    "$1,000.00",
    "http://a.b/c?d=e",
]

texts = st.text() | st.lists(st.sampled_from(HARD_PIECES) | st.text(max_size=4), max_size=12).map("".join)
