"""Hypothesis strategies that damage files: arbitrary bytes, or the structure of JSON."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# Little-endian integers that overflow, wrap around, or declare more than the file holds.
_EXTREMES = [n.to_bytes(8, "little") for n in (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**10)]

Edit = Callable[[bytes], bytes]


def _places(size: int) -> st.SearchStrategy[int]:
    """Offsets, more often in the first bytes, where formats have their headers."""
    return st.integers(0, min(size, 64)) | st.integers(0, min(size, 4096)) | st.integers(0, size)


@st.composite
def _edits(draw: st.DrawFn, size: int) -> Edit:
    at = draw(_places(size))
    kind = draw(st.sampled_from(["replace", "insert", "extreme", "remove", "cut", "repeat"]))
    length = draw(st.integers(1, 64))
    new = draw(st.binary(min_size=1, max_size=9))
    extreme = draw(st.sampled_from(_EXTREMES))
    edits: dict[str, Edit] = {
        "replace": lambda whole: whole[:at] + new + whole[at + len(new) :],
        "insert": lambda whole: whole[:at] + new + whole[at:],
        "extreme": lambda whole: whole[:at] + extreme + whole[at + 8 :],
        "remove": lambda whole: whole[:at] + whole[at + length :],
        "cut": lambda whole: whole[:at],
        "repeat": lambda whole: whole[: at + length] + whole[at:],
    }
    return edits[kind]


@st.composite
def mutated_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes after one to three edits."""
    for edit in draw(st.lists(_edits(len(original)), min_size=1, max_size=3)):
        original = edit(original)
    return original


@dataclass(frozen=True)
class Literal:
    """JSON text that is written unchanged, even if it is not valid."""

    text: str


@dataclass(frozen=True)
class Object:
    """A JSON object in which keys may occur twice."""

    pairs: tuple[tuple[str, Any], ...]


_LITERALS = [
    Literal("NaN"),
    Literal("-Infinity"),
    Literal("1e999"),
    Literal("1" + "0" * 400),
    Literal("9" * 5000),
    Literal("[" * 5000 + "]" * 5000),
    Literal('{"a":' * 3000 + "1" + "}" * 3000),
    Literal('"\\ud800"'),
    Literal("0x10"),
    Literal(""),
]
_VALUES = [None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, 2**64, 1e308, "", [], {}, [0] * 10_000, "\x00", "\x1b[31m"]
_NAMES = ["", "..", "../../x", "/etc/passwd", "x" * 300, "a\nb", "\u202e", "\ud800", "model", "gpt2", "9" * 30]

_hostile = st.sampled_from(_LITERALS) | st.sampled_from(_VALUES) | st.sampled_from(_NAMES) | st.integers() | st.text()


@st.composite
def _changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with one change at some place in it."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 5)) == 0:
        return draw(_hostile)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    at = draw(st.sampled_from(keys) if len(keys) < 50 else st.integers(0, len(keys) - 1).map(keys.__getitem__))
    kind = draw(st.sampled_from(["inside", "inside", "inside", "remove", "twice", "rename"]))
    new = draw(_changed(value[at])) if kind in ("inside", "twice") else None
    if isinstance(value, list):
        return [*value[:at], *({"inside": [new], "twice": [value[at], new]}.get(kind, [])), *value[at + 1 :]]
    pairs = [(key, item) for key, item in value.items() if key != at]
    if kind == "rename":
        pairs.append((draw(st.text() | st.sampled_from(_NAMES)), value[at]))
    elif kind != "remove":
        pairs += [(at, value[at]), (at, new)] if kind == "twice" else [(at, new)]
    return Object(tuple(pairs))


def rendered(value: Any) -> str:
    """JSON text of a value that may contain `Literal` and `Object`."""
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, (dict, Object)):
        pairs = value.pairs if isinstance(value, Object) else value.items()
        return "{" + ",".join(f"{json.dumps(key)}:{rendered(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(rendered, value)) + "]"
    return json.dumps(value)


@st.composite
def mutated_json(draw: st.DrawFn, original: bytes) -> bytes:
    """A JSON document with one or two values changed, removed, renamed or duplicated, or with damaged bytes."""
    if draw(st.integers(0, 4)) == 0:
        return draw(mutated_bytes(original))
    document = json.loads(original)
    for _ in range(draw(st.integers(1, 2))):
        changed = draw(_changed(document))
        document = changed if not isinstance(changed, Object) else dict(changed.pairs)
    return rendered(changed if isinstance(changed, Object) else document).encode()


@st.composite
def mutated_safetensors(draw: st.DrawFn, original: bytes) -> bytes:
    """A safetensors file with damage anywhere, or with a changed header and the right header length."""
    if draw(st.booleans()):
        return draw(mutated_bytes(original))
    length = int.from_bytes(original[:8], "little")
    header = draw(mutated_json(original[8 : 8 + length]))
    return len(header).to_bytes(8, "little") + header + original[8 + length :]


@st.composite
def mutated_zip(draw: st.DrawFn, original: bytes) -> bytes:
    """A zip archive with damage anywhere, or with one damaged member in a valid archive."""
    if draw(st.booleans()):
        return draw(mutated_bytes(original))
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in members if name.endswith(".pkl")]
    changed = draw(st.sampled_from(pickles) | st.sampled_from(sorted(members)))
    members[changed] = draw(mutated_bytes(members[changed]))
    compression = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return file.getvalue()
