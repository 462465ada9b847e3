"""The detector in batches and on groups of frames, on real speech; finding its weights."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.model.errors import HubError
from parastream.streaming import vad as vad_module
from parastream.streaming.endpoint import End, EndpointConfig, Endpointer, EndpointEvent
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


def endpoints(probabilities: NDArray[np.float32]) -> list[EndpointEvent]:
    endpointer = Endpointer(EndpointConfig())
    return [event for probability in probabilities.tolist() for event in endpointer.push(probability, 0.0)]


def test_a_batch_gives_each_what_it_gets_alone(vad: Vad, speech: NDArray[np.float32]) -> None:
    """Sessions that begin at different times, with any number of frames at a time, in batches that change."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, len(speech)).astype(np.float32)
    sources = [speech, speech[5000:], noise, speech + noise, np.zeros_like(speech), 0.1 * speech]
    streams = [frames_of(source)[:40] for source in sources]
    states = [vad.new_state() for _ in streams]
    heard: list[list[float]] = [[] for _ in streams]
    for step in range(40 + len(streams)):
        live = [i for i in rng.permutation(len(streams)) if i <= step and len(heard[i]) < 40]
        counts = rng.integers(0, 6, len(live))
        batch = [streams[i][len(heard[i]) :][:count].flatten() for i, count in zip(live, counts, strict=True)]
        for i, probabilities in zip(live, vad(batch, [states[i] for i in live]), strict=True):
            heard[i] += probabilities.tolist()
        for samples in batch:
            samples[:] = np.nan  # the caller's arrays are not kept
    for stream, together in zip(streams, heard, strict=True):
        np.testing.assert_allclose(together, alone(vad, stream), atol=1e-4)


@pytest.mark.parametrize("size", [2, 3, 20, 68])
def test_grouped_frames_give_the_same_endpoints_as_one_at_a_time(
    vad: Vad, speech: NDArray[np.float32], size: int
) -> None:
    frames = frames_of(np.concatenate((speech, np.zeros(8000, np.float32), speech)))
    state = vad.new_state()
    groups = [vad([frames[start : start + size].ravel()], [state])[0] for start in range(0, len(frames), size)]
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    grouped, single = np.concatenate(groups), alone(vad, frames)
    np.testing.assert_allclose(grouped, single, atol=1e-4)
    assert endpoints(grouped) == endpoints(single)
    assert any(isinstance(event, End) for event in endpoints(single))


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


def test_no_frames(vad: Vad, speech: NDArray[np.float32]) -> None:
    assert vad([], []) == []
    states = [vad.new_state(), vad.new_state()]
    nothing = np.zeros(0, np.float32)
    (probabilities, none), (more, _) = vad([speech[:FRAME], nothing], states), vad([nothing, nothing], states)
    assert (len(probabilities), len(none), len(more)) == (1, 0, 0)
    np.testing.assert_array_equal(
        vad([speech[FRAME : 2 * FRAME]], states[:1])[0], alone(vad, frames_of(speech)[:2])[1:]
    )


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
