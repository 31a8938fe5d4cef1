"""The file format of traces: safetensors, with float32 tensors by activation name and gradients under `gradient/`.

One JSON object in the metadata holds the model's name and configuration, the tokens and their position.
"""

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
    """Write a trace atomically. Raises `PellucidError` if the path cannot be written."""
    metadata = {
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
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: json.dumps(metadata)}}
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
    """Read the selected activations of a trace. Raises what `Trace.load` raises."""
    try:
        stored = read_safetensors(path)
        metadata = _Metadata.parse(read_safetensors_metadata(path))
        activations = [name for name in stored if not name.startswith(GRADIENT)]
        for name, tensor in stored.items():
            metadata.check(name, tensor)
        reference, tokenizer = _model_and_tokenizer(model, metadata.config)
        chosen = select(names, activations)
        return kind(
            {name: stored[name].read() for name in chosen},
            TracedModel(metadata.config, reference, metadata.model_name, metadata.precision, tokenizer),
            ids=metadata.ids,
            tokens=metadata.tokens,
            start=metadata.start,
            gradients=_gradients(stored, chosen) if metadata.value is not None else None,
            value=metadata.value,
        )
    except CheckpointError as error:  # its message names the file
        raise TraceError(str(error)) from error
    except (_InvalidTraceError, ConfigError) as error:
        raise TraceError(f"{path} is not a valid trace: {error}") from error


class _InvalidTraceError(Exception):
    """A valid safetensors file is not a valid trace. The message gives the reason without the path."""


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a trace's file, validated."""

    config: GPT2Config
    ids: list[int]
    tokens: list[str | None]
    start: int
    model_name: str | None
    precision: str
    value: float | None

    @classmethod
    def parse(cls, metadata: Mapping[str, str]) -> _Metadata:
        encoded = metadata.get(METADATA_KEY)
        if not isinstance(encoded, str):
            raise _InvalidTraceError(f'its metadata has no "{METADATA_KEY}"; Trace.save writes one')
        try:
            fields = json.loads(encoded)
        except (ValueError, RecursionError) as error:
            raise _InvalidTraceError(f'"{METADATA_KEY}" in its metadata is not valid JSON: {error}') from error
        if not isinstance(fields, dict) or fields.get("version") != VERSION:
            version = fields.get("version") if isinstance(fields, dict) else None
            raise _InvalidTraceError(f"its version is {version!r}; this reader supports version {VERSION}")
        return cls(
            config=GPT2Config.from_dict(_field(fields, "config", dict)),
            ids=_list(fields, "ids", int),
            tokens=_list(fields, "tokens", str, type(None)),
            start=_field(fields, "start", int),
            model_name=_field(fields, "model_name", str, type(None)),
            precision=_field(fields, "precision", str),
            value=_field(fields, "value", float, int, type(None)),
        )._validated()

    def _validated(self) -> _Metadata:
        if len(self.tokens) != len(self.ids):
            raise _InvalidTraceError(f"it has {len(self.ids)} ids and {len(self.tokens)} tokens")
        if wrong := [token for token in self.ids if not 0 <= token < self.config.vocab_size]:
            raise _InvalidTraceError(f"it has id {wrong[0]}; its model's ids are 0 to {self.config.vocab_size - 1}")
        if self.start < 0 or self.start + len(self.ids) > self.config.n_positions:
            raise _InvalidTraceError(f"its tokens do not fit in its model's {self.config.n_positions} positions")
        return self

    def check(self, key: str, tensor: FileSegment) -> None:
        """Raise if a tensor's name, number type or shape is wrong."""
        name = key.removeprefix(GRADIENT)
        if not is_name(name, self.config.n_layer):
            raise _InvalidTraceError(f"tensor {key} is not an activation of its model")
        if tensor.dtype != "float32":
            raise _InvalidTraceError(f"tensor {key} is {tensor.dtype}; it must be float32")
        seq = len(self.ids)
        shapes = [shape_of(name, self.config, seq, self.start + seq)]
        if name == "logits" and len(tensor.shape) == 3:  # a step of a decode may have logits for fewer positions
            shapes.append(shape_of(name, self.config, min(seq, tensor.shape[1])))
        if tensor.shape not in shapes:
            raise _InvalidTraceError(f"tensor {key} has the shape {list(tensor.shape)}; it must be {list(shapes[0])}")


def _field(fields: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = fields.get(name)
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise _InvalidTraceError(f"its {name} is {str(value)[:40]!r}; it must be {expected}")
    return value


def _list(fields: Mapping[str, Any], name: str, *kinds: type) -> list[Any]:
    values: list[Any] = _field(fields, name, list)
    for value in values:
        _field({name: value}, name, *kinds)
    return values


def _gradients(stored: Mapping[str, FileSegment], names: tuple[str, ...]) -> dict[str, FloatArray]:
    if missing := [name for name in names if GRADIENT + name not in stored]:
        raise _InvalidTraceError(f"it has gradients, but none for {missing[0]}")
    return {name: stored[GRADIENT + name].read() for name in names}


def _model_and_tokenizer(model: Any, config: GPT2Config) -> tuple[GPT2LMHeadModel | None, GPT2Tokenizer | None]:
    """The model in torch and the tokenizer of a `LanguageModel` or a `GPT2LMHeadModel`; None for what is missing."""
    if model is None:
        return None, None
    reference, tokenizer = getattr(model, "model", model), getattr(model, "known_tokenizer", None)
    if not hasattr(reference, "transformer"):
        raise _InvalidTraceError(f"model must be a LanguageModel or a GPT2LMHeadModel, not a {type(model).__name__}")
    if reference.config != config:
        raise _InvalidTraceError("the given model has another configuration than the traced one")
    return reference, tokenizer
