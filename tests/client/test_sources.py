"""Recordings as sources: what comes out is what the file holds, at the right pace, with clear errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.client.sources import FileSource, at_pace, read
from parastream.media.decoding import SourceError

from tests.server.leaping import leaping

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))


def blocks(source: FileSource) -> list[NDArray[Any]]:
    async def collect() -> list[NDArray[Any]]:
        return [block async for block in source]

    return asyncio.run(collect())


def write(path: Path, samples: NDArray[Any], rate: int = 16_000, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    samples: NDArray[np.float32] = soundfile.read(SAMPLE, dtype="float32")[0]
    return samples


def test_sample_is_small_and_has_its_licence_beside_it() -> None:
    assert SAMPLE.stat().st_size < 300_000
    assert "Carnegie Mellon" in (SAMPLE.parent / "LICENSE-AN4").read_text()


def test_blocks_are_the_recording(speech: NDArray[np.float32]) -> None:
    source = FileSource(SAMPLE, block=0.1, pace=0)
    assert (source.format, source.rate, source.duration) == ("s16le", 16_000, 12.0)
    found = blocks(source)
    assert {len(block) for block in found} == {1600}
    np.testing.assert_array_equal(np.concatenate(found), (speech * 32768).astype(np.int16))


@pytest.mark.parametrize("length", [0, 1, 1599, 1600, 1601])
def test_any_length(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "short.wav", np.arange(length, dtype=np.int16))
    np.testing.assert_array_equal(
        np.concatenate([np.zeros(0, np.int16), *blocks(FileSource(path, pace=0))]), np.arange(length)
    )


@pytest.mark.parametrize("name", ["speech.wav", "speech.flac", "speech.mp3", "speech.ogg"])
def test_kinds_of_files(
    tmp_path: Path, speech: NDArray[np.float32], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / name, speech)
    samples, rate = read(path)
    assert rate == 16_000
    assert len(samples) == len(speech)
    streamed = np.concatenate(blocks(FileSource(path, pace=0)))
    as_float = streamed / 32768 if streamed.dtype == np.int16 else streamed
    np.testing.assert_allclose(as_float, samples, atol=1e-6)
    # Lossy kinds keep speech recognisable, which a correlation shows without a model.
    assert np.corrcoef(samples, speech)[0, 1] > 0.95
    assert capfd.readouterr().err == ""


def test_float_samples_stay_float(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    path = write(tmp_path / "float.wav", speech * 3, subtype="FLOAT")
    source = FileSource(path, pace=0)
    assert source.format == "f32le"
    np.testing.assert_array_equal(np.concatenate(blocks(source)), speech * 3)


def test_channels(tmp_path: Path) -> None:
    left, right = np.full(2000, 1000, np.int16), np.full(2000, -3000, np.int16)
    path = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1))
    picked = FileSource(path, pace=0, channel=1)
    assert picked.format == "s16le"
    np.testing.assert_array_equal(np.concatenate(blocks(picked)), right)
    np.testing.assert_allclose(np.concatenate(blocks(FileSource(path, pace=0))), -1000 / 32768)
    np.testing.assert_allclose(read(path)[0], -1000 / 32768)
    np.testing.assert_allclose(read(path, channel=0)[0], 1000 / 32768)
    apart = FileSource(path, pace=0, channel="all")
    assert (apart.format, apart.channels, picked.channels) == ("s16le", 2, 1)
    assert {block.shape for block in blocks(apart)} == {(1600, 2), (400, 2)}
    np.testing.assert_array_equal(np.concatenate(blocks(apart)), np.stack([left, right], axis=1))
    np.testing.assert_allclose(read(path, channel="all")[0], np.stack([left, right], axis=1) / 32768)
    with pytest.raises(SourceError, match=r"stereo\.wav: there is no channel 2, only 0 to 1"):
        FileSource(path, channel=2)


@pytest.mark.parametrize(("rate", "sent"), [(8_000, 8_000), (44_100, 44_100), (6_000, 16_000), (96_000, 16_000)])
def test_rates_that_no_server_takes_are_resampled(tmp_path: Path, rate: int, sent: int) -> None:
    seconds = np.arange(rate) / rate
    path = write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * seconds), rate)
    source = FileSource(path, pace=0)
    assert source.rate == sent
    decoded = np.concatenate(blocks(source)).astype(np.float64)
    assert len(decoded) == sent
    spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))))
    assert spectrum.argmax() == 440


def test_channels_kept_apart_are_resampled_apart(tmp_path: Path) -> None:
    seconds = np.arange(6_000) / 6_000
    tones = np.stack([np.sin(2 * np.pi * 440 * seconds), np.sin(2 * np.pi * 660 * seconds)], axis=1)
    path = write(tmp_path / "tones.wav", 0.5 * tones, 6_000)
    decoded = np.concatenate(blocks(FileSource(path, pace=0, channel="all"))).astype(np.float64)
    assert decoded.shape == (16_000, 2)
    spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))[:, None], axis=0))
    assert spectrum.argmax(axis=0).tolist() == [440, 660]


@leaping
async def test_pace_never_drifts() -> None:
    async def twenty_seconds_each() -> AsyncIterator[int]:
        for index in range(10):
            yield index

    loop = asyncio.get_running_loop()
    began = loop.time()
    late: list[float] = []
    async for _ in at_pace(twenty_seconds_each(), 10.0):
        late.append(loop.time() - began - 10.0 * (len(late) + 1))
        await asyncio.sleep(3.0)  # a reader that takes its time
    assert len(late) == 10
    # None comes before its time, and the reader's own time is not added to that of the next.
    assert min(late) > -0.01
    assert late[-1] < 3.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.wav", None, "No such file"),
        ("empty.wav", b"", "not a recording that can be read"),
        ("text.wav", b"hello", "not a recording that can be read"),
        ("bare.raw", bytes(100), "not a recording that can be read"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for attempt in (FileSource, read):
        with pytest.raises(SourceError, match=message) as raised:
            attempt(path)
        assert str(raised.value).startswith(f"{path}: ")


def test_directory_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Is a directory"):
        read(tmp_path)


def test_damaged_recording_gives_what_precedes_the_damage_then_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    path.write_bytes(SAMPLE.read_bytes()[:80_000])

    decoded: list[int] = []

    async def run() -> None:
        async for block in FileSource(path, pace=0):
            decoded.append(len(block))

    with pytest.raises(SourceError, match="damaged audio"):
        asyncio.run(run())
    assert sum(decoded) > 48_000
    with pytest.raises(SourceError, match="damaged audio"):
        read(path)


@pytest.mark.parametrize(("options", "message"), [({"block": 0}, "block must be"), ({"pace": -1}, "pace must be")])
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FileSource(SAMPLE, **options)
