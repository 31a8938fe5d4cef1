"""Damaged and hostile files of every format give a `PellucidError` or the weights, in bounded memory."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.checkpoint import open_checkpoint, open_tokenizer
from pellucid.checkpoint.gguf_container import read_container
from pellucid.checkpoint.torch_file import read_state_dict, read_torch_file
from pellucid.errors import CheckpointError, PellucidError

mutations = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)

NANOGPT = {"n_layer": 1, "n_head": 1, "n_embd": 2, "block_size": 3, "vocab_size": 5, "bias": False}


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A valid model in each format, each in its own folder."""
    from tests.checkpoint.conftest import make_model

    root = tmp_path_factory.mktemp("originals")
    model = make_model(n_embd=8, n_head=2, n_layer=1, vocab_size=11, n_positions=4)
    folders = {}
    for name in ("one file", "shards", "zip", "legacy"):
        folders[name] = root / name
        model.save_pretrained(folders[name], max_shard_size="2KB" if name == "shards" else "1GB")
    for name in ("zip", "legacy"):
        (folders[name] / "model.safetensors").unlink()
        path = folders[name] / "pytorch_model.bin"
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=name == "zip")
    (root / "nanogpt").mkdir()
    shapes = {"wte.weight": (5, 2), "wpe.weight": (3, 2), "ln_f.weight": (2,), "h.0.ln_1.weight": (2,)}
    shapes |= {"h.0.ln_2.weight": (2,), "h.0.attn.c_attn.weight": (6, 2), "h.0.attn.c_proj.weight": (2, 2)}
    shapes |= {"h.0.mlp.c_fc.weight": (8, 2), "h.0.mlp.c_proj.weight": (2, 8)}
    state = {f"transformer.{name}": torch.rand(shape) for name, shape in shapes.items()}
    contents = {"model": state, "model_args": NANOGPT, "optimizer": {"state": {0: {"step": torch.ones(())}}}}
    torch.save(contents, root / "nanogpt" / "ckpt.pt")
    return {
        "config.json": folders["one file"] / "config.json",
        "generation_config.json": folders["one file"] / "generation_config.json",
        "model.safetensors": folders["one file"] / "model.safetensors",
        "index.json": folders["shards"] / "model.safetensors.index.json",
        "zip": folders["zip"] / "pytorch_model.bin",
        "legacy": folders["legacy"] / "pytorch_model.bin",
        "nanogpt": root / "nanogpt" / "ckpt.pt",
    }


@st.composite
def mutated(draw: st.DrawFn, contents: bytes) -> bytes:
    """A few bytes changed, removed or repeated, mostly in the first and last kilobytes, where headers are."""
    changed = bytearray(contents)
    for _ in range(draw(st.integers(1, 4))):
        size = max(1, len(changed))
        place = draw(st.one_of(st.integers(0, min(size, 3000)), st.integers(max(0, size - 3000), size)))
        length = draw(st.sampled_from([0, 1, 1, 2, 8, 100]))
        inserted = draw(st.one_of(st.binary(max_size=9), st.just(bytes(changed[place : place + length]) * 2)))
        changed[place : place + length] = inserted
    return bytes(changed)


FORMATS = ["config.json", "generation_config.json", "model.safetensors", "index.json", "zip", "legacy", "nanogpt"]


@pytest.mark.parametrize("kind", FORMATS)
@mutations
@given(data=st.data())
def test_a_mutated_file_gives_a_pellucid_error_or_a_model(
    kind: str, data: st.DataObject, originals: dict[str, Path], tmp_path: Path
) -> None:
    original = originals[kind]
    folder = tmp_path / "mutated"
    shutil.copytree(original.parent, folder, dirs_exist_ok=True)
    (folder / original.name).write_bytes(data.draw(mutated(original.read_bytes())))
    target = folder / original.name if kind == "nanogpt" else folder
    with memory_below(32 << 20), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checkpoint = open_checkpoint(target)
        except PellucidError as error:
            assert len(str(error)) < 5000
            return
        for name in checkpoint.tensor_names():
            assert checkpoint.take(name).shape == checkpoint.shape(name)


def torch_zip(path: Path, pickled: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, contents in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", contents)
    return path


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def tensor(shape: list[int], strides: list[int], *, elements: int = 4, first: int = 0) -> bytes:
    """Pickle of a tensor on storage 0."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(elements) + b"tQ"
    sizes = b"(" + b"".join(map(number, shape)) + b"t(" + b"".join(map(number, strides)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(first) + sizes + b"\x89}tR"


def dictionary(**values: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in values.items()) + b"u."


class TestTorchFiles:
    def error(self, path: Path) -> str:
        with memory_below(64 << 20), pytest.raises(CheckpointError) as caught:
            read_state_dict(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 4000
        return str(caught.value)

    def test_a_valid_file_written_the_same_way_is_read(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(w=tensor([2, 2], [1, 2])), _0=struct.pack("<4f", 1, 2, 3, 4))
        assert read_state_dict(path)["w"].read().tolist() == [[1, 3], [2, 4]]

    def test_strides_of_zero(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(w=tensor([2**33], [0])), _0=bytes(16))
        assert "tensor w has 8,589,934,592 elements, but 1 are stored" in self.error(path)

    def test_strides_that_overlap(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(w=tensor([2, 2, 2, 2], [1, 1, 0, 0])), _0=bytes(16))
        assert "tensor w has 16 elements, but 3 are stored" in self.error(path)

    def test_a_view_beyond_its_storage(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(w=tensor([4], [1], first=1)), _0=bytes(16))
        assert "tensor w takes 20 bytes, but 16 are stored" in self.error(path)

    def test_a_storage_larger_than_its_record(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(w=tensor([4], [1], elements=2**40)), _0=bytes(16))
        assert "its storage 0 is missing or short" in self.error(path)

    def test_many_tensors_in_one_storage(self, tmp_path: Path) -> None:
        views = {f"w{i}": tensor([50_000], [1], elements=50_000) for i in range(30)}
        path = torch_zip(tmp_path / "x.bin", dictionary(**views), _0=bytes(200_000))
        assert "its tensors share storage: they take 6,000,000 bytes" in self.error(path)

    @pytest.mark.parametrize("shape", [[2**62] * 64, [0, 2**62], [1] * 65, [-1], [2**64]])
    def test_enormous_sizes(self, shape: list[int], tmp_path: Path) -> None:
        self.error(torch_zip(tmp_path / "x.bin", dictionary(w=tensor(shape, [1] * len(shape))), _0=bytes(16)))

    def test_a_dictionary_that_contains_itself(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", b"\x80\x02}q\x00" + text("a") + b"h\x00s.")
        assert "its entry 'a' is a dict, not a tensor" in self.error(path)

    def test_five_thousand_nested_lists(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(a=b"]" * 5000 + b"a" * 4999))
        assert "its entry 'a' is a list, not a tensor" in self.error(path)

    def test_lists_that_refer_to_each_other_twice_forty_deep(self, tmp_path: Path) -> None:
        doubled = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40))
        assert "is a list, not a tensor" in self.error(torch_zip(tmp_path / "x.bin", dictionary(a=doubled)))

    def test_model_arguments_that_nest(self, tmp_path: Path) -> None:
        nested = b"}(" + b"".join(text(name) + b"]" * 5000 + b"a" * 4999 for name in NANOGPT) + b"u"
        path = torch_zip(tmp_path / "x.pt", dictionary(model=b"}", model_args=nested))
        with pytest.raises(PellucidError, match=r"x\.pt"):
            open_checkpoint(path)

    def test_a_buffer_of_thirty_gigabytes(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(a=b"cbuiltins\nbytearray\n(" + number(30 * 10**9) + b"tR"))
        assert "its entry 'a' is a Opaque, not a tensor" in self.error(path)

    def test_a_memo_of_billions(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", b"\x80\x02}r\xff\xff\xff\xff.")
        assert read_torch_file(path).contents == {}

    @pytest.mark.parametrize("operation", [b"]", b"("])
    def test_too_many_opcodes(self, operation: bytes, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", b"\x80\x02" + operation * 300_000 + b".")
        assert "its pickle has more than 262,144 operations" in self.error(path)

    def test_an_oversized_pickle(self, tmp_path: Path) -> None:
        path = torch_zip(tmp_path / "x.bin", dictionary(a=text("x" * (17 << 20))))
        assert "at most 16,777,216 are read" in self.error(path)

    @pytest.mark.parametrize(
        "pickled", [b"", b".", b"\x80\x02", b"0.", b"s.", b"u.", b"h\x05.", b"R.", b"Q.", b"\x81."]
    )
    def test_a_malformed_pickle(self, pickled: bytes, tmp_path: Path) -> None:
        assert "is damaged, or no file of torch.save" in self.error(torch_zip(tmp_path / "x.bin", pickled))

    @pytest.mark.parametrize("called", [b"}", b"]", b"N", b"K\x01", b"ctorch\nfloat32\n"])
    def test_a_call_of_a_value_that_is_not_a_function(self, called: bytes, tmp_path: Path) -> None:
        self.error(torch_zip(tmp_path / "x.bin", dictionary(a=called + b")R")))

    def test_a_zip_file_that_expands(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", dictionary(w=tensor([1 << 24], [1], elements=1 << 24)))
            archive.writestr("archive/data/0", bytes(1 << 26))
        assert path.stat().st_size < 1 << 20
        assert "is compressed" in self.error(path)

    def test_an_oversized_zip_directory(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        with path.open("wb") as file:
            file.write(b"PK\x03\x04")
            file.truncate(1 << 33)
            file.seek((1 << 33) - 22)
            file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**32 - 1, 0, 0))
        assert "its zip directory has 4,294,967,295 bytes; at most" in self.error(path)

    def test_a_duplicate_name_in_the_zip_directory(self, tmp_path: Path) -> None:
        path = tmp_path / "x.bin"
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("archive/data.pkl", b"}.")
            archive.writestr("archive/data.pkl", b"}.")
        assert "lists archive/data.pkl twice" in self.error(path)

    def test_oversized_storages_of_the_legacy_format(self, tmp_path: Path) -> None:
        plain = io.BytesIO()
        torch.save({"w": torch.ones(3)}, plain, _use_new_zipfile_serialization=False)
        path = tmp_path / "x.bin"
        path.write_bytes(plain.getvalue().replace(b"K\x03N", b"J\xff\xff\xff\x7fN"))
        assert "is damaged or truncated" in self.error(path)


def string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf_file(path: Path, fields: list[bytes], tensors: list[bytes] = [], data: bytes = b"") -> Path:  # noqa: B006
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields)) + b"".join(fields) + b"".join(tensors)
    path.write_bytes(header + bytes(-len(header) % 32) + data)
    return path


GPT2 = string(b"general.architecture") + struct.pack("<I", 8) + string(b"gpt2")


def gguf_tensor(name: bytes, shape: list[int], *, kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


class TestGGUFFiles:
    def error(self, path: Path) -> str:
        with memory_below(128 << 20), pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 1000
        return str(caught.value)

    def test_an_embedding_without_dimensions(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [GPT2], [gguf_tensor(b"token_embd.weight", [])], bytes(4))
        assert "tensor token_embd.weight has no dimensions" in self.error(path)

    def test_a_quantized_tensor_without_dimensions(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [GPT2], [gguf_tensor(b"token_embd.weight", [], kind=8)], bytes(64))
        assert "whose rows are not filled by blocks of 32" in self.error(path)

    def test_enormous_dimensions(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [GPT2], [gguf_tensor(b"token_embd.weight", [2**63] * 4)], bytes(4))
        assert "is truncated: tensor token_embd.weight ends at byte" in self.error(path)

    def test_tensors_that_overlap(self, tmp_path: Path) -> None:
        tensors = [gguf_tensor(b"a", [4]), gguf_tensor(b"b", [4], offset=8)]
        path = gguf_file(tmp_path / "x.gguf", [GPT2], tensors, bytes(24))
        assert "tensor b overlaps the one before it" in self.error(path)

    def test_a_tensor_under_two_names(self, tmp_path: Path) -> None:
        tensors = [gguf_tensor(b"token_embd.weight", [2, 1]), gguf_tensor(b"wte.weight", [2, 1], offset=8)]
        path = gguf_file(tmp_path / "x.gguf", [GPT2], tensors, bytes(16))
        assert "holds wte.weight twice: as token_embd.weight and as wte.weight" in self.error(path)

    def test_an_alignment_of_zero(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [GPT2, string(b"general.alignment") + struct.pack("<II", 4, 0)])
        assert "general.alignment is 0" in self.error(path)

    def test_a_string_longer_than_the_file(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [string(b"a") + struct.pack("<IQ", 8, 2**63)])
        assert "its header runs past its end" in self.error(path)

    def test_nested_arrays(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [string(b"a") + struct.pack("<IIQ", 9, 9, 1) + bytes(64)])
        assert "the field a is an array of the unknown type 9" in self.error(path)

    @pytest.mark.parametrize("kind", [0, 8, 12])
    def test_an_array_longer_than_the_file(self, kind: int, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [string(b"a") + struct.pack("<IIQ", 9, kind, 2**62)])
        assert "its header runs past its end" in self.error(path)

    def test_a_header_of_gigabytes(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "x.gguf", [string(b"a") + struct.pack("<IIQ", 9, 0, 2**32)])
        with path.open("r+b") as file:
            file.truncate(2**33)
        assert "its header is longer than 16,777,216 bytes" in self.error(path)

    def test_more_fields_and_tensors_than_a_model_has(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gguf"
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 10**6, 10**6) + bytes(100))
        assert "it claims 1,000,000 tensors and 1,000,000 fields" in self.error(path)

    @pytest.mark.parametrize("epsilon", [float("nan"), -1.0, 0.0, 1e300, float("inf")])
    def test_an_invalid_epsilon(self, epsilon: float, tmp_path: Path) -> None:
        sizes = ("embedding_length", "context_length", "block_count", "attention.head_count")
        fields = [string(b"gpt2." + size.encode()) + struct.pack("<II", 4, 1) for size in sizes]
        fields.append(string(b"gpt2.attention.layer_norm_epsilon") + struct.pack("<Id", 12, epsilon))
        path = gguf_file(tmp_path / "x.gguf", [GPT2, *fields], [gguf_tensor(b"token_embd.weight", [1, 1])], bytes(4))
        with pytest.raises(PellucidError, match=r"x\.gguf: layer_norm_epsilon is"), warnings.catch_warnings():
            warnings.simplefilter("error")
            open_checkpoint(path)

    @pytest.mark.parametrize("token_id", [-1, -5, 5, 2**31 - 1])
    def test_a_special_token_outside_the_vocabulary(
        self, token_id: int, random_model: Callable, tmp_path: Path
    ) -> None:
        from tests.checkpoint.test_gguf_files import convert

        def add(writer: Any) -> None:
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(["a", "b", "ab", "c", "<|endoftext|>"])
            writer.add_token_merges(["a b"])
            writer.add_key_value("tokenizer.ggml.eos_token_id", token_id, gguf.GGUFValueType.INT32)

        tokenizer = open_tokenizer(convert(tmp_path / "model.gguf", random_model(), add=add))
        assert tokenizer.eos_token is None

    @mutations
    @given(data=st.data())
    def test_any_header_is_read_in_bounded_memory(self, data: st.DataObject, tmp_path: Path) -> None:
        kinds = st.integers(0, 13)
        counts = st.sampled_from([0, 1, 2, 100, 2**31, 2**63, 2**64 - 1])
        arrays = st.tuples(kinds, counts).map(lambda pair: struct.pack("<IIQ", 9, *pair))
        values = st.one_of(
            arrays, st.tuples(kinds, st.binary(max_size=12)).map(lambda v: struct.pack("<I", v[0]) + v[1])
        )
        names = st.binary(max_size=6).map(string)
        fields = data.draw(st.lists(st.tuples(names, values).map(b"".join), max_size=4))
        path = gguf_file(tmp_path / "x.gguf", fields, data=data.draw(st.binary(max_size=200)))
        with memory_below(32 << 20):
            try:
                read_container(path, arrays=["", "a"])
            except CheckpointError as error:
                assert len(str(error)) < 1000
