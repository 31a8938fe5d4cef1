"""What a person does with a file: load it and decode a little; read a record or a trace."""

from __future__ import annotations

import io
from pathlib import Path

import torch  # noqa: F401  # so that its import counts for no call
from rich.console import Console

import pellucid
from pellucid.decoding.records.record import Record
from pellucid.lens.trace import Trace

TEXT = "the quick fox 日本"


def load(path: str, engine: str = "native") -> None:
    """A model that loads also decodes, and its tokenizer works."""
    lm = pellucid.load(path, engine=engine)  # type: ignore[arg-type]
    ids = lm.tokenizer.encode(TEXT) if Path(path).is_dir() and (Path(path) / "tokenizer_config.json").exists() else [1]
    lm.tokenizer.decode(ids) if len(ids) > 1 else None
    lm.generate(ids or [1], max_new_tokens=2)


def read_record(path: str, model: str) -> None:
    """A record that can be read can be shown, and replayed or refused."""
    record = Record.from_json(Path(path).read_text(encoding="utf-8", errors="surrogateescape"))
    Console(file=io.StringIO(), width=80).print(record)
    record.to_json()
    pellucid.load(model).replay(record)


def read_trace(path: str) -> None:
    """A trace that can be read gives its activations."""
    trace = Trace.load(path)
    for name in trace:
        trace[name].sum()
