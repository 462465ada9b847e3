"""A model directory: each file is read once, and files that cannot be used are named."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import parastream.model
import pytest
from parastream.model import catalogue, checkpoint
from parastream.model.config import ModelConfig
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError, ModelConfigError

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

_IN_OPEN, _IN_ISDIR = 0x20, 0x40000000


@contextmanager
def opened(directory: Path) -> Iterator[Counter[str]]:
    """Count how often each file of a directory is opened, by Python or by a library: the kernel tells (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    assert watcher >= 0, os.strerror(ctypes.get_errno())
    counts: Counter[str] = Counter()
    try:
        assert libc.inotify_add_watch(watcher, os.fsencode(directory), _IN_OPEN) >= 0, os.strerror(ctypes.get_errno())
        yield counts
        events, place = os.read(watcher, 1 << 20), 0
        while place < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, place)
            place += 16
            name = events[place : place + length].rstrip(b"\0").decode()
            place += length
            if not mask & _IN_ISDIR:
                counts[name] += 1
    finally:
        os.close(watcher)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Copy an embedded model, and return where it is."""
    return lambda name: Path(shutil.copytree(catalogue.resolve(name), tmp_path / name))


@linux
def test_a_speech_model_is_loaded_with_each_file_opened_once(copied: Callable[[str], Path]) -> None:
    directory = copied("asr-small-en")
    with opened(directory) as counts:
        parastream.model.load(directory)
    assert counts == dict.fromkeys(
        ["am.mvn", "bpe.codes", "config.yaml", "configuration.json", "model.safetensors", "tokens.json"], 1
    )


@linux
@pytest.mark.parametrize("name", ["punc-small-offline", "punc-small-realtime"])
def test_a_punctuation_model_is_loaded_with_each_file_opened_once(copied: Callable[[str], Path], name: str) -> None:
    directory = copied(name)
    with opened(directory) as counts:
        parastream.model.load_punctuation(directory)
    assert counts == dict.fromkeys(["config.yaml", "model_quant.onnx", "tokens.json"], 1)


@linux
def test_a_model_is_quantised_with_each_file_opened_once(unquantised: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(unquantised, tmp_path / "model"))
    (directory / "seg_dict").touch()
    with opened(directory) as counts:
        checkpoint.quantize(directory, tmp_path / "quantised")
    names = ("am.mvn", "bpe.codes", "config.yaml", "configuration.json", "model.safetensors", "seg_dict", "tokens.json")
    assert counts == dict.fromkeys(names, 1)


READERS: dict[str, Callable[[ModelDirectory], object]] = {
    "config.yaml": lambda directory: directory.config,
    "configuration.json": lambda directory: directory.configuration,
    "tokens.json": lambda directory: directory.tokens,
    "am.mvn": lambda directory: directory.cmvn,
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", b"a: [", "not a YAML file in UTF-8"),
        ("config.yaml", b"\xff\xfe\x00", "not a YAML file in UTF-8"),
        ("config.yaml", b"- a", "must hold a mapping, not list"),
        ("configuration.json", b"{", "not a JSON file in UTF-8"),
        ("configuration.json", b"\xff", "not a JSON file in UTF-8"),
        ("configuration.json", b"[]", "must hold an object"),
        ("configuration.json", b'{"file_path_metas": 3}', "the object file_path_metas"),
        ("tokens.json", b"[", "not a JSON file in UTF-8"),
        ("tokens.json", b'["\xff"]', "not a JSON file in UTF-8"),
        ("tokens.json", b"{}", "must be a list of tokens"),
        ("tokens.json", b"[]", "must be a list of tokens"),
        ("tokens.json", b'["a", 1]', "token 1 must be a string"),
        ("tokens.json", b'["a", ""]', "token 1 must be a string"),
        ("tokens.json", b'["a", "b", "a"]', "'a' is listed twice"),
        ("am.mvn", b"\xff\xfe<AddShift>", "not a text file in UTF-8"),
        ("am.mvn", b"", "AddShift"),
        ("am.mvn", b"<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n", "Rescale"),
        ("am.mvn", b"<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 x ]\n", "AddShift"),
        ("am.mvn", b"<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 nan ]\n", "finite"),
        ("am.mvn", b"<AddShift> 2 2\n<LearnRateCoef> 0 [ ]\n", "finite"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ModelConfigError, CheckpointError), match=message) as caught:
        READERS[name](ModelDirectory(tmp_path))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "tokens.json", "am.mvn"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelConfigError, match=f"{name}: a model needs this file: No such file"):
        READERS[name](ModelDirectory(tmp_path))


def test_a_directory_needs_no_configuration_of_modelscope(tmp_path: Path) -> None:
    assert ModelDirectory(tmp_path).configuration == {}


def test_what_has_been_read_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('["a", "b"]')
    directory = ModelDirectory(tmp_path)
    assert directory.tokens == ("a", "b")
    (tmp_path / "tokens.json").unlink()
    assert directory.tokens == ("a", "b")
    assert directory.content("tokens.json") == b'["a", "b"]'


def test_the_statistics_are_shift_and_scale(tmp_path: Path) -> None:
    (tmp_path / "am.mvn").write_text(
        "<Nnet>\n<AddShift> 2 2\n<LearnRateCoef> 0 [ -1 -2 ]\n<Rescale> 2 2\n<LearnRateCoef> 0 [ 3 0.5 ]\n</Nnet>\n"
    )
    shift, scale = ModelDirectory(tmp_path).cmvn
    np.testing.assert_array_equal(shift, np.array([-1, -2], np.float32))
    np.testing.assert_array_equal(scale, np.array([3, 0.5], np.float32))


def test_a_description_without_a_token_list_is_told_by_the_name_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: Paraformer\n")
    with pytest.raises(ModelConfigError, match=r"tokens\.json: a model needs this file"):
        ModelConfig.from_directory(ModelDirectory(tmp_path))


def test_the_cuts_of_words(tmp_path: Path) -> None:
    assert ModelDirectory(tmp_path).cuts == {}
    (tmp_path / "seg_dict").write_text("hello hel@@ lo\n你好 你 好\n \n\nworld wor@@ ld\r\n", encoding="utf-8")
    assert ModelDirectory(tmp_path).cuts == {"hello": ("hel@@", "lo"), "world": ("wor@@", "ld")}
    (tmp_path / "seg_dict").write_bytes(b"\xff")
    with pytest.raises(ModelConfigError, match="seg_dict: not a text file in UTF-8"):
        _ = ModelDirectory(tmp_path).cuts
