"""Files that demand far more time or memory than their size justifies, and paths that are not regular files."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Spoil = Callable[[Path], None]


def _with_header(header: str, data: bytes = b"") -> bytes:
    encoded = header.encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def _entry(shape: Any, begin: int = 0, end: int = 0) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def _weights(folder: Path, contents: bytes) -> None:
    (folder / "model.safetensors").write_bytes(contents)


def duplicate_among_many_keys(folder: Path) -> None:
    body = ",".join(f'"t{number}":{json.dumps(_entry([0]))}' for number in [*range(40_000), 7])
    _weights(folder, _with_header("{" + body + "}"))


def sizes_of_many_digits(folder: Path) -> None:
    entry = '{"dtype":"F32","shape":[' + "9" * 4000 + '],"data_offsets":[0,' + "9" * 4000 + "]}"
    _weights(folder, _with_header("{" + ",".join(f'"t{number}":{entry}' for number in range(500)) + "}"))


def many_digits_in_one_shape(folder: Path) -> None:
    shape = ",".join(["9" * 4000] * 2000)
    _weights(folder, _with_header('{"t":{"dtype":"F32","shape":[' + shape + '],"data_offsets":[0,0]}}'))


def a_million_empty_tensors(folder: Path) -> None:
    entry = json.dumps(_entry([0]))
    _weights(folder, _with_header("{" + ",".join(f'"t{number}":{entry}' for number in range(1_000_000)) + "}"))


def a_shape_of_ten_million(folder: Path) -> None:
    _weights(folder, _with_header(json.dumps({"t": _entry([1] * 10_000_000, 0, 4)}), b"\0" * 4))


def a_header_longer_than_the_file(folder: Path) -> None:
    _weights(folder, (2**60).to_bytes(8, "little") + b"{}")


def _state(folder: Path, value: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(value, folder / "pytorch_model.bin")


def lists_in_lists(folder: Path) -> None:
    nested: Any = torch.zeros(1)
    for _ in range(300):
        nested = [nested]
    _state(folder, {"wte.weight": nested})


def a_pickle_of_great_depth(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    body = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", b"3\n")


def a_list_that_holds_itself(folder: Path) -> None:
    nested: list[Any] = []
    nested.append(nested)
    _state(folder, {"wte.weight": nested})


def strides_of_zero(folder: Path) -> None:
    _state(folder, {"wte.weight": torch.zeros(1).expand(1 << 33)})


def deflated_zeros(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"wte.weight": torch.zeros(1 << 25)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)


def a_call_in_a_pickle(folder: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(folder / "executed"),))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Call()))


def an_exploding_normalizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    double = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "normalizer": {"type": "Sequence", "normalizers": [double] * 40}})
    )


def _gguf(folder: Path, *fields: bytes) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "model.gguf").write_bytes(b"GGUF" + struct.pack("<I", 3) + b"".join(fields))


def gguf_of_many_tensors(folder: Path) -> None:
    _gguf(folder, struct.pack("<QQ", 2**60, 0))


def gguf_with_a_long_string(folder: Path) -> None:
    _gguf(folder, struct.pack("<QQQ", 0, 1, 2**62), b"key")


def gguf_of_nested_arrays(folder: Path) -> None:
    nested = struct.pack("<IQ", 9, 1) * 50_000
    _gguf(folder, struct.pack("<QQQ", 0, 1, 1), b"k", struct.pack("<I", 9), nested)


def huge_sizes(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_layer": 10**9, "n_positions": 2**62}))


def an_epsilon_of_many_digits(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"layer_norm_epsilon": 1e-05', '"layer_norm_epsilon": 1' + "0" * 400))


def a_deep_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def _replaced_by(file: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return spoil


def spoilers() -> Iterator[tuple[str, Spoil]]:
    """Functions that damage a model folder, by name."""
    yield from (
        (function.__name__.replace("_", " "), function)
        for function in (
            duplicate_among_many_keys,
            sizes_of_many_digits,
            many_digits_in_one_shape,
            a_million_empty_tensors,
            a_shape_of_ten_million,
            a_header_longer_than_the_file,
            lists_in_lists,
            a_pickle_of_great_depth,
            a_list_that_holds_itself,
            strides_of_zero,
            deflated_zeros,
            a_call_in_a_pickle,
            an_exploding_normalizer,
            gguf_of_many_tensors,
            gguf_with_a_long_string,
            gguf_of_nested_arrays,
            huge_sizes,
            an_epsilon_of_many_digits,
            a_deep_config,
        )
    )
    for file in FILES:
        yield f"a FIFO as {file}", _replaced_by(file, lambda path: os.mkfifo(path))
        yield f"/dev/zero as {file}", _replaced_by(file, lambda path: path.symlink_to("/dev/zero"))
        yield f"a folder as {file}", _replaced_by(file, lambda path: path.mkdir())
        yield f"a loop of links as {file}", _replaced_by(file, lambda path: path.symlink_to(path.name))
        yield f"nothing in {file}", _replaced_by(file, lambda path: path.touch())
