"""The pickles of `torch.save`, interpreted as data: nothing is imported and nothing is called.

A pickle is a program for a stack machine. This one knows the operations that `torch.save` writes, and stands in for the
functions that rebuild tensors and dictionaries. Any other function is refused by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from pellucid.quoting import clipped

# A checkpoint of GPT-2 XL with its optimizer takes 70,000 operations. Each takes up to 100 bytes and 2 microseconds.
_MAX_OPERATIONS = 1 << 18

_MAX_DIMENSIONS = 64  # numpy's limit
_MAX_SIZE = 2**63 - 1

ITEM_SIZES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}

# The element type of each storage class. An untyped storage counts bytes.
_STORAGE_CLASSES: Mapping[str, str] = {
    f"{module} {name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in (
        ("Double", "float64"),
        ("Float", "float32"),
        ("Half", "float16"),
        ("BFloat16", "bfloat16"),
        ("Long", "int64"),
        ("Int", "int32"),
        ("Short", "int16"),
        ("Char", "int8"),
        ("Byte", "uint8"),
        ("Bool", "bool"),
        ("ComplexFloat", "complex64"),
        ("ComplexDouble", "complex128"),
    )
} | {"torch.storage UntypedStorage": "uint8"}

_DTYPES: Mapping[str, str] = {f"torch {name}": name for name in ITEM_SIZES}

# Values that occur beside weights and are not read: they become an `Opaque`.
_OPAQUE = frozenset(
    {
        "_codecs encode",
        "builtins bytearray",
        "builtins complex",
        "builtins frozenset",
        "builtins set",
        "__builtin__ set",
        "collections Counter",
        "collections defaultdict",
        "torch Size",
        "torch device",
    }
)


class CodeInPickleError(ValueError):
    """A pickle names a function or a class that does not belong to data."""


class Storage(NamedTuple):
    """A piece of memory that a file holds: `size` elements of type `dtype`."""

    key: str
    dtype: str
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_SIZES[self.dtype]


class PickledTensor(NamedTuple):
    """A view of a storage. `first` and `strides` count elements."""

    storage: Storage
    dtype: str
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Opaque(NamedTuple):
    """A value of a type that is not read."""

    name: str


class _Global(NamedTuple):
    """A function or a class that a pickle names, as "module name"."""

    name: str


class Pickle(NamedTuple):
    """The value of a pickle: None, numbers, strings, tuples, lists, dictionaries, `PickledTensor` and `Opaque`.

    storages: every storage that its tensors use, by key.
    """

    value: Any
    storages: Mapping[str, Storage]


def read_pickle(stream: BytesIO) -> Pickle:
    """Interpret the next pickle of a stream, and leave the stream behind it.

    Raises `CodeInPickleError` for a pickle that would call code, and `ValueError` for one that is damaged or too long.
    """
    machine = _Machine()
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if operation.name == "STOP":
                return Pickle(machine.stack.pop(), machine.storages)
            if number == _MAX_OPERATIONS:
                raise ValueError(f"its pickle has more than {_MAX_OPERATIONS:,} operations")
            if operation.name not in _HANDLERS:
                raise ValueError(f"its pickle has the operation {operation.name}, which torch.save does not write")
            _HANDLERS[operation.name](machine, argument)
    except (IndexError, KeyError, TypeError) as error:  # of a stack, a memo, a value of the wrong type
        raise ValueError(f"its pickle is malformed ({type(error).__name__})") from error
    raise ValueError("its pickle has no end")


class _Machine:
    """The stack machine. Each method is the handler of one operation, or a part of one."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def pop_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop_tuple(self, length: int) -> None:
        items = [self.stack.pop() for _ in range(length)]
        self.push(tuple(reversed(items)))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise ValueError(f"its pickle appends to a {type(target).__name__}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            # Keys of other types are left out: no weights have one, and their hashes could be made to collide.
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if isinstance(key, str) or _is_word(key))
        elif not isinstance(target, Opaque):
            raise ValueError(f"its pickle sets items of a {type(target).__name__}")

    def find(self, name: str) -> None:
        if name.startswith("torch._utils _rebuild_sparse"):
            raise ValueError("it holds a sparse tensor; weights are stored densely")
        if name not in _REBUILDERS and name not in _STORAGE_CLASSES and name not in _DTYPES and name not in _OPAQUE:
            raise CodeInPickleError(clipped(name.replace(" ", ".")))
        self.push(_Global(name))

    def call(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no function")
        rebuild = _REBUILDERS.get(function.name)
        self.push(Opaque(function.name) if rebuild is None else rebuild(*arguments))

    def find_storage(self, _: Any) -> None:
        kind, storage_class, key, _location, size, *view = self.stack.pop()
        dtype = _STORAGE_CLASSES[storage_class.name] if isinstance(storage_class, _Global) else ""
        if kind != "storage" or not dtype or not isinstance(key, str) or not _is_size(size) or any(view):
            raise ValueError("its pickle names a storage in a form that torch.save does not write")
        storage = Storage(key, dtype, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"its pickle names the storage {clipped(key)} with two sizes or types")
        self.push(storage)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE


def _is_word(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= _MAX_SIZE


def _tensor(storage: Any, first: Any, shape: Any, strides: Any, dtype: str) -> PickledTensor:
    sizes_are_valid = (
        isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MAX_DIMENSIONS
        and all(map(_is_size, (first, *shape, *strides)))
    )
    if not isinstance(storage, Storage) or not sizes_are_valid:
        raise ValueError("its pickle builds a tensor from other things than a storage, sizes and strides")
    return PickledTensor(storage, dtype, first, shape, strides)


def _rebuild_tensor(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> PickledTensor:
    return _tensor(storage, first, shape, strides, storage.dtype if isinstance(storage, Storage) else "")


def _rebuild_tensor_v3(
    storage: Any, first: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, *_: Any
) -> PickledTensor:
    return _tensor(storage, first, shape, strides, _DTYPES[dtype.name if isinstance(dtype, _Global) else ""])


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Python 2 passes the items; Python 3 sets them later."""
    made = _Machine()
    made.push({})
    made.set_items([item for pair in pairs for item in (pair if len(pair) == 2 else ())])
    return made.stack[0]  # type: ignore[no-any-return]


_REBUILDERS: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch._utils _rebuild_parameter_with_state": _rebuild_parameter,
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v3": _rebuild_tensor_v3,
}


def _push(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


_HANDLERS: Mapping[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BININT": _push,
    "BININT1": _push,
    "BININT2": _push,
    "LONG1": _push,
    "BINFLOAT": _push,
    "BINUNICODE": _push,
    "BINSTRING": _push,
    "SHORT_BINSTRING": _push,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.pop_tuple(1),
    "TUPLE2": lambda machine, _: machine.pop_tuple(2),
    "TUPLE3": lambda machine, _: machine.pop_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.find,
    "BINPERSID": _Machine.find_storage,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": lambda machine, _: machine.stack.pop(),  # attributes, which nothing here reads
}
