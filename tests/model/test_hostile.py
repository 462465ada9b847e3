"""Model directories that somebody made to do harm: each ends in an error at once, and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from parastream.model import torch_zip
from parastream.model.directory import ModelDirectory
from parastream.model.errors import CheckpointError

EMBEDDED = Path(str(files("parastream.model"))) / "assets" / "asr-small-en"

LOAD = """
import json, resource, sys, time
import mlx.core
import parastream.model
import parastream.model.whisper.speech
from parastream.model.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in sys.stdin:
    began, message = time.process_time(), None
    try:
        parastream.model.load_final_pass(json.loads(line))
    except CheckpointError as error:
        message = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([message, grown // 1024, time.process_time() - began]), flush=True)
"""
"""Loads the directories that it is given; tells of each the error, the MiB taken so far and the seconds of the CPU."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def config(directory: Path, section: str, **values: object) -> None:
    """Change a section of the configuration."""
    path = directory / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(content))


def append(directory: Path, text: str) -> None:
    with (directory / "config.yaml").open("a") as file:
        file.write(f"\n{text}\n")


def levels(make: Callable[[int], str], count: int) -> str:
    return "\n".join(make(level) for level in range(1, count))


def weights(directory: Path, data: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Put a `model.pt` in the place of the weights."""
    (directory / "model.safetensors").unlink(missing_ok=True)
    (directory / "configuration.json").unlink(missing_ok=True)
    with zipfile.ZipFile(directory / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return directory / "model.pt"


def names_of_tuples() -> bytes:
    """A pickle that asks for a function whose name is a tuple of tuples of tuples."""
    data = b"\x80\x04X\x01\x00\x00\x00xq\x00"
    for level in range(1, 60):
        data += b"h" + bytes([level - 1]) + b"h" + bytes([level - 1]) + b"\x86q" + bytes([level])
    return data + b"X\x01\x00\x00\x00y\x93."


def shared_storage(tensors: int, size: int) -> bytes:
    """A pickle of tensors that all lie in one storage."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    storage = b"(" + text("storage") + b"ctorch\nBFloat16Storage\n" + text("0") + text("cpu") + integer(size) + b"tQ"
    shape = b"(" + integer(size) + b"t(" + integer(1) + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(0) + shape + b"\x89}tR"
    return b"\x80\x02}(" + b"".join(text(f"t{number}") + tensor for number in range(tensors)) + b"u."


def duplicates(directory: Path) -> None:
    tokens = [f"t{number}" for number in range(200_000)]
    (directory / "tokens.json").write_text(json.dumps([*tokens, tokens[-1]]))


def huge(directory: Path) -> None:
    with (directory / "tokens.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room on the disk


def pipe(directory: Path) -> None:
    (directory / "tokens.json").unlink()
    os.mkfifo(directory / "tokens.json")


FIRST = "l0: &l0 [x, x]\n"
HOSTILE: dict[str, Callable[[Path], object]] = {
    "aliases": lambda d: append(d, FIRST + levels(lambda n: f"l{n}: &l{n} [" + f"*l{n - 1}," * 9 + "]", 30)),
    "a few aliases in an unknown field": lambda d: append(
        d, FIRST + levels(lambda n: f"l{n}: &l{n} [*l{n - 1}, *l{n - 1}]", 45) + "\nencoder_conf: {zzz: *l44}"
    ),
    "merge keys": lambda d: append(
        d, "l0: &l0 {a: 1}\n" + levels(lambda n: f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}", 40)
    ),
    "deep YAML": lambda d: append(d, "deep: " + "[" * 20_000),
    "deep YAML that is complete": lambda d: append(d, "deep: " + "[" * 20_000 + "]" * 20_000),
    "a date that never was": lambda d: append(d, "when: 2024-13-45"),
    "an integer without digits": lambda d: append(d, "number: 0x_"),
    "an integer of many digits": lambda d: append(d, "number: " + "9" * 6000),
    "a list as a key": lambda d: append(d, "? [a, b]\n: c"),
    "a number of any type": lambda d: append(d, "encoder_conf: !!python/object/apply:os.system ['true']"),
    "a billion blocks": lambda d: config(d, "encoder_conf", num_blocks=10**9),
    "a thousand large blocks": lambda d: config(d, "encoder_conf", num_blocks=1000, output_size=1 << 16),
    "a thousand blocks of the decoder": lambda d: config(d, "decoder_conf", num_blocks=1000, linear_units=1 << 20),
    "a huge kernel": lambda d: config(d, "encoder_conf", kernel_size=10**12),
    "no kernel": lambda d: config(d, "decoder_conf", kernel_size=-5),
    "a billion bands": lambda d: config(d, "frontend_conf", n_mels=10**9),
    "a huge window": lambda d: config(d, "frontend_conf", frame_length=10**9),
    "an infinite threshold": lambda d: config(d, "predictor_conf", tail_threshold=float("inf")),
    "a threshold that is no number": lambda d: config(d, "predictor_conf", smooth_factor=float("nan")),
    "a threshold beyond all floats": lambda d: config(d, "predictor_conf", tail_threshold=10**400),
    "a model with the name of a list": lambda d: append(d, "model: [[[]]]"),
    "deep JSON": lambda d: (d / "tokens.json").write_text("[" * 200_000 + "]" * 200_000),
    "deep JSON beside it": lambda d: (d / "configuration.json").write_text('{"a":' * 100_000),
    "an integer of many digits in JSON": lambda d: (d / "configuration.json").write_text("9" * 10_000),
    "tokens listed twice": duplicates,
    "tokens without end": huge,
    "tokens from a pipe": pipe,
    "tokens of a huge name": lambda d: (d / "tokens.json").write_text(json.dumps(["x" * 10_000_000] * 2)),
    "a pointer in place of the configuration": lambda d: (d / "config.yaml").write_bytes(LFS),
    "a pointer in place of the weights": lambda d: (d / "model.safetensors").write_bytes(LFS),
    "weights that are not there": lambda d: (d / "configuration.json").write_text(
        '{"file_path_metas": {"init_param": "lost.pt"}}'
    ),
    "a pickle of nested names": lambda d: weights(d, names_of_tuples()),
    "a pickle of many tensors in one storage": lambda d: weights(
        d, shared_storage(5000, 10**6), {"0": bytes(2 * 10**6)}
    ),
    "a safetensors file of a huge header": lambda d: (d / "model.safetensors").write_bytes(
        struct.pack("<Q", 1 << 60) + b"{}" + bytes(30_000_000)
    ),
}  # fmt: skip


def whisper(directory: Path, **values: object) -> Path:
    """Make a Whisper directory of it, with changes, and return its configuration."""
    shutil.rmtree(directory)
    shutil.copytree(EMBEDDED.with_name("whisper-tiny-en"), directory)
    path = directory / "config.json"
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return path


HOSTILE |= {
    "a billion layers of Whisper": lambda d: whisper(d, encoder_layers=10**9),
    "a huge Whisper": lambda d: whisper(d, d_model=1 << 16, encoder_layers=1000, decoder_layers=1000),
    "Whisper with a long memory": lambda d: whisper(d, max_target_positions=10**12),
    "a pointer in place of Whisper's configuration": lambda d: whisper(d).write_bytes(LFS),
    "deep JSON of Whisper": lambda d: whisper(d).write_text("[" * 200_000),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model that works, before somebody changes it."""
    copy = tmp_path / "model"
    shutil.copytree(EMBEDDED, copy)
    for path in copy.iterdir():
        path.chmod(0o644)
    return copy


class Loader:
    """A process that loads one directory after the other; a new one where the last has not survived."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def load(self, directory: Path) -> tuple[str | None, int, float, str]:
        """Return what it tells of the directory, and what it logs."""
        if self._process is None:
            command = [sys.executable, "-W", "ignore", "-c", LOAD]
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        process, logged = self._process, len(self._log.read_text())
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(str(directory)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            self.close()
        told = self._log.read_text()[logged:]
        assert answer, told[-2000:]
        message, grown, seconds = json.loads(answer)
        return message, grown, seconds, told

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    loader = Loader(tmp_path_factory.mktemp("loader") / "log")
    yield loader
    loader.close()


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_directory_is_refused_at_once_and_in_little_memory(
    directory: Path, spoil: Callable[[Path], object], loader: Loader
) -> None:
    spoil(directory)
    message, grown, seconds, log = loader.load(directory)
    assert message, "it was loaded"
    assert grown < 300
    assert seconds < 10, "of the CPU, of which a busy machine gives less in the same time"
    assert len(message) < 1500
    assert len(log) < 2000


def test_a_pickle_is_refused_whatever_the_size_of_the_network(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="asks for something that has no name"):
        torch_zip.read(weights(directory, names_of_tuples()))
    path = weights(directory, shared_storage(5000, 10**6), {"0": bytes(2 * 10**6)})
    with pytest.raises(CheckpointError, match="cannot come from"):
        torch_zip.read(path)
    path = weights(directory, shared_storage(2, 10), {"0": bytes(20)})
    assert set(torch_zip.read(path)) == {"t0", "t1"}, "tied weights are no attack"


def test_a_byte_order_mark_changes_nothing(directory: Path) -> None:
    for name in ("config.yaml", "tokens.json", "am.mvn"):
        (directory / name).write_bytes(b"\xef\xbb\xbf" + (directory / name).read_bytes())
    marked, plain = ModelDirectory(directory), ModelDirectory(EMBEDDED)
    assert (marked.config, marked.tokens) == (plain.config, plain.tokens)
    assert (marked.cmvn[0] == plain.cmvn[0]).all()


def test_a_pointer_of_git_lfs_is_called_that(directory: Path) -> None:
    (directory / "tokens.json").write_bytes(LFS)
    with pytest.raises(CheckpointError, match=r"tokens\.json: a git-lfs pointer, not the file itself"):
        _ = ModelDirectory(directory).tokens


def test_python_would_have_run_what_these_pickles_name() -> None:
    """So the test data are what they claim to be."""
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        pickle.loads(names_of_tuples())
