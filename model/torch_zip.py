"""Read the tensors of a PyTorch checkpoint without PyTorch and without executing anything.

A checkpoint of `torch.save` (PyTorch 1.6 or later) is an uncompressed zip archive: `data.pkl` describes the tensors,
`data/<key>` holds the bytes of each storage. Python's own unpickler calls any function that the file names. The small
machine here knows data only: names of functions stay names, and the two that matter (they rebuild tensors) become
descriptions of tensors. The arrays are views of the mapped file.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import CheckpointError

_PICKLE_LIMIT = 16 << 20
"""Largest `data.pkl` in bytes; 956 tensors take about 120 kB."""

_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_STORAGES = {f"torch.{name}" for name in _DTYPES}
_ORDERED_DICT = "collections.OrderedDict"
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ALLOWED = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER} | _STORAGES


@dataclass(frozen=True, slots=True)
class _Global:
    """A name in the pickle that Python would import; here it stays a name."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    size: int
    """Elements."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements, like offset."""


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Read all tensors of a checkpoint.

    Args:
        path: A file written by `torch.save` that holds a state dict, or a dict that has one under `state_dict`,
            `model_state_dict` or `model`. A prefix `module.` common to all names is removed.

    Returns:
        Read-only arrays by name, in the file's order; bfloat16 becomes float32. The others are views of the mapped
        file and take up memory only when they are read.

    Raises:
        CheckpointError: The file cannot be read, has another format, is damaged, or asks for anything but tensors.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            archive = _Archive(file, data)
        tensors = _state_dict(_unpickle(archive.read("data.pkl")))
        archive.check_sizes(tensors.values())
        return {name: archive.view(tensor) for name, tensor in tensors.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the zip and pickle readers fail in many ways on damaged bytes
        raise CheckpointError(f"{path} is damaged: {error or type(error).__name__}") from None


def forget(array: NDArray[Any]) -> None:
    """Let go of the memory that a mapped file takes up, if an array is a view of one; what is needed comes again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


class _Archive:
    """The zip archive: where each record lies in the mapped file, checked against its directory."""

    def __init__(self, file: Any, data: mmap.mmap) -> None:
        if data[:4] != b"PK\x03\x04":
            raise CheckpointError(
                "not a PyTorch checkpoint in zip format (torch.save of PyTorch 1.6 or later); older formats"
                " would have to be executed to be read: load the file with PyTorch and save it again"
            )
        records = zipfile.ZipFile(file).infolist()
        self._data = data
        self._records = {record.filename.partition("/")[2]: record for record in records}
        if len(self._records) != len(records):
            raise CheckpointError("damaged: two records of the archive have the same name")
        if sum(record.file_size for record in records) > len(data):
            raise CheckpointError("damaged: records are larger than the file")
        if "constants.pkl" in self._records:
            raise CheckpointError("a TorchScript archive holds a program; a checkpoint (state dict) is needed")
        byte_order = self.read("byteorder") if "byteorder" in self._records else b"little"
        if byte_order not in (b"little", b"big"):
            raise CheckpointError(f"byte order is {byte_order[:20]!r}; allowed are 'little' and 'big'")
        self._order = "<" if byte_order == b"little" else ">"
        self._checked: dict[str, memoryview] = {}

    def read(self, name: str) -> bytes:
        """Read a small record."""
        record = self._record(name)
        if record.file_size > _PICKLE_LIMIT:
            raise CheckpointError(f"{name} has {record.file_size} bytes; at most {_PICKLE_LIMIT} are allowed")
        return bytes(self._bytes(record))

    def check_sizes(self, tensors: Iterable[_Tensor]) -> None:
        """Refuse tensors that share their storages so often that they could fill the memory."""
        numbers = sum(math.prod(tensor.shape) for tensor in tensors)
        if numbers > 2 * len(self._data):
            raise CheckpointError(f"damaged: tensors of {numbers} numbers cannot come from {len(self._data)} bytes")

    def view(self, tensor: _Tensor) -> NDArray[Any]:
        """Return a tensor as a read-only array over its storage."""
        storage, name = tensor.storage, f"data/{tensor.storage.key}"
        dtype = np.dtype(self._order + ("u2" if storage.dtype == "bf16" else storage.dtype))
        if storage.key not in self._checked:
            self._checked[storage.key] = self._bytes(self._record(name))
        data = self._checked[storage.key]
        if len(data) != storage.size * dtype.itemsize:
            raise CheckpointError(f"{name} has {len(data)} bytes, not {storage.size} of {dtype.itemsize}")
        # Strides of zero could inflate one number to any size; no checkpoint of a network needs them.
        count = 1
        last = tensor.offset
        for size, stride in zip(tensor.shape, tensor.strides, strict=True):
            count *= size
            last += (size - 1) * stride
        if count > storage.size or (count and last >= storage.size):
            raise CheckpointError(
                f"a tensor of shape {tensor.shape}, strides {tensor.strides} and offset {tensor.offset}"
                f" does not fit in {name} of {storage.size} elements"
            )
        array: NDArray[Any] = np.ndarray(
            tensor.shape,
            dtype,
            data,
            tensor.offset * dtype.itemsize if count else 0,
            [stride * dtype.itemsize for stride in tensor.strides],
        )
        if storage.dtype == "bf16":
            # bfloat16 is the upper half of a float32.
            return (array.astype("=u4") << 16).view("=f4")
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _record(self, name: str) -> zipfile.ZipInfo:
        if name not in self._records:
            raise CheckpointError(f"damaged, or not a PyTorch checkpoint: the archive has no {name}")
        return self._records[name]

    def _bytes(self, record: zipfile.ZipInfo) -> memoryview:
        """Map a record and compare its checksum."""
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise CheckpointError(f"{record.filename} is compressed; PyTorch writes records uncompressed")
        # The local header repeats name and extra field, and torch pads the latter to align the data.
        header = record.header_offset
        lengths = [int.from_bytes(self._data[header + at : header + at + 2], "little") for at in (26, 28)]
        begin = header + 30 + sum(lengths)
        end = begin + record.file_size
        if self._data[header : header + 4] != b"PK\x03\x04" or end > len(self._data):
            raise CheckpointError(f"damaged: {record.filename} does not lie within the file")
        data = memoryview(self._data)[begin:end]
        if zlib.crc32(data) != record.CRC:
            raise CheckpointError(f"damaged: the checksum of {record.filename} is wrong")
        self._data.madvise(mmap.MADV_DONTNEED)  # else the whole file would be in memory when all are compared
        return data


_MARK = object()


def _unpickle(data: bytes) -> Any:
    """Interpret a pickle of plain values and tensors; execute nothing, and refuse any other content."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, position in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(_take_to_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(_take(stack, int(opcode.name[-1]))))
            case "SETITEM":
                _set_items(_take(stack, 2), stack[-1])
            case "SETITEMS":
                _set_items(_take_to_mark(stack), stack[-1])
            case "APPEND":
                _extend(_take(stack, 1), stack[-1])
            case "APPENDS":
                _extend(_take_to_mark(stack), stack[-1])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(*str(argument).split(" ")))
            case "STACK_GLOBAL":
                stack.append(_global(*_take(stack, 2)))
            case "BINPERSID":
                stack.append(_storage(*_take(stack, 1)))
            case "REDUCE":
                stack.append(_reduce(*_take(stack, 2)))
            case "BUILD":  # the only state of a state dict is `_metadata`, the layers' versions, which nobody needs
                _take(stack, 1)
            case "STOP":
                return _take(stack, 1)[0]
            case _:
                raise CheckpointError(
                    f"refused: pickle opcode {opcode.name} at byte {position} has no place in a checkpoint"
                )
    raise CheckpointError("damaged: the pickle has no end")


def _take(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise CheckpointError("damaged: the pickle takes more than it has put down")
    items = stack[-count:]
    del stack[-count:]
    return items


def _take_to_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _set_items(items: list[Any], target: Any) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Only keys that are hashed in constant time: nested tuples could take forever.
        if not isinstance(target, dict) or not isinstance(key, str | int):
            raise CheckpointError("damaged: the pickle sets an item of something other than a dict")
        target[key] = value


def _extend(items: list[Any], target: Any) -> None:
    if not isinstance(target, list):
        raise CheckpointError("damaged: the pickle appends to something other than a list")
    target.extend(items)


def _global(module: Any, name: Any) -> _Global:
    if not isinstance(module, str) or not isinstance(name, str):  # nested tuples, in words, could fill the memory
        raise CheckpointError("damaged: the pickle asks for something that has no name")
    full_name = f"{module}.{name}"
    if full_name not in _ALLOWED:
        raise CheckpointError(
            f"refused: the pickle asks for {full_name[:100]}; allowed are {_ORDERED_DICT}, {_REBUILD_TENSOR},"
            f" {_REBUILD_PARAMETER} and torch's storage types (a plain state dict has no others)"
        )
    return _Global(full_name)


def _storage(persistent_id: Any) -> _Storage:
    match persistent_id:
        case ("storage", _Global(name), str(key), str(), int(size)) if name in _STORAGES and size >= 0:
            return _Storage(key, _DTYPES[name.removeprefix("torch.")], size)
    raise CheckpointError("damaged: the pickle describes a storage in an unknown way")


def _reduce(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Global(name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name), (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if (
            name == _REBUILD_TENSOR
        ):
            numbers = (offset, *shape, *strides)
            if len(shape) == len(strides) <= 8 and all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
                return _Tensor(storage, offset, shape, strides)
        case _Global(name), (_Tensor() as tensor, *_) if name == _REBUILD_PARAMETER:
            return tensor
    raise CheckpointError("damaged: the pickle rebuilds a tensor in an unknown way")


def _state_dict(root: Any) -> Mapping[str, _Tensor]:
    """Find the state dict in the contents of a checkpoint."""
    for _ in range(3):  # wrappers may be nested, and a hostile one without end
        wrapper = next((key for key in ("state_dict", "model_state_dict", "model") if _is_wrapper(root, key)), None)
        if wrapper is None:
            break
        root = root[wrapper]
    if not isinstance(root, dict) or not root:
        raise CheckpointError("holds no state dict: a dict of tensors by name, or one with it under 'state_dict'")
    for name, value in root.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise CheckpointError(f"{str(name)[:100]!r} is {type(value).__name__}, not a tensor with a name")
    prefix = "module." if all(name.startswith("module.") for name in root) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in root.items()}


def _is_wrapper(root: Any, key: str) -> bool:
    return isinstance(root, dict) and isinstance(root.get(key), dict)
