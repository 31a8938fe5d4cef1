"""Untrusted files: JSON is strict and bounded, only regular files are read, and messages quote bounded text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import ConfigError
from pellucid.json_object import parse_json, read_json_object
from pellucid.quoting import clipped, quoted

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_json_that_python_writes_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary() | st.text().map(str.encode) | json_values.map(lambda value: json.dumps(value).encode()), st.data())
def test_any_bytes_are_json_or_a_value_error(encoded: bytes, data: st.DataObject) -> None:
    mutated = bytearray(encoded)
    if mutated:
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.sampled_from(b'[]{}",:0eN-\\\xff'))
    try:
        value = parse_json(bytes(mutated))
    except ValueError as error:
        assert len(str(error)) < 500
    else:
        json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "has the key c twice"),
        ("[NaN]", "JSON has no NaN"),
        ("[-Infinity]", "JSON has no -Infinity"),
        ("[1e999]", "the number '1e999' in it is too large"),
        ("[" + "1" * 101 + "]", "a number in it has 101 digits"),
        ("[" * 65 + "]" * 65, "nested more than 64 levels"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_invalid_json_that_python_accepts_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text.encode())


def test_json_at_the_bounds_is_read() -> None:
    assert parse_json(b"1" * 100) == int("1" * 100)
    parse_json(b"[" * 64 + b"]" * 64)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read_json_object(path, ConfigError, max_bytes=8) == {"a": 1}
    with pytest.raises(ConfigError, match=r"x\.json is larger than 7 bytes"):
        read_json_object(path, ConfigError, max_bytes=7)


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=r"x\.json is larger than"):
        read_json_object(path, ConfigError)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


NOT_FILES = {
    "a FIFO": (make_fifo, "not a regular file"),
    "a link to a device that never ends": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a directory": (Path.mkdir, "directory"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic links"),
    "nothing": (lambda path: None, "No such file"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without FIFOs")
@pytest.mark.parametrize(("make", "message"), NOT_FILES.values(), ids=NOT_FILES)
def test_a_path_that_is_not_a_regular_file_is_refused_at_once(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(ConfigError, match=rf"x\.json cannot be read: .*{message}"):
        read_json_object(tmp_path / "x.json", ConfigError)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300])
def test_an_invalid_file_name_is_one_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_json_object(tmp_path / name, ConfigError)


values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary(max_size=50),
    lambda children: st.lists(children) | st.tuples(children) | st.dictionaries(st.text(), children),
)


@given(values)
def test_a_quoted_value_is_short_and_printable(value: Any) -> None:
    assert quoted(value).isprintable()
    assert len(quoted(value)) < 20_000


def test_huge_values_are_quoted_in_part() -> None:
    nested: list[Any] = []
    nested.append(nested)
    for value in ("x" * 10**6, [0] * 10**6, {str(i): i for i in range(10**5)}, 10**5000, nested):
        assert len(quoted(value)) < 500


def test_small_values_are_quoted_whole() -> None:
    for value in ("lm_head.weight", [50257, 768], {"a": 1}, 1.5, None, True, -(2**63)):
        assert quoted(value) == repr(value)


@given(st.text())
def test_a_clipped_name_is_short_and_printable(name: str) -> None:
    assert clipped(name).isprintable()
    assert len(clipped(name * 100)) < 1300


def test_an_ordinary_name_is_not_clipped() -> None:
    assert clipped("transformer.h.47.mlp.c_proj.weight") == "transformer.h.47.mlp.c_proj.weight"
    assert clipped("a\x1b[2Jb\ud800") == r"a\x1b[2Jb\ud800"
