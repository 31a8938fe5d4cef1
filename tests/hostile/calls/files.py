"""Calls on a file: load it and decode a few tokens, or read a record or a trace."""

from __future__ import annotations

import io
from pathlib import Path

import torch  # noqa: F401  # imported here so that no call is charged for it
from rich.console import Console

import pellucid
from pellucid.decoding.records.record import Record
from pellucid.lens.trace import Trace

TEXT = "the quick fox 日本"


def load(path: str, engine: str = "native") -> None:
    """Load a model, decode, and use its tokenizer."""
    lm = pellucid.load(path, engine=engine)  # type: ignore[arg-type]
    ids = lm.tokenizer.encode(TEXT) if Path(path).is_dir() and (Path(path) / "tokenizer_config.json").exists() else [1]
    lm.tokenizer.decode(ids) if len(ids) > 1 else None
    lm.generate(ids or [1], max_new_tokens=2)


def read_record(path: str, model: str) -> None:
    """Read a record, display it, and replay it unless that is refused."""
    record = Record.from_json(Path(path).read_text(encoding="utf-8", errors="surrogateescape"))
    Console(file=io.StringIO(), width=80).print(record)
    record.to_json()
    pellucid.load(model).replay(record)


def read_trace(path: str) -> None:
    """Read a trace and all of its activations."""
    trace = Trace.load(path)
    for name in trace:
        trace[name].sum()
