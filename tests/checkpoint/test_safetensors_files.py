"""The safetensors reader checks every statement of a header before it uses it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save, save_file

from pellucid.checkpoint.layout import canonical_name
from pellucid.checkpoint.safetensors_file import read_safetensors
from pellucid.errors import CheckpointError

once_per_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

arrays = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements=st.floats(-1000, 1000, width=16),
)


def file_of(header: dict[str, Any] | str | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    encoded = (
        header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    )
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@once_per_test
@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), arrays, max_size=4))
def test_what_safetensors_writes_is_read_back(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    path = tmp_path / "any.safetensors"
    save_file(tensors, path)
    read = read_safetensors(path)
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name].read(), array.astype(np.float32))


@once_per_test
@given(data=st.data())
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = save({"a": np.ones((3, 5), np.float32), "b": np.zeros(7, np.float16)}, metadata={"format": "pt"})
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        read_safetensors(path)


@once_per_test
@given(data=st.data())
def test_a_damaged_header_is_refused_wherever_safetensors_itself_refuses_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4, dtype=np.float16)}))
    header_end = 8 + int.from_bytes(whole[:8], "little")
    for position in data.draw(st.lists(st.integers(0, header_end - 1), min_size=1, max_size=3)):
        whole[position] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(whole)
    try:
        with safetensors.safe_open(path, "np") as oracle:
            expected = {name: oracle.get_slice(name).get_shape() for name in oracle.keys()}  # noqa: SIM118
    except Exception:
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
            read_safetensors(path)
    else:
        assert {name: list(tensor.shape) for name, tensor in read_safetensors(path).items()} == expected


LYING_HEADERS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "truncated: 0 bytes"),
    "no header": (b"\x08\0\0\0", "truncated: 4 bytes"),
    "header past the end": (file_of("{}", length=3), "truncated, or .*: its header claims 3 bytes, the file has 10"),
    "header of absurd length": (
        file_of("{}", length=2**40),
        "no safetensors file: its header claims 1,099,511,627,776",
    ),
    "not JSON": (file_of("{'a': 1}"), "not valid JSON"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "not valid JSON"),
    "deeply nested": (file_of("[" * 200_000), "not valid JSON"),
    "endless number": (file_of('{"w": ' + "9" * 5000 + "}"), "not valid JSON"),
    "not an object": (file_of("[]"), "must be a JSON object, not a list"),
    "entry that is none": (file_of({"w": 3}), "tensor w lacks dtype, shape or data_offsets"),
    "entry without a shape": (file_of({"w": {"dtype": "F32", "data_offsets": [0, 0]}}), "tensor w lacks"),
    "unknown type": (file_of({"w": entry([1], 0, 4, "F33")}, bytes(4)), "tensor w has the unknown type 'F33'"),
    "type that is no name": (file_of({"w": entry([1], 0, 4, ["F32"])}, bytes(4)), "tensor w has the unknown type"),
    "negative size": (file_of({"w": entry([-1], 0, 4)}, bytes(4)), r"tensor w has the shape \[-1\]"),
    "boolean size": (file_of({"w": entry([True], 0, 4)}, bytes(4)), r"tensor w has the shape \[True\]"),
    "shape that is a number": (file_of({"w": entry(1, 0, 4)}, bytes(4)), "tensor w has the shape 1"),
    "reversed range": (file_of({"w": entry([1], 4, 0)}, bytes(4)), r"tensor w has the data_offsets \[4, 0\]"),
    "fractional range": (file_of({"w": entry([1], 0, 4.0)}, bytes(4)), "tensor w has the data_offsets"),
    "sizes that an empty array cannot have": (
        file_of({"w": entry([0, 2**62], 0, 0)}),
        r"tensor w has the shape \[0, 4611686018427387904\], too large for an empty array",
    ),
    "size not of its shape": (
        file_of({"w": entry([2], 0, 4)}, bytes(4)),
        r"tensor w takes 4 bytes, but F32 of shape \[2\] takes 8",
    ),
    "past the end": (
        file_of({"w": entry([2], 0, 8)}, bytes(4)),
        "tensor w ends at byte 8 of the data, but there are only 4",
    ),
    "overlap": (
        file_of({"v": entry([2], 0, 8), "w": entry([1], 4, 8)}, bytes(8)),
        "tensor w overlaps the one before it, at byte 4",
    ),
    "gap": (
        file_of({"v": entry([1], 0, 4), "w": entry([1], 8, 12)}, bytes(12)),
        "4 bytes before tensor w belong to no",
    ),
    "bytes left over": (file_of({"w": entry([1], 0, 4)}, bytes(6)), "the last 2 bytes belong to no tensor"),
    "name twice": (
        file_of('{"w": %s, "w": %s}' % ((json.dumps(entry([1], 0, 4)),) * 2), bytes(4)),
        "its header .* has the key w twice",
    ),
}


@pytest.mark.parametrize(("contents", "message"), LYING_HEADERS.values(), ids=LYING_HEADERS)
def test_an_inconsistent_header_is_one_error_that_names_file_and_tensor(
    contents: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "lying.safetensors"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=rf"lying\.safetensors.*{message}"):
        read_safetensors(path)


ENORMOUS_HEADERS: dict[str, tuple[bytes, str]] = {
    "thousands of empty tensors": (
        file_of({str(i): entry([0], 0, 0) for i in range(30_000)}),
        "its header has .* bytes; at most",
    ),
    "one duplicate among thousands": (
        file_of("{" + ",".join(f'"{i}":0' for i in (*range(40_000), 39_999)) + "}"),
        "has the key 39999 twice",
    ),
    "sizes of thousands of digits": (file_of({"w": entry([10**4000] * 200, 0, 4)}), "has 4,001 digits"),
    "sizes whose product has thousands of digits": (
        file_of({"w": entry([2**63 - 1] * 60, 0, 4)}, bytes(4)),
        r"takes 4 bytes, but F32 of shape \[9223372036854775807, ",
    ),
    "hundreds of thousands of dimensions": (
        file_of({"w": entry([1] * 300_000, 0, 4)}, bytes(4)),
        r"tensor w has the shape \[1, 1, .*\]; a shape is a list of at most 64",
    ),
    "a prefix without end": (
        file_of({"module." * 100_000: entry([1], 0, 4), "x": 1}, bytes(4)),
        r"tensor x lacks dtype",
    ),
    "a name of a megabyte": (file_of({"w" * 10**6: 3}), r"tensor w+\.\.\.w+ lacks dtype"),
    "control characters": (file_of({"\x1b[2J\x07": 3}), r"tensor \\x1b\[2J\\x07 lacks dtype"),
    "a type of a megabyte": (file_of({"w": entry([1], 0, 4, "F" * 10**6)}, bytes(4)), "has the unknown type 'F"),
    "offsets without end": (
        file_of({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0] * 300_000}}, bytes(4)),
        "has the data_offsets",
    ),
    "empty lists in lists": (file_of("[" + ",".join(["[]"] * 100_000) + "]"), "must be a JSON object"),
}


@pytest.mark.parametrize(("contents", "message"), ENORMOUS_HEADERS.values(), ids=ENORMOUS_HEADERS)
def test_an_enormous_header_is_refused_in_bounded_memory(contents: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "enormous.safetensors"
    path.write_bytes(contents)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=rf"enormous\.safetensors.*{message}") as caught:
            read_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()


def test_a_repeated_prefix_is_stripped_once() -> None:
    assert canonical_name("module." * 10**6 + "wte.weight") == "wte.weight"


def test_a_huge_shape_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "lying.safetensors"
    path.write_bytes(file_of({"w": entry([2**40, 2**40], 0, 4)}, bytes(4)))
    with pytest.raises(CheckpointError, match="tensor w takes 4 bytes"):
        read_safetensors(path)


def test_a_file_that_vanishes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "gone.safetensors"
    save_file({"w": np.ones(3, np.float32)}, path)
    tensor = read_safetensors(path)["w"]
    path.unlink()
    with pytest.raises(CheckpointError, match=r"gone\.safetensors cannot be read any more"):
        tensor.read()
    with pytest.raises(CheckpointError, match=r"gone\.safetensors cannot be read"):
        read_safetensors(path)
