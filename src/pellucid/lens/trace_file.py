"""Traces on disk: a safetensors file of float32 tensors by activation name, gradients under `gradient/`, and one JSON
object in its metadata that says what was traced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pellucid.checkpoint.safetensors_file import read_safetensors, read_safetensors_metadata
from pellucid.checkpoint.stored import FileSegment
from pellucid.config import GPT2Config
from pellucid.engine import FloatArray
from pellucid.errors import CheckpointError, ConfigError, TraceError
from pellucid.lens.names import Names, is_name, select, shape_of
from pellucid.lens.traced_model import TracedModel
from pellucid.whole_file import whole_file

if TYPE_CHECKING:
    from pellucid.lens.trace import Trace
    from pellucid.reference.model import GPT2LMHeadModel
    from pellucid.tokenizer import GPT2Tokenizer

METADATA_KEY = "pellucid_trace"
VERSION = 1
GRADIENT = "gradient/"

AnyTrace = TypeVar("AnyTrace", bound="Trace")


def write_trace(path: Path, trace: Trace) -> None:
    """Write a trace; a file that was there stays unless all is written. Raises `PellucidError` for a path that cannot
    be written."""
    about = {
        "version": VERSION,
        "model_name": trace.model_name,
        "precision": trace.precision,
        "config": trace.config.to_dict(),
        "ids": trace.ids,
        "tokens": list(trace.tokens),
        "start": trace.start,
        "value": trace.value,
    }
    arrays = {name: trace[name] for name in trace}
    if trace.value is not None:
        arrays |= {GRADIENT + name: trace.gradient(name) for name in trace}
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: json.dumps(about)}}
    offset = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    with whole_file(path) as target:
        with target.partial.open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for array in arrays.values():
                file.write(np.ascontiguousarray(array, dtype="<f4").data)
        target.complete()


def read_trace(kind: type[AnyTrace], path: Path, model: Any, names: Names) -> AnyTrace:
    """Read a trace, or of its activations those that are asked for; `Trace.load` says what is raised."""
    try:
        stored = read_safetensors(path)
        about = _About.of(read_safetensors_metadata(path))
        held = [name for name in stored if not name.startswith(GRADIENT)]
        for name, tensor in stored.items():
            about.check(name, tensor)
        reference, tokenizer = _model_of(model, about.config)
        chosen = select(names, held)
        return kind(
            {name: stored[name].read() for name in chosen},
            TracedModel(about.config, reference, about.model_name, about.precision, tokenizer),
            ids=about.ids,
            tokens=about.tokens,
            start=about.start,
            gradients=_gradients(stored, chosen) if about.value is not None else None,
            value=about.value,
        )
    except CheckpointError as error:  # it names the file
        raise TraceError(str(error)) from error
    except (_NoTraceError, ConfigError) as error:
        raise TraceError(f"{path} is no trace that can be read: {error}") from error


class _NoTraceError(Exception):
    """What is wrong with a file that is a whole safetensors file."""


@dataclass(frozen=True)
class _About:
    """What a file says of what was traced."""

    config: GPT2Config
    ids: list[int]
    tokens: list[str | None]
    start: int
    model_name: str | None
    precision: str
    value: float | None

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> _About:
        said = metadata.get(METADATA_KEY)
        if not isinstance(said, str):
            raise _NoTraceError(f'its metadata has no "{METADATA_KEY}"; Trace.save writes one')
        try:
            about = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise _NoTraceError(f'"{METADATA_KEY}" in its metadata is not valid JSON: {error}') from error
        if not isinstance(about, dict) or about.get("version") != VERSION:
            version = about.get("version") if isinstance(about, dict) else None
            raise _NoTraceError(f"it is of version {version!r}; this is the reader of version {VERSION}")
        return cls(
            config=GPT2Config.from_dict(_field(about, "config", dict)),
            ids=_list(about, "ids", int),
            tokens=_list(about, "tokens", str, type(None)),
            start=_field(about, "start", int),
            model_name=_field(about, "model_name", str, type(None)),
            precision=_field(about, "precision", str),
            value=_field(about, "value", float, int, type(None)),
        )._consistent()

    def _consistent(self) -> _About:
        if len(self.tokens) != len(self.ids):
            raise _NoTraceError(f"it has {len(self.ids)} ids and {len(self.tokens)} tokens")
        if wrong := [token for token in self.ids if not 0 <= token < self.config.vocab_size]:
            raise _NoTraceError(f"it has id {wrong[0]}, which its model has no row for")
        if self.start < 0 or self.start + len(self.ids) > self.config.n_positions:
            raise _NoTraceError(f"its tokens do not fit in its model's {self.config.n_positions} positions")
        return self

    def check(self, key: str, tensor: FileSegment) -> None:
        """Raise unless a tensor is what its name says."""
        name = key.removeprefix(GRADIENT)
        if not is_name(name, self.config.n_layer):
            raise _NoTraceError(f"tensor {key} is no activation of its model")
        if tensor.dtype != "float32":
            raise _NoTraceError(f"tensor {key} is {tensor.dtype}; a trace holds float32")
        seq = len(self.ids)
        shapes = [shape_of(name, self.config, seq, self.start + seq)]
        if name == "logits" and len(tensor.shape) == 3:  # a step of a decode may hold fewer
            shapes.append(shape_of(name, self.config, min(seq, tensor.shape[1])))
        if tensor.shape not in shapes:
            raise _NoTraceError(f"tensor {key} has the shape {list(tensor.shape)}; it must be {list(shapes[0])}")


def _field(about: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = about.get(name)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise _NoTraceError(f"its {name} is {str(value)[:40]!r}, which it cannot be")
    return value


def _list(about: Mapping[str, Any], name: str, *kinds: type) -> list[Any]:
    values: list[Any] = _field(about, name, list)
    for value in values:
        _field({name: value}, name, *kinds)
    return values


def _gradients(stored: Mapping[str, FileSegment], names: tuple[str, ...]) -> dict[str, FloatArray]:
    if missing := [name for name in names if GRADIENT + name not in stored]:
        raise _NoTraceError(f"it has gradients, but none for {missing[0]}")
    return {name: stored[GRADIENT + name].read() for name in names}


def _model_of(model: Any, config: GPT2Config) -> tuple[GPT2LMHeadModel | None, GPT2Tokenizer | None]:
    """The model in torch, and the tokenizer, of the `LanguageModel` or model in torch that a trace is loaded with."""
    if model is None:
        return None, None
    reference, tokenizer = getattr(model, "model", model), getattr(model, "known_tokenizer", None)
    if not hasattr(reference, "transformer"):
        raise _NoTraceError(f"its model must be a LanguageModel or a GPT2LMHeadModel, not a {type(model).__name__}")
    if reference.config != config:
        raise _NoTraceError("it was made with a model of another configuration than the one given")
    return reference, tokenizer
