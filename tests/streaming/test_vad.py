"""The detector against silero's whole-recording model, in batches, on real speech; finding its weights."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.model.errors import HubError
from parastream.streaming import vad as vad_module
from parastream.streaming.vad import FRAME, Vad, find_weights

RECORDING = Path(__file__).parents[1] / "data" / "an4" / "cen8-fvap-b.flac"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("silero_vad") is None, reason="needs silero-vad's files")


@pytest.fixture(scope="module")
def vad() -> Vad:
    return Vad()


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == 16000
    return np.asarray(samples, np.float32)


def package_data() -> Path:
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / "data"


def frames_of(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


def alone(vad: Vad, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    state = vad.new_state()
    return np.concatenate([vad([frame], [state])[0] for frame in frames])


def test_equals_the_published_whole_recording_model(vad: Vad, speech: NDArray[np.float32]) -> None:
    """silero_vad_16k_sequence.onnx judges all frames in one call; each follows 64 samples of the last."""
    path = package_data() / "silero_vad_16k_sequence.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    reference = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    frames = frames_of(speech)
    padded = np.concatenate((np.zeros(64, np.float32), speech))
    rows = np.stack([padded[start : start + 64 + FRAME] for start in range(0, len(frames) * FRAME, FRAME)])
    zeros = np.zeros((1, 1, 128), np.float32)
    expected = reference.run(["speech_probs"], {"input": rows, "h": zeros, "c": zeros})[0]
    np.testing.assert_allclose(alone(vad, frames), expected.ravel(), atol=1e-4)


def test_a_batch_gives_each_what_it_gets_alone(vad: Vad, speech: NDArray[np.float32]) -> None:
    """Sessions that begin at different times, with speech, noise and silence, in batches that change."""
    noise = np.random.default_rng(0).normal(0, 0.05, len(speech)).astype(np.float32)
    sources = [speech, speech[5000:], noise, speech + noise, np.zeros_like(speech), 0.1 * speech]
    streams = [frames_of(source)[:40] for source in sources]
    states = [vad.new_state() for _ in streams]
    heard: list[list[float]] = [[] for _ in streams]
    for step in range(40 + len(streams)):
        live = [i for i, stream in enumerate(streams) if 0 <= step - i < len(stream)]
        live = live[::-1] if step % 2 else live
        batch = np.zeros((len(live), FRAME), np.float32)
        for row, i in enumerate(live):
            batch[row] = streams[i][step - i]
        for i, (probability,) in zip(live, vad(list(batch), [states[i] for i in live]), strict=True):
            heard[i].append(float(probability))
        batch[:] = np.nan  # the caller's array is not kept
    for stream, probabilities in zip(streams, heard, strict=True):
        np.testing.assert_allclose(probabilities, alone(vad, stream), atol=1e-5)


def test_tells_speech_from_noise(vad: Vad, speech: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(1)
    second = 16000
    for level in (0.0, 0.001, 0.1):
        noise = rng.normal(0, level, 5 * second).astype(np.float32)
        assert alone(vad, frames_of(noise)).max() < 0.3
    quiet = np.zeros(second, np.float32)
    around = np.concatenate((quiet, speech, quiet))
    around += rng.normal(0, 0.001, len(around)).astype(np.float32)
    probabilities = alone(vad, frames_of(around))
    before, after = second // FRAME, (second + len(speech)) // FRAME + 10
    assert probabilities[:before].max() < 0.3
    assert probabilities[after:].max() < 0.3
    assert (probabilities[before:after] > 0.9).mean() > 0.4


def test_no_frames(vad: Vad) -> None:
    assert vad([], []) == []


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without silero-vad, whose pip finds packages in the returned folder only."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setattr(vad_module, "_installed", lambda: None)
    monkeypatch.setenv("PARASTREAM_CACHE", str(tmp_path / "parastream"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path, content: dict[str, bytes]) -> None:
    """A wheel of the version that is asked for; like the real one it demands torch."""
    name, version = "silero_vad", vad_module._REQUIREMENT.split("==")[1]
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


@needs_pip
def test_weights_are_fetched_once_and_alone(wheels: Path, speech: NDArray[np.float32]) -> None:
    weights = package_data() / "silero_vad_16k_op15.onnx"
    make_wheel(wheels, {"silero_vad/data/silero_vad.jit": b"", MEMBER: weights.read_bytes()})
    fetched = find_weights()
    assert [path.name for path in fetched.parent.iterdir()] == ["silero_vad_16k_op15.onnx"]
    next(wheels.iterdir()).unlink()
    vad = Vad(offline=True)  # from the cache
    assert alone(vad, frames_of(speech)).max() > 0.9
    fetched.write_bytes(fetched.read_bytes()[:1000])
    with pytest.raises(HubError):  # a damaged file is not used
        Vad(offline=True)


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
        Vad()
    assert f"{sys.executable} -m pip install --no-deps silero-vad==" in str(raised.value)


@pytest.mark.usefixtures("wheels")
def test_offline_fetches_nothing() -> None:
    with pytest.raises(HubError, match="are not here: fetching them is forbidden"):
        Vad(offline=True)
