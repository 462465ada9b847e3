"""PyTorch checkpoints: tensors as they were saved; nothing executed; any damage is a CheckpointError."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import checkpoint, torch_zip
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError

KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


@dataclass(frozen=True)
class Saved:
    """A tensor as a pickle describes it."""

    key: str
    kind: str
    size: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Raw:
    """Opcodes that go into the pickle as they are."""

    opcodes: bytes


ORDERED_DICT = Raw(b"ccollections\nOrderedDict\n)R")


def opcodes(value: object) -> bytes:
    """Pickles a value the way torch.save does (protocol 2, without the memo)."""
    match value:
        case Raw(raw):
            return raw
        case bool():
            return b"\x88" if value else b"\x89"
        case None:
            return b"N"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            encoded = value.encode()
            return b"X" + struct.pack("<I", len(encoded)) + encoded
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(item) for pair in value.items() for item in pair) + b"u"
        case Saved():
            storage = ("storage", Raw(f"ctorch\n{value.kind}\n".encode()), value.key, "cpu", value.size)
            persistent = Raw(opcodes(storage) + b"Q")
            arguments = (persistent, value.offset, value.shape, value.strides, False, ORDERED_DICT)
            return b"ctorch._utils\n_rebuild_tensor_v2\n" + opcodes(arguments) + b"R"
    raise TypeError(type(value))


def write(path: Path, pickled: object, storages: Mapping[str, bytes], **records: bytes) -> Path:
    """Writes an archive with the layout of torch.save, its data aligned by padding in the headers."""
    content = {"data.pkl": pickled if isinstance(pickled, bytes) else b"\x80\x02" + opcodes(pickled) + b"."}
    content |= {"byteorder": b"little"} | records | {f"data/{key}": data for key, data in storages.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(f"model/{name}")
            padding = -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64  # type: ignore[union-attr]
            info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            archive.writestr(info, data)
    return path


def contiguous(key: str, array: NDArray[Any]) -> Saved:
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Saved(key, KINDS[array.dtype.name], array.size, array.shape, strides)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    tensors = {name: contiguous(str(i), array) for i, (name, array) in enumerate(arrays.items())}
    return write(path, tensors, {str(i): array.tobytes() for i, array in enumerate(arrays.values())})


ARRAYS: dict[str, NDArray[Any]] = {
    "weight": np.arange(12, dtype="f4").reshape(3, 4),
    "bias": np.array([1.5, -2.5], dtype="f2"),
    "deep.name.scale": np.array(3.25, dtype="f8"),
    "steps": np.array([7], dtype="i8"),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), dtype="f4"),
}


def test_reads_each_type_and_shape(tmp_path: Path) -> None:
    read = torch_zip.read(write_arrays(tmp_path / "model.pt", ARRAYS))
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)


def test_reads_bfloat16_as_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625], dtype="<f4")  # exact in bfloat16
    data = (values.view("<u4") >> 16).astype("<u2").tobytes()
    path = write(tmp_path / "model.pt", {"w": Saved("0", "BFloat16Storage", 3, (3,), (1,))}, {"0": data})
    read = torch_zip.read(path)["w"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_reads_big_endian_data(tmp_path: Path) -> None:
    tensor = Saved("0", "FloatStorage", 3, (3,), (1,))
    data = np.array([1, 2, 3], dtype=">f4").tobytes()
    read = torch_zip.read(write(tmp_path / "model.pt", {"w": tensor}, {"0": data}, byteorder=b"big"))["w"]
    np.testing.assert_array_equal(read, [1, 2, 3])
    np.testing.assert_array_equal(np.array(mx.array(read)), [1, 2, 3])


def test_honours_strides_offsets_and_shared_storages(tmp_path: Path) -> None:
    storage = np.arange(24, dtype="f4")
    tensors = {
        "whole": Saved("0", "FloatStorage", 24, (4, 6), (6, 1)),
        "transposed": Saved("0", "FloatStorage", 24, (6, 4), (1, 6)),
        "part": Saved("0", "FloatStorage", 24, (2, 3), (12, 2), offset=7),
    }
    read = torch_zip.read(write(tmp_path / "model.pt", tensors, {"0": storage.tobytes()}))
    whole = storage.reshape(4, 6)
    np.testing.assert_array_equal(read["whole"], whole)
    np.testing.assert_array_equal(read["transposed"], whole.T)
    np.testing.assert_array_equal(read["part"], [[7, 9, 11], [19, 21, 23]])
    assert np.shares_memory(read["whole"], read["part"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much of a file is in memory")
def test_what_was_read_is_forgotten_on_request_and_comes_again(tmp_path: Path) -> None:
    value = np.arange(1 << 23, dtype=np.float32)
    (array,) = torch_zip.read(write_arrays(tmp_path / "model.pt", {"w": value})).values()

    def in_memory() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")

    fresh = in_memory()
    assert array.sum() == value.sum()
    read = in_memory()
    assert read > fresh + value.nbytes // 2
    torch_zip.forget(array)
    torch_zip.forget(value)
    assert in_memory() < read - value.nbytes // 2
    np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_takes_off_wrappers_and_a_common_prefix(tmp_path: Path, wrapper: str) -> None:
    tensors = {"module.a": Saved("0", "FloatStorage", 1, (1,), (1,))}
    training = {"epoch": 3, "loss": 0.5, "best": None, "rates": [1e-3, 1e-4], wrapper: tensors}
    path = write(tmp_path / "model.pt", training, {"0": struct.pack("<f", 2.5)})
    assert {name: array.tolist() for name, array in torch_zip.read(path).items()} == {"a": [2.5]}


def test_reads_what_a_module_saves(tmp_path: Path) -> None:
    """An OrderedDict with its `_metadata`, parameters, and the memo that real pickles use."""
    tensor = opcodes(Saved("0", "FloatStorage", 2, (2,), (1,)))
    parameter = Raw(
        b"ctorch._utils\n_rebuild_parameter\n(" + tensor + b"q\x01" + b"\x88" + ORDERED_DICT.opcodes + b"tR"
    )
    items = b"".join(map(opcodes, ("w", parameter, "shared", Raw(b"h\x01"))))
    metadata = opcodes({"_metadata": {"": {"version": 1}}})
    pickled = b"\x80\x02" + ORDERED_DICT.opcodes + b"(" + items + b"u" + metadata + b"b."
    read = torch_zip.read(write(tmp_path / "model.pt", pickled, {"0": struct.pack("<2f", 1, 2)}))
    assert {name: array.tolist() for name, array in read.items()} == {"w": [1, 2], "shared": [1, 2]}


def test_a_network_loads_from_model_pt(tmp_path: Path) -> None:
    weight = np.arange(6, dtype="f4").reshape(2, 3)
    write_arrays(tmp_path / "model.pt", {"weight": weight, "bias": np.ones(2, dtype="f2")})
    network = nn.Linear(3, 2)
    checkpoint.load_weights(network, ModelDirectory(tmp_path))
    np.testing.assert_array_equal(np.array(network(mx.ones(3))), weight.sum(axis=1) + 1)


class Evil:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_executes_nothing(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "sprung"
    pickled = pickle.dumps({"state_dict": {"w": Evil(trap)}}, protocol)
    with pytest.raises(CheckpointError, match="refused"):
        torch_zip.read(write(tmp_path / "model.pt", pickled, {}))
    assert not trap.exists()
    pickle.loads(pickled)
    assert trap.exists(), "the trap would have worked"


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02cbuiltins\neval\n.", r"asks for builtins\.eval; allowed are collections\.OrderedDict"),
        (b"\x80\x02ctorch.hub\nload\n.", r"asks for torch\.hub\.load"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
        (b"(S'ls'\nios\nsystem\n.", "opcode STRING"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02Pid\n.", "opcode PERSID"),
        (b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.", "rebuilds a tensor in an unknown way"),
        (b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.", "rebuilds a tensor in an unknown way"),
        (b"\x80\x02K\x01\x85Q.", "describes a storage in an unknown way"),
        (b"\x80\x02}K\x01\x85K\x02s.", "sets an item"),
        (b"\x80\x02K\x01K\x02a.", "appends"),
        (b"\x80\x02r\xff\xff\xff\xff.", "damaged"),
        (b"\x80\x02h\x01.", "damaged"),
        (b"\x80\x02\x86.", "takes more"),
        (b"\x80\x02u.", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"\x80\x02}.", "holds no state dict"),
        (b"\x80\x02N.", "holds no state dict"),
        (b"\x80\x02" + opcodes({"w": 3}) + b".", "'w' is int, not a tensor"),
        (b"\x80\x02" + opcodes({7: Saved("0", "FloatStorage", 1, (1,), (1,))}) + b".", "'7' is _Tensor"),
        (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "'model' is dict, not a tensor"),
    ],
)
def test_refuses_other_pickles(tmp_path: Path, pickled: bytes, message: str) -> None:
    path = write(tmp_path / "model.pt", pickled, {"0": bytes(4)})
    with pytest.raises(CheckpointError, match=message) as caught:
        torch_zip.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "tensor",
    [
        Saved("0", "FloatStorage", 4, (5,), (1,)),
        Saved("0", "FloatStorage", 4, (4,), (1,), offset=1),
        Saved("0", "FloatStorage", 4, (2, 2), (3, 1)),
        Saved("0", "FloatStorage", 4, (1 << 30, 1 << 30), (0, 0)),
        Saved("0", "FloatStorage", 4, (2,), (-1,), offset=1),
        Saved("0", "FloatStorage", 4, (-1,), (1,)),
        Saved("0", "FloatStorage", 4, (4,), (1,), offset=-1),
        Saved("0", "FloatStorage", 4, (2, 2), (1,)),
        Saved("0", "FloatStorage", 4, (1,) * 9, (1,) * 9),
        Saved("0", "FloatStorage", 3, (3,), (1,)),
        Saved("0", "DoubleStorage", 4, (4,), (1,)),
        Saved("0", "FloatStorage", -4, (4,), (1,)),
        Saved("0", "QUInt8Storage", 4, (4,), (1,)),
        Saved("1", "FloatStorage", 4, (4,), (1,)),
        Saved("../0", "FloatStorage", 4, (4,), (1,)),
    ],
)
def test_refuses_tensors_that_do_not_fit_their_storage(tmp_path: Path, tensor: Saved) -> None:
    with pytest.raises(CheckpointError):
        torch_zip.read(write(tmp_path / "model.pt", {"w": tensor}, {"0": bytes(16)}))


def test_refuses_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for content, message in (
        (b"", "damaged"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02}.", "zip format"),
        (b"ustar", "zip format"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            torch_zip.read(path)
    with pytest.raises(CheckpointError, match="TorchScript"):
        torch_zip.read(write(path, {}, {}, **{"constants.pkl": b"\x80\x02)."}))
    with pytest.raises(CheckpointError, match="byte order is b'middle'"):
        torch_zip.read(write(path, {}, {}, byteorder=b"middle"))
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        torch_zip.read(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        torch_zip.read(tmp_path)


def test_refuses_archives_that_unpack_to_more_than_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(100_000))
    with pytest.raises(CheckpointError, match="larger than the file"):
        torch_zip.read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", os.urandom(100))
    with pytest.raises(CheckpointError, match="compressed"):
        torch_zip.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("model/data.pkl", b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="same name"):
        torch_zip.read(path)


def reads_or_refuses(path: Path) -> bool:
    """Whether the file can be read; any error but CheckpointError fails the test."""
    try:
        torch_zip.read(path)
    except CheckpointError:
        return False
    return True


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "model.pt", ARRAYS)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert not reads_or_refuses(path), f"{length} of {len(whole)} bytes"


def test_damaged_data_is_noticed(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "model.pt", {"weight": ARRAYS["weight"]})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<f", 5), struct.pack("<f", 6), 1))
    with pytest.raises(CheckpointError, match="the checksum of model/data/0 is wrong"):
        torch_zip.read(path)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arrays(tmp_path_factory.mktemp("whole") / "model.pt", ARRAYS)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_crash(whole_file: Path, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(whole_file.read_bytes())
    for position, value in flips:
        damaged[position % len(damaged)] = value
    path = whole_file.with_name("damaged.pt")
    path.write_bytes(damaged)
    reads_or_refuses(path)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=3)), min_size=1, max_size=4) | st.binary(max_size=40)
)
def test_other_bytes_in_the_pickle_never_crash(whole_file: Path, changes: list[tuple[int, bytes]] | bytes) -> None:
    """The archive is sound, so that the pickle is really interpreted."""
    arrays = list(ARRAYS.items())
    tensors = {name: contiguous(str(i), array) for i, (name, array) in enumerate(arrays)}
    pickled = bytearray(b"\x80\x02" + opcodes(tensors) + b".")
    if isinstance(changes, bytes):
        pickled = bytearray(changes)
    else:
        for position, content in changes:
            at = position % len(pickled)
            pickled[at : at + len(content)] = content
    storages = {str(i): array.tobytes() for i, (_, array) in enumerate(arrays)}
    reads_or_refuses(write(whole_file.with_name("changed.pt"), bytes(pickled), storages))
