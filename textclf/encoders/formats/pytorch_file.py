"""Reads arrays of PyTorch's `torch.save` files, in the zip format and the older format, without unpickling.

The list of tensors in such a file is a pickle, and unpickling runs any code that the pickle names. Here a small stack
machine interprets its opcodes. It builds numbers, strings, containers and tensor descriptions, imports nothing, calls
nothing, and refuses every other name. PyPI has no maintained reader that does this for both formats without torch.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from textclf.encoders.formats.arrays import RawArray, numpy_type
from textclf.encoders.sources.archive import ShortReads
from textclf.errors import EncoderError

# torch/serialization.py: the beginning of the older format, each a pickle of a number.
_OLD_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001
_ZIP_BEGINNING = b"PK\x03\x04"
_LARGEST_PICKLE = 16 * 2**20
# An encoder's list of tensors has about 30,000 opcodes; each may make an object.
_MOST_OPCODES = 500_000
_LARGEST_RANK = 8
_LARGEST_NUMBER = 2**62

# The exceptions for damaged bytes. `zipfile` has several for entries that it cannot read.
_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)

_STORAGE_TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True)
class _Global:
    """A name in the pickle. It is compared, never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A sequence of numbers in the file. Tensors are views of it."""

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _NotTensorsError(Exception):
    """The pickle is malformed, or contains something that a file of tensors does not need."""


def index_pytorch(files: Iterable[Path]) -> dict[str, RawArray]:
    """Returns the arrays of all files by name.

    Raises EncoderError for a file that is damaged, incomplete, of another kind, or that contains more than tensors.
    """
    arrays: dict[str, RawArray] = {}
    for file in files:
        try:
            with file.open("rb") as stream:
                is_zip = stream.read(len(_ZIP_BEGINNING)) == _ZIP_BEGINNING
            arrays.update(_index_zip_form(file) if is_zip else _index_old_form(file))
        except _NotTensorsError as error:
            raise EncoderError(
                f"{file}: {error}; only files of tensors are read, and nothing in them is executed;"
                " save the state dict again, or better as model.safetensors"
            ) from error
        except _DAMAGE as error:
            raise EncoderError(
                f"{file}: cannot be read as a PyTorch file ({error}); it is damaged or incomplete, get it again"
            ) from error
    return arrays


def _index_zip_form(file: Path) -> dict[str, RawArray]:
    """Returns a zip archive with `data.pkl` and one uncompressed entry for each storage, all in one folder."""
    archive = zipfile.ZipFile(cast(Any, ShortReads(file)))
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise _NotTensorsError("is a zip archive without the one `data.pkl` that PyTorch writes")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        with archive.open(f"{folder}byteorder") as entry:
            if entry.read(10) != b"little":
                raise _NotTensorsError("holds big-endian numbers")
    if archive.getinfo(pickles[0]).file_size > _LARGEST_PICKLE:
        raise _NotTensorsError(f"has a list of tensors of over {_LARGEST_PICKLE} bytes")
    tensors = _tensors(_interpret(io.BytesIO(archive.read(pickles[0])), {}))

    def read_storage(storage: _Storage) -> np.ndarray:
        entry = archive.getinfo(f"{folder}data/{storage.key}")
        dtype = numpy_type(storage.dtype)
        # PyTorch compresses nothing. A compressed entry could expand without bound.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != storage.size * dtype.itemsize:
            raise ValueError(
                f"storage {storage.key} has {entry.file_size} bytes, not {storage.size} × {dtype.itemsize}"
            )
        return np.frombuffer(b"".join(_chunks(archive, entry)), dtype)

    return _raw_arrays(tensors, read_storage, file)


def _chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(entry) as stream:
        while chunk := stream.read(2**20):
            yield chunk


def _index_old_form(file: Path) -> dict[str, RawArray]:
    """Pickles one after the other (a magic number, a protocol, the writer's sizes, the tensors, the order of the
    storages), then for each storage its number of elements as int64 and its bytes."""
    with file.open("rb") as stream:
        if stream.read(1) != b"\x80":
            raise _NotTensorsError("is neither a PyTorch zip archive nor an older PyTorch file")
        stream.seek(0)
        storages: dict[str, _Storage] = {}
        if _interpret(stream, storages) != _OLD_MAGIC_NUMBER or _interpret(stream, storages) != _OLD_PROTOCOL:
            raise _NotTensorsError("is a pickle, but not one that PyTorch wrote")
        writer = _interpret(stream, storages)
        if not isinstance(writer, dict) or writer.get("little_endian") is not True:
            raise _NotTensorsError("holds big-endian numbers")
        tensors = _tensors(_interpret(stream, storages))
        keys = _interpret(stream, storages)
        places: dict[str, int] = {}
        position, end = stream.tell(), file.stat().st_size
        for key in keys if isinstance(keys, list) else []:
            stream.seek(position)
            header = stream.read(8)
            if len(header) != 8:
                raise ValueError(f"it ends after {end} bytes, before the storage {str(key)[:80]!r}")
            (size,) = struct.unpack("<q", header)
            if not isinstance(key, str) or key not in storages or storages[key].size != size:
                raise _NotTensorsError(
                    f"has a storage {str(key)[:80]!r} of {size} elements that its list of tensors does not have"
                )
            places[key] = position + 8
            position += 8 + size * numpy_type(storages[key].dtype).itemsize
        if position > end or places.keys() != storages.keys():
            raise ValueError(f"it ends after {end} bytes, its tensors need {position}")

    def read_storage(storage: _Storage) -> np.ndarray:
        return np.fromfile(file, numpy_type(storage.dtype), storage.size, offset=places[storage.key])

    return _raw_arrays(tensors, read_storage, file)


def _tensors(found: Any) -> dict[str, _Tensor]:
    """Returns the tensors of a state dict, or of the one inside `{"state_dict": …}` or `{"model": …}`."""
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise _NotTensorsError("holds no dict of tensors")
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, _Tensor)}
    if not tensors:
        raise _NotTensorsError("holds a dict without tensors")
    return tensors


def _raw_arrays(
    tensors: dict[str, _Tensor], read_storage: Callable[[_Storage], np.ndarray], file: Path
) -> dict[str, RawArray]:
    return {
        name: RawArray(tensor.shape, tensor.storage.dtype, _reader(name, tensor, read_storage, file))
        for name, tensor in tensors.items()
    }


def _reader(
    name: str, tensor: _Tensor, read_storage: Callable[[_Storage], np.ndarray], file: Path
) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            numbers = read_storage(tensor.storage)[tensor.offset :]
        except _DAMAGE as error:
            raise EncoderError(f"{file}: the tensor {name!r} cannot be read ({error}); get the file again") from error
        if math.prod(tensor.shape) == 0:
            return np.empty(tensor.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)

    return read


# The interpreter. `pickletools.genops` only splits a pickle into opcodes and arguments; everything else is below.


class _Machine:
    """The state of a pickle that is being interpreted: PyTorch's pickles need a stack, marks and a memory."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or (self.marks and len(self.stack) <= self.marks[-1]):
            raise _NotTensorsError("has a malformed list of tensors")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise _NotTensorsError("has a malformed list of tensors")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _NotTensorsError("has a malformed list of tensors")
        return self.stack[-1]


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE"
    " SHORT_BINUNICODE BINUNICODE8".split()
)
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = frozenset(("PUT", "BINPUT", "LONG_BINPUT")), frozenset(("GET", "BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME"))


class _Cautious:
    """A stream that does not reserve memory for a damaged length."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, _LARGEST_PICKLE))

    def readline(self) -> bytes:
        return self._stream.readline(_LARGEST_PICKLE)


def _interpret(stream: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Returns the value of the pickle at the stream's position.

    Afterwards the position is behind it. Adds the storages that it names.
    """
    machine = _Machine(storages)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(Any, _Cautious(stream)))):
        if count > _MOST_OPCODES:
            raise _NotTensorsError(f"has a list of tensors of more than {_MOST_OPCODES:,} steps")
        if opcode.name == "STOP":
            return machine.pop()
        _step(machine, opcode.name, argument)
    raise _NotTensorsError("has a list of tensors without an end")


def _step(machine: _Machine, name: str, argument: Any) -> None:
    stack = machine.stack
    if name in _LITERALS:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name in _PUTS:
        machine.memory[argument] = machine.top(object)
    elif name == "MEMOIZE":
        machine.memory[len(machine.memory)] = machine.top(object)
    elif name in _GETS:
        if argument not in machine.memory:
            raise _NotTensorsError("has a malformed list of tensors")
        stack.append(machine.memory[argument])
    elif name == "MARK":
        machine.marks.append(len(stack))
    elif name == "TUPLE":
        stack.append(tuple(machine.pop_to_mark()))
    elif name in _SMALL_TUPLES:
        stack.append(tuple([machine.pop() for _ in range(_SMALL_TUPLES[name])][::-1]))
    elif name in ("APPENDS", "APPEND"):
        items = machine.pop_to_mark() if name == "APPENDS" else [machine.pop()]
        machine.top(list).extend(items)
    elif name in ("SETITEMS", "SETITEM"):
        items = machine.pop_to_mark() if name == "SETITEMS" else [machine.pop(), machine.pop()][::-1]
        _set_items(machine.top(dict), items)
    elif name == "GLOBAL":
        stack.append(_Global(argument.replace(" ", ".")))
    elif name == "STACK_GLOBAL":
        attribute, module = machine.pop(), machine.pop()
        stack.append(_Global(f"{module}.{attribute}"))
    elif name == "BINPERSID":
        storage = _make_storage(machine.pop())
        if machine.storages.setdefault(storage.key, storage) != storage:
            raise _NotTensorsError(f"describes the storage {storage.key[:80]!r} in two ways")
        stack.append(storage)
    elif name == "REDUCE":
        arguments, function = machine.pop(), machine.pop()
        stack.append(_make(function, arguments))
    elif name == "BUILD":
        # Attributes of a dict or tensor, such as a state dict's `_metadata`: nothing that a tensor needs.
        machine.pop()
    elif name not in _IGNORED:
        raise _NotTensorsError(f"has the pickle opcode {name} in its list of tensors, which no tensor needs")


def _set_items(target: dict[Any, Any], items: list[Any]) -> None:
    if len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
        raise _NotTensorsError("has a malformed list of tensors")
    target.update(zip(items[::2], items[1::2], strict=True))


def _make_storage(identity: Any) -> _Storage:
    """Returns the storage of a persistent id of PyTorch: ("storage", type, key, device, number of elements[, view])."""
    match identity:
        case ("storage", _Global(name), str(key), str(), int(size), *view) if (
            view in ([], [None]) and 0 <= size < _LARGEST_NUMBER
        ):
            kind = name.rpartition(".")[2]
            if name.startswith(("torch.", "torch.storage.")) and kind in _STORAGE_TYPES:
                return _Storage(_STORAGE_TYPES[kind], key, size)
            raise _NotTensorsError(f"holds numbers of the type {name[:80]!r}")
    raise _NotTensorsError("describes its numbers in a way that is not understood")


def _make(function: Any, arguments: Any) -> Any:
    """Represents the few calls in a file of tensors. None of them is executed."""
    if not isinstance(function, _Global):
        raise _NotTensorsError("has a malformed list of tensors")
    match function.name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list(pairs),) if all(
            isinstance(p, list | tuple) and len(p) == 2 for p in pairs
        ):
            items: dict[Any, Any] = {}
            _set_items(items, [item for pair in pairs for item in pair])
            return items
        case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return _checked(_Tensor(storage, offset, shape, strides))
        case "torch._utils._rebuild_tensor", (_Storage() as storage, int(offset), tuple(shape), tuple(strides)):
            return _checked(_Tensor(storage, offset, shape, strides))
        case "torch._utils._rebuild_parameter", (_Tensor() as tensor, *_):
            return tensor
    raise _NotTensorsError(f"asks for {function.name[:80]!r}, which no tensor needs")


def _checked(tensor: _Tensor) -> _Tensor:
    """Raises an error unless every element is inside the storage."""
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    plain = len(numbers) <= 1 + 2 * _LARGEST_RANK and all(
        isinstance(n, int) and 0 <= n < _LARGEST_NUMBER for n in numbers
    )
    if len(tensor.shape) != len(tensor.strides) or not plain:
        raise _NotTensorsError("has a tensor with a malformed shape")
    if math.prod(tensor.shape):
        steps = zip(tensor.shape, tensor.strides, strict=True)
        last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
        if last >= tensor.storage.size:
            raise _NotTensorsError(f"has a tensor that reaches element {last} of a storage of {tensor.storage.size}")
    return tensor
