"""Recordings as people have them: without sizes, joined, cut, damaged. Nothing that can be heard is lost."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray
from parastream.client.sources import FileSource
from parastream.media.decoding import Recording, SourceError

from tests.client.recordings import LIST, cut, encode, holed, joined, ogg, wav

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
SPEECH: NDArray[np.int16] = soundfile.read(SAMPLE, dtype="int16")[0]
BYTES = SPEECH.tobytes()
SECONDS = 12.0

Make = Callable[[Path], Path]


def decoded(path: Path) -> tuple[NDArray[np.float64], Recording]:
    """Everything that can be heard, mono at 16 kHz with full scale 1, and the recording."""
    with Recording(path) as recording:
        samples = np.concatenate([block[:, 0] for block in recording.blocks()]).astype(np.float64)
    if recording.exact:
        samples /= 32768
    step = recording.rate // 16_000
    return samples[: len(samples) - len(samples) % step].reshape(-1, step).mean(axis=1), recording


def likeness(samples: NDArray[np.float64], expected: NDArray[Any]) -> float:
    """Correlation of the loudness of what was heard with that of what is expected; codecs may delay sound a little."""
    length = min(len(samples), len(expected)) // 1600 * 1600 - 3200

    def level(of: NDArray[Any], start: int) -> NDArray[np.float64]:
        return np.asarray(
            np.square(of[start : start + length].astype(np.float64).reshape(-1, 1600)).mean(axis=1) ** 0.5
        )

    said = level(expected, 1600)
    return max(float(np.corrcoef(level(samples, start), said)[0, 1]) for start in range(0, 3200, 80))


def twice(make: Make) -> Make:
    def join(path: Path) -> Path:
        once = make(path.with_stem("once"))
        return joined(path, once, once)

    return join


def mp3(path: Path, **options: str) -> Path:
    return encode(path, SPEECH, "libmp3lame", options=options)


def mp3_without_header(path: Path) -> Path:
    return mp3(path, write_xing="0", id3v2_version="0")


def tagged_mp3(path: Path) -> Path:
    return encode(path, SPEECH, "libmp3lame", metadata={"title": "x" * 4000}, options={"write_id3v1": "1"})


def second_channel(path: Path) -> Path:
    """Two channels, of which the second has the speech."""
    soundfile.write(path, np.stack([np.zeros_like(SPEECH), SPEECH], axis=1) / 32768, 16_000, format="MP3")
    return path


def rf64(path: Path) -> Path:
    """A large-file recorder that crashed: the sizes are in a chunk of their own, and zero."""
    wav(path, BYTES, riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF)
    content = path.read_bytes()
    path.write_bytes(b"RF64" + content[4:12] + b"ds64" + (28).to_bytes(4, "little") + bytes(28) + content[12:])
    return path


ONCE: dict[str, Make] = {
    "a.mp3": mp3,
    "no-header.mp3": mp3_without_header,
    "a.m4a": lambda path: encode(path, SPEECH, "aac"),
    "fast-start.m4a": lambda path: encode(path, SPEECH, "aac", options={"movflags": "faststart"}),
    "fragments.mp4": lambda path: encode(path, SPEECH, "aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "video.mp4": lambda path: encode(path, SPEECH, "aac", video=True),
    "video.mkv": lambda path: encode(path, SPEECH, "libopus", video=True),
    "a.webm": lambda path: encode(path, SPEECH, "libopus"),
    "a.opus": lambda path: encode(path, SPEECH, "libopus"),
    "a.ogg": lambda path: ogg(path, SPEECH),
    "a.aac": lambda path: encode(path, SPEECH, "aac", container="adts"),
    "a.aiff": lambda path: encode(path, SPEECH, "pcm_s16be"),
    "a.au": lambda path: encode(path, SPEECH, "pcm_s16be"),
    "a.caf": lambda path: encode(path, SPEECH, "pcm_s16be"),
    "24-bits.flac": lambda path: encode(path, SPEECH, "flac", options={}),
    "8-bits.wav": lambda path: wav(path, ((SPEECH >> 8) + 128).astype(np.uint8).tobytes(), bits=8),
    "float.wav": lambda path: wav(path, (SPEECH / 32768).astype("<f8").tobytes(), tag=3, bits=64),
    # A recorder that crashed, or that wrote into a pipe.
    "zero.wav": lambda path: wav(path, BYTES, riff_size=0, data_size=0),
    "header-only.wav": lambda path: wav(path, BYTES, riff_size=36, data_size=0),
    "list.wav": lambda path: wav(path, BYTES, riff_size=0, data_size=0, extra=LIST),
    "list-and-header-only.wav": lambda path: wav(path, BYTES, riff_size=36, data_size=0, extra=LIST),
    "pipe.wav": lambda path: wav(path, BYTES, riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF),
    "sox-pipe.wav": lambda path: wav(path, BYTES, riff_size=0x7FFFFFFF, data_size=0x7FFFFFFF - 36),
    # One that wrote the sizes of another moment.
    "stale.wav": lambda path: wav(path, BYTES, riff_size=64_036, data_size=64_000),
    "stale-with-list.wav": lambda path: wav(path, BYTES, riff_size=36, data_size=2_000, extra=LIST),
    "zero.rf64": lambda path: rf64(path),
    "pipe-with-list.wav": lambda path: wav(path, BYTES, riff_size=0, data_size=0xFFFFFFFF, extra=LIST),
}  # fmt: skip
TWICE: dict[str, Make] = {
    "joined.wav": twice(lambda path: wav(path, BYTES)),
    "joined.mp3": twice(mp3),
    "joined-no-header.mp3": twice(mp3_without_header),
    "joined-tagged.mp3": twice(tagged_mp3),
    "chained.ogg": twice(ONCE["a.ogg"]),
    "chained.opus": twice(ONCE["a.opus"]),
    "joined.flac": twice(ONCE["24-bits.flac"]),
    "joined.aac": twice(ONCE["a.aac"]),
    "joined.webm": twice(ONCE["a.webm"]),
    "other-rate.mp3": lambda path: joined(
        path,
        mp3(path.with_stem("one")),
        encode(path.with_stem("other"), np.repeat(SPEECH, 2), "libmp3lame", rate=32_000),
    ),
    "other-channels.mp3": lambda path: joined(path, mp3(path.with_stem("one")), second_channel(path.with_stem("two"))),
}


@pytest.mark.parametrize("name", ONCE)
def test_all_of_a_recording_is_heard(tmp_path: Path, name: str) -> None:
    samples, recording = decoded(ONCE[name](tmp_path / name))
    assert len(samples) / 16_000 == pytest.approx(SECONDS, abs=0.15)
    assert likeness(samples, SPEECH) > 0.98
    assert not recording.damage
    assert recording.duration is None or recording.duration == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("name", TWICE)
def test_all_of_joined_recordings_is_heard(tmp_path: Path, name: str) -> None:
    samples, recording = decoded(TWICE[name](tmp_path / name))
    assert len(samples) / 16_000 == pytest.approx(2 * SECONDS, abs=0.3)
    half = 11 * 16_000
    assert likeness(samples[:half], SPEECH) > 0.98
    assert likeness(samples[-half:], SPEECH[-half:]) > 0.98
    assert not recording.damage
    assert recording.estimated_duration() in (None, pytest.approx(2 * SECONDS, abs=0.3))  # never that of the first


def test_chunks_behind_the_samples_are_not_heard(tmp_path: Path) -> None:
    path = wav(tmp_path / "tagged.wav", BYTES)
    path.write_bytes(path.read_bytes() + 500 * LIST)
    assert len(decoded(path)[0]) == len(SPEECH)


def test_samples_that_fit_are_not_touched(tmp_path: Path) -> None:
    with Recording(wav(tmp_path / "a.wav", BYTES)) as recording:
        assert recording.exact
        np.testing.assert_array_equal(np.concatenate(list(recording.blocks()))[:, 0], SPEECH)


@pytest.mark.parametrize(
    "name",
    [
        "a.mp3",
        "no-header.mp3",
        "fast-start.m4a",
        "fragments.mp4",
        "a.webm",
        "a.opus",
        "a.ogg",
        "a.aac",
        "a.aiff",
        "a.au",
        "a.caf",
    ],
)
def test_a_cut_recording_is_heard_up_to_the_cut(tmp_path: Path, name: str) -> None:
    samples, recording = decoded(cut(tmp_path / f"cut-{name}", ONCE[name](tmp_path / name)))
    assert 5.5 < len(samples) / 16_000 < 8.0
    assert likeness(samples, SPEECH) > 0.98
    assert recording.damage


def test_a_cut_wav_file_is_heard_up_to_the_cut(tmp_path: Path) -> None:
    samples, recording = decoded(wav(tmp_path / "cut.wav", BYTES[:256_000], data_size=len(BYTES)))
    assert len(samples) == 128_000
    assert str(recording.damage) == "damaged audio at 8.0 s (4.0 s less than its header says); the rest has been read"


def test_a_cut_flac_file_is_heard_up_to_the_cut(tmp_path: Path) -> None:
    samples, recording = decoded(cut(tmp_path / "cut.flac", SAMPLE))
    np.testing.assert_array_equal(samples * 32768, SPEECH[: len(samples)])
    assert len(samples) > 6.0 * 16_000
    assert recording.damage


@pytest.mark.parametrize(
    "name", ["a.mp3", "no-header.mp3", "a.m4a", "fragments.mp4", "a.webm", "a.opus", "a.ogg", "a.aac", "24-bits.flac"]
)
def test_what_follows_a_damaged_place_is_heard(tmp_path: Path, name: str) -> None:
    samples, recording = decoded(holed(tmp_path / f"hole-{name}", ONCE[name](tmp_path / name)))
    assert recording.damage
    assert len(samples) / 16_000 > 11.0
    assert likeness(samples[: 5 * 16_000], SPEECH) > 0.98
    # WebM goes on with the next cluster, which begins 10 s after the beginning.
    assert likeness(samples[-31_000:], SPEECH[-31_000:]) > 0.9


@pytest.mark.parametrize("name", ["a.webm", "a.opus", "a.ogg", "a.m4a"])
def test_what_is_missing_leaves_its_time(tmp_path: Path, name: str) -> None:
    """So that subtitles behind it are in step."""
    samples, _ = decoded(holed(tmp_path / f"hole-{name}", ONCE[name](tmp_path / name)))
    assert len(samples) / 16_000 == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_sample_that_is_no_number_costs_itself_only(tmp_path: Path, value: float) -> None:
    samples = (SPEECH / 32768).astype("<f4")
    samples[30_000] = value
    heard, recording = decoded(wav(tmp_path / "nan.wav", samples.tobytes(), tag=3, bits=32))
    samples[30_000] = 0
    np.testing.assert_array_equal(heard, samples)
    assert str(recording.damage).startswith(f"damaged audio at 1.9 s (sample 30000 is {np.float32(value)})")


def test_damaged_places_are_counted_not_listed(tmp_path: Path) -> None:
    samples = (SPEECH / 32768).astype("<f4")
    samples[:: 2 * 16_000] = np.nan
    _, recording = decoded(wav(tmp_path / "nan.wav", samples.tobytes(), tag=3, bits=32))
    assert str(recording.damage).count("is nan") == 3
    assert str(recording.damage).endswith("and in 3 more places; the rest has been read")


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: wav(path, BYTES, rate=2_000_000_000), "a sampling rate of 2000000000 Hz; allowed: 1000 to"),
        (lambda path: wav(path, BYTES, rate=10), "a sampling rate of 10 Hz; allowed: 1000 to"),
        (lambda path: cut(path, ONCE["a.m4a"](path.with_suffix(".m4a"))), "its index is missing"),
        (lambda path: path.write_text(PLAYLIST.format(SAMPLE)), "not a recording that can be read"),
        (lambda path: path.write_text(f"ffconcat version 1.0\nfile '{SAMPLE}'\n"), "not a recording that can be"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)), "not a recording that can be read"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, make: Make, message: str) -> None:
    path = tmp_path / "recording"
    make(path)
    with pytest.raises(SourceError, match=message) as raised:
        Recording(path)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.webm", "a.ogg", "a.aiff", "a.caf", "zero.wav", "float.wav"])
def test_whatever_is_wrong_with_a_file_is_an_error_or_damage(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = ONCE[name](tmp_path / name).read_bytes()
    chance = random.Random(name)
    for _ in range(20):
        wrong = bytearray(content)
        for _ in range(chance.choice((1, 5, 50))):
            wrong[chance.randrange(min(len(wrong), chance.choice((200, len(wrong)))))] = chance.randrange(256)
        (tmp_path / "wrong").write_bytes(wrong)
        try:
            with Recording(tmp_path / "wrong") as recording:
                assert {block.shape[1] for block in recording.blocks()} <= {recording.channels}
        except SourceError:
            pass
    assert capfd.readouterr().err == ""


def test_sound_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="of an unknown kind"):
        Recording(wav(tmp_path / "unknown.wav", BYTES, tag=0x7777))


def test_tags_that_are_not_utf_8_do_not_matter(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", SPEECH, "libmp3lame", metadata={"title": "Übung"})
    path.write_bytes(path.read_bytes().replace("Übung".encode(), b"\xdc\xffbung"))
    assert len(decoded(path)[0]) / 16_000 == pytest.approx(SECONDS, abs=0.15)


def test_a_name_that_is_not_utf_8_can_be_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    with pytest.raises(SourceError, match="No such file") as raised:
        Recording(path)
    assert str(raised.value).startswith(f"{tmp_path}/\\xff.wav: ")
    with Recording(wav(path, BYTES)) as recording:
        assert recording.duration == SECONDS


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.webm", "zero.wav", "chained.ogg"])
def test_a_pipe_is_read_as_it_comes(tmp_path: Path, name: str) -> None:
    content = (ONCE | TWICE)[name](tmp_path / name).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()

    async def run() -> int:
        source = FileSource(pipe, pace=0)
        return sum([round(16_000 * len(block) / source.rate) async for block in source])

    seconds = 2 * SECONDS if name in TWICE else SECONDS
    assert asyncio.run(run()) / 16_000 == pytest.approx(seconds, abs=0.15)
    writer.join()


def test_a_long_recording_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    path = wav(tmp_path / "long.wav", b"", channels=2, rate=48_000, data_size=1200 * 48_000 * 4)
    os.truncate(path, path.stat().st_size + 1200 * 48_000 * 4)  # a hole takes no space on the disk

    async def run() -> tuple[float, int]:
        process = psutil.Process()
        before = process.memory_info().rss
        seconds, most = 0.0, 0
        source = FileSource(path, block=10.0, pace=0)
        assert source.duration == 1200
        async for block in source:
            seconds += len(block) / source.rate
            most = max(most, process.memory_info().rss - before)
        return seconds, most

    seconds, most = asyncio.run(run())
    assert seconds == pytest.approx(1200)
    assert most < 100 << 20  # as a whole it has 460 MB, as samples of 32 bits 920
