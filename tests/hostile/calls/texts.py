"""Texts in the tokenizer, compared with that of Transformers, and in commands that print to a terminal."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import transformers

import pellucid
from pellucid.cli.app import app
from pellucid.errors import TokenizerError
from pellucid.tokenizer import GPT2Tokenizer

transformers.logging.set_verbosity_error()
os.environ.update(TERM="dumb", COLUMNS="80", HF_HUB_OFFLINE="1")  # a terminal without escape sequences


@cache
def _tokenizers() -> tuple[GPT2Tokenizer, Any]:
    assets = Path(pellucid.__file__).parent / "assets" / "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(assets / "encoder.json", Path(folder, "vocab.json"))
        shutil.copy(assets / "vocab.bpe", Path(folder, "merges.txt"))
        Path(folder, "config.json").write_text('{"model_type": "gpt2"}')
        return GPT2Tokenizer.bundled(), transformers.AutoTokenizer.from_pretrained(folder)


def round_trip(text: str) -> int:
    """Check that ids equal those of Transformers and decode to the text. Text that UTF-8 cannot hold is refused."""
    ours, theirs = _tokenizers()
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            ours.encode(text)
        except TokenizerError:
            raise
        raise AssertionError("a lone surrogate was encoded") from None
    ids = ours.encode(text)
    assert ids == theirs.encode(text), f"{ids} for {theirs.encode(text)}"
    assert ours.decode(ids) == text, f"decoded as {ours.decode(ids)!r}"
    assert ours([text])["input_ids"] == [ids]
    assert b"".join(map(ours.token_bytes, ids)) == text.encode()
    return len(ids)


def long_round_trip(piece: str, times: int) -> int:
    """Like `round_trip`, for a repeated piece, in one pass, because long texts take long."""
    ours, theirs = _tokenizers()
    ids = ours.encode(piece * times)
    assert ids == theirs.encode(piece * times)
    assert ours.decode(ids) == piece * times
    return len(ids)


class _Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a terminal of the trial's own")


@contextmanager
def _terminal() -> Iterator[tuple[_Terminal, _Terminal]]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams = _Terminal(), _Terminal()
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before


def shown(arguments: list[str]) -> int:
    """Run a command on a terminal; check for a regular exit status and for output without control sequences."""
    with _terminal() as streams:
        try:
            app(arguments)
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
        written = []
        for stream in streams:
            stream.flush()
            written.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    assert status in (0, 1, 2), f"status {status}"
    for text in written:
        assert "Traceback" not in text, text
        raw = {character for character in text if _steers(character)}
        assert not raw, f"{arguments[0]} wrote {raw} in {text!r}"
    return int(status)


def _steers(character: str) -> bool:
    """True for control characters other than line ends and tabs."""
    return unicodedata.category(character) == "Cc" and character not in "\n\t"
