"""The microphone: what PortAudio's thread delivers arrives in order, and what is missing is named.

There is no recording hardware where tests run, so a module of sounddevice's interface plays the sample
recording from a thread of its own, as PortAudio does.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from parastream.client import microphone
from parastream.client.microphone import MicrophoneError, MicrophoneSource, list_devices

from tests.waiting import LIMIT

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
DEVICES = [
    {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 44_100.0},
    {"name": "Headset", "max_input_channels": 2, "default_samplerate": 44_100.0},
]


class PortAudioError(Exception):
    pass


class Recorder:
    """A RawInputStream whose device plays the sample recording at 200 times real time; backwards on channel 1."""

    absent = False
    """Whether it cannot be used, since it has been unplugged."""

    def __init__(
        self, *, samplerate: int, blocksize: int, channels: int, callback: Any, finished_callback: Any, **_: Any
    ) -> None:
        samples = soundfile.read(SAMPLE, dtype="int16")[0]
        self.samples = samples if channels == 1 else np.stack([samples, samples[::-1]], axis=1)
        self.blocksize = blocksize
        self.callback = callback
        self.finished = finished_callback
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        buffer = bytearray(self.samples[: self.blocksize].nbytes)  # reused, as PortAudio's is
        for start in range(0, len(self.samples), self.blocksize):
            if self.stopping.wait(0.0005):
                return
            buffer[:] = self.samples[start : start + self.blocksize].tobytes()
            self.callback(memoryview(buffer), self.blocksize, None, None)

    def start(self) -> None:
        if self.absent:
            raise PortAudioError("Device unavailable")
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()

    def close(self) -> None:
        assert not self.thread.is_alive()


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("sounddevice")
    module.PortAudioError = PortAudioError
    module.RawInputStream = Recorder
    module.default = SimpleNamespace(device=(1, 0))
    module.rates = {16_000, 44_100}
    module.scans = 0

    def initialize() -> None:
        module.scans += 1

    module._initialize = initialize
    module._terminate = lambda: None
    monkeypatch.setattr(Recorder, "absent", False)
    monkeypatch.setitem(DEVICES[1], "default_samplerate", 44_100.0)

    def query_devices(device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return DEVICES
        if device in (None, 1, "Headset"):
            return DEVICES[1]
        raise ValueError(f"No input device matching {device!r}")

    def check_input_settings(device: object, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate not in module.rates:
            raise PortAudioError("Invalid sample rate")

    module.query_devices = query_devices
    module.check_input_settings = check_input_settings
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_sound_arrives_whole_and_in_order(portaudio: Any) -> None:
    async def run() -> None:
        recorded: list[Any] = []
        async with MicrophoneSource() as source:
            assert (source.name, source.rate, source.format) == ("Headset", 16_000, "s16le")
            async for block in source:
                recorded.append(block)
                if sum(map(len, recorded)) == 12 * 16_000:
                    source.stop()
        np.testing.assert_array_equal(np.concatenate(recorded), soundfile.read(SAMPLE, dtype="int16")[0])
        assert source.dropped == 0

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_channel_for_each_microphone(portaudio: Any) -> None:
    async def run() -> None:
        async with MicrophoneSource(channels=2) as source:
            source._stream.thread.join()
            source.stop()
            recorded = [block async for block in source]
        assert {block.shape for block in recorded} == {(1600, 2)}
        samples = soundfile.read(SAMPLE, dtype="int16")[0]
        np.testing.assert_array_equal(np.concatenate(recorded), np.stack([samples, samples[::-1]], axis=1))

    asyncio.run(asyncio.wait_for(run(), 10))
    with pytest.raises(MicrophoneError, match="3 channels are asked for, it has 2"):
        MicrophoneSource(channels=3)


def test_blocks_handed_over_before_the_stop_are_still_given_out(portaudio: Any) -> None:
    async def run() -> None:
        async with MicrophoneSource() as source:
            source._stream.thread.join()  # the device is done before anybody has looked
            source.stop()
            assert [len(block) async for block in source] == [1600] * 120

    asyncio.run(asyncio.wait_for(run(), 10))


def test_stalled_reader_loses_the_oldest_and_knows_it(portaudio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "KEPT_SECONDS", 5.0)

    async def run() -> None:
        async with MicrophoneSource() as source:
            source._stream.thread.join()
            source.stop()
            recorded = np.concatenate([block async for block in source])
        np.testing.assert_array_equal(recorded, soundfile.read(SAMPLE, dtype="int16")[0][-5 * 16_000 :])
        assert source.dropped == pytest.approx(7.0)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_device_that_cannot_16_khz_keeps_its_own_rate(portaudio: Any) -> None:
    portaudio.rates = {44_100}
    assert MicrophoneSource("Headset").rate == 44_100


@pytest.mark.parametrize("rate", [96_000, 192_000, 4_000])
def test_device_that_offers_only_what_no_server_takes_is_resampled(portaudio: Any, rate: int) -> None:
    portaudio.rates = {rate}
    DEVICES[1]["default_samplerate"] = float(rate)

    async def run() -> None:
        async with MicrophoneSource() as source:
            assert source.rate == 16_000
            source._stream.thread.join()
            source.stop()
            recorded = np.concatenate([block async for block in source])
        played = soundfile.read(SAMPLE, dtype="int16")[0]
        expected = soxr.resample(played, rate, 16_000, quality="HQ")
        assert len(recorded) == pytest.approx(len(expected), abs=1)
        np.testing.assert_allclose(recorded[: len(expected)], expected[: len(recorded)], atol=2)

    asyncio.run(asyncio.wait_for(run(), 30))


class Watched:
    """A microphone, and what it has told about being there."""

    def __init__(self) -> None:
        self.source = MicrophoneSource()
        self.told: list[str] = []
        self.source.on_lost = lambda: self.told.append("lost")
        self.source.on_found = lambda: self.told.append("found")


@pytest.mark.parametrize("tells", [True, False])
def test_an_unplugged_microphone_is_told_at_once_and_heard_again(
    portaudio: Any, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    """Some systems tell that a device is gone; with others it gives no more sound."""
    monkeypatch.setattr(microphone, "RETRY_SECONDS", 0.01)
    if not tells:
        monkeypatch.setattr(microphone, "DEAD_SECONDS", 1.0)

    async def run() -> None:
        watched = Watched()
        recorded: list[Any] = []
        async with watched.source as source:
            source._stream.thread.join()
            Recorder.absent = True
            if tells:
                source._stream.finished()
            async for block in source:
                recorded.append(block)
                if watched.told == ["lost"]:
                    asyncio.get_running_loop().call_later(0.1, setattr, Recorder, "absent", False)
                if "found" in watched.told:  # this block comes from the new stream
                    source.stop()
        assert watched.told[:2] == ["lost", "found"]
        played = soundfile.read(SAMPLE, dtype="int16")[0]
        silence = np.zeros(16_000, np.int16)
        heard = np.concatenate(recorded)[: 13 * 16_000 + 1600]
        np.testing.assert_array_equal(heard, np.concatenate([played, silence, played[:1600]]))
        assert portaudio.scans > 1

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_process_that_stood_still_does_not_take_its_microphone_for_gone(
    portaudio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been too long since the last block when it goes on, and the next ones are about to be handed over."""
    monkeypatch.setattr(microphone, "DEAD_SECONDS", 0.01)
    monkeypatch.setattr(microphone, "_MOMENT", LIMIT)
    goes_on, play = threading.Event(), Recorder.run

    def late(recorder: Recorder) -> None:
        goes_on.wait()
        play(recorder)

    monkeypatch.setattr(Recorder, "run", late)

    async def run() -> None:
        watched = Watched()
        async with watched.source as source:
            asyncio.get_running_loop().call_later(0.1, goes_on.set)
            async for _ in source:
                source.stop()
        assert watched.told == []

    asyncio.run(run())


def test_stopping_does_not_wait_for_a_microphone_that_is_gone(portaudio: Any) -> None:
    async def run() -> None:
        watched = Watched()
        async with watched.source as source:
            source._stream.thread.join()
            Recorder.absent = True
            source._stream.finished()
            async for _ in source:
                if source.lost:
                    source.stop()
        assert watched.told == ["lost"]

    asyncio.run(asyncio.wait_for(run(), 30))


def test_devices(portaudio: Any) -> None:
    assert [(device.index, device.name, device.default) for device in list_devices()] == [(1, "Headset", True)]


def test_unknown_device(portaudio: Any) -> None:
    with pytest.raises(MicrophoneError, match=r"'Piano'.*No input device.*--list-devices"):
        MicrophoneSource("Piano")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("OSError('PortAudio library not found')", r"PortAudio library: .*(libportaudio2|brew)"),
        ("RuntimeError('Error initializing PortAudio')", r"does not start: Error initializing PortAudio"),
    ],
)
def test_portaudio_that_is_missing_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, message: str
) -> None:
    (tmp_path / "sounddevice.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    for attempt in (MicrophoneSource, list_devices):
        with pytest.raises(MicrophoneError, match=message):
            attempt()
