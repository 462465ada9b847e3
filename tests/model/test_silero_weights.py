"""Finding and fetching silero's weights, and files that are not such weights."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from parastream.model import silero_weights
from parastream.model.errors import CheckpointError, HubError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")


def package_data() -> Path:
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / "data"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without silero-vad, whose pip finds packages in the returned folder only."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setattr(silero_weights, "_installed", lambda: None)
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path / "parastream"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path, content: dict[str, bytes]) -> None:
    """A wheel of the version that is asked for; like the real one it demands torch."""
    name, version = "silero_vad", silero_weights._REQUIREMENT.split("==")[1]
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: torch\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, data in content.items():
            wheel.writestr(path, data)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip")
MEMBER = "silero_vad/data/silero_vad_16k_op15.onnx"


@pytest.mark.process
@needs_pip
def test_weights_are_fetched_once_and_alone(wheels: Path) -> None:
    weights = package_data() / "silero_vad_16k_op15.onnx"
    make_wheel(wheels, {"silero_vad/data/silero_vad.jit": b"", MEMBER: weights.read_bytes()})
    fetched = silero_weights.find()
    assert [path.name for path in fetched.parent.iterdir()] == ["silero_vad_16k_op15.onnx"]
    next(wheels.iterdir()).unlink()
    cached = silero_weights.load(offline=True)
    for name, array in silero_weights.read(weights).items():
        np.testing.assert_array_equal(cached[name], array)
    fetched.write_bytes(fetched.read_bytes()[:1000])
    with pytest.raises(HubError):  # a damaged file is not used
        silero_weights.find(offline=True)


@pytest.mark.process
@needs_pip
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No matching distribution found for silero-vad=="),
        ({}, "does not hold silero_vad_16k_op15.onnx; to install"),
        ({MEMBER: b"other weights"}, "has another checksum than expected; to install"),
    ],
)
def test_weights_that_cannot_be_fetched(wheels: Path, content: dict[str, bytes] | None, why: str) -> None:
    if content is not None:
        make_wheel(wheels, content)
    with pytest.raises(HubError, match=why) as raised:
        silero_weights.load()
    assert f"{sys.executable} -m pip install --no-deps silero-vad==" in str(raised.value)


@pytest.mark.parametrize("asked", [True, False])
def test_offline_fetches_nothing(wheels: Path, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    if not asked:
        monkeypatch.setenv("PARASTREAM_OFFLINE", "1")
    make_wheel(wheels, {MEMBER: (package_data() / "silero_vad_16k_op15.onnx").read_bytes()})
    with pytest.raises(HubError, match="are not here: fetching them is forbidden"):
        silero_weights.find(offline=asked)


@needs_pip
def test_a_cache_that_cannot_be_written_is_named(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheels.parent / "file").touch()
    monkeypatch.setenv("PARASTREAM_CACHE", str(wheels.parent / "file"))
    with pytest.raises(HubError, match=r"file/vad/silero_vad_16k_op15\.onnx cannot be written"):
        silero_weights.find()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    weights = silero_weights.find()
    whole = weights.read_bytes()
    other = (weights.parent / "silero_vad_16k_sequence.onnx").read_bytes()
    for index, data in enumerate([b"", b"no weights", whole[:1000], whole[:-100_000], other, bytes(1000)]):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=rf"{index}\.onnx: damaged, or not the weights of silero VAD"):
            silero_weights.read(path)
