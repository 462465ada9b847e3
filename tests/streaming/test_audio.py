"""Audio input: values against soundfile and exact signals, and the same output for any framing."""

from __future__ import annotations

import io
import re
import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.errors import AudioError
from parastream.streaming.audio import (
    LARGEST_SAMPLE,
    SAMPLE_RATE,
    AudioFormat,
    AudioInput,
    Encoding,
    resample,
)

RATES = (8000, 11025, 16000, 22050, 24000, 44100, 48000)


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cuts `data` into pieces of the given sizes; the last piece is what they leave."""
    position = 0
    for size in sizes:
        yield data[position : position + size]
        position += size
    yield data[position:]


def received(format: AudioFormat, parts: Iterable[bytes]) -> NDArray[np.float32]:
    """What comes out in all when the parts go in one by one."""
    audio = AudioInput(format)
    out = [audio.push(part) for part in parts]
    return np.concatenate([*out, audio.finish()])


def encoded(samples: NDArray[np.floating], encoding: Encoding) -> bytes:
    """Raw bytes of samples (n,) or (n, channels), written by soundfile."""
    subtype = {
        "s16le": "PCM_16",
        "f32le": "FLOAT",
        "mulaw": "ULAW",
        "alaw": "ALAW",
        "u8": "PCM_U8",
        "s24le": "PCM_24",
        "s32le": "PCM_32",
        "f64le": "DOUBLE",
    }[encoding]
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format="RAW", subtype=subtype, endian="LITTLE")
    return file.getvalue()


def speechlike(samples: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, samples)


@st.composite
def framings(draw: st.DrawFn) -> tuple[AudioFormat, bytes, list[int]]:
    channels = draw(st.integers(1, 3))
    format = AudioFormat(
        draw(st.sampled_from(list(Encoding))),
        draw(st.sampled_from(RATES) | st.integers(8000, 48000)),
        channels,
        draw(st.integers(0, channels - 1) | st.just("mix")),
    )
    samples = speechlike(draw(st.integers(0, 4000)) * channels, draw(st.integers(0, 99))).reshape(-1, channels)
    data = encoded(samples, format.encoding) + bytes(draw(st.integers(0, format.frame_bytes - 1)))
    sizes = draw(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 5000), st.just(200_000)), max_size=60))
    return format, data, sizes


@settings(deadline=None, max_examples=150)
@given(framings())
def test_framing_does_not_show(case: tuple[AudioFormat, bytes, list[int]]) -> None:
    format, data, sizes = case
    whole = received(format, [data])
    assert received(format, pieces(data, sizes)).tobytes() == whole.tobytes()
    frames = len(data) // format.frame_bytes
    assert abs(len(whole) - round(frames * SAMPLE_RATE / format.rate)) <= 1


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_one_byte_at_a_time(encoding: Encoding, rate: int) -> None:
    format = AudioFormat(encoding, rate, 2, 1)
    data = encoded(speechlike(2 * 2500).reshape(-1, 2), encoding)
    assert received(format, pieces(data, [1] * len(data))).tobytes() == received(format, [data]).tobytes()


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_large_messages(rate: int) -> None:
    format = AudioFormat(Encoding.S16LE, rate)
    data = encoded(speechlike(250_000), Encoding.S16LE)
    assert received(format, pieces(data, [200_000, 200_000])).tobytes() == received(format, [data]).tobytes()
    assert received(format, pieces(data, [199_999, 200_001])).tobytes() == received(format, [data]).tobytes()


@pytest.mark.parametrize(("encoding", "subtype"), [(Encoding.MULAW, "ULAW"), (Encoding.ALAW, "ALAW")])
def test_every_companded_code(encoding: Encoding, subtype: str) -> None:
    codes = bytes(range(256))
    expected, _ = soundfile.read(
        io.BytesIO(codes), format="RAW", subtype=subtype, samplerate=16000, channels=1, dtype="float32"
    )
    np.testing.assert_array_equal(AudioInput(AudioFormat(encoding)).push(codes), expected)


@pytest.mark.parametrize(
    ("encoding", "error"),
    [(Encoding.U8, 2**-7), (Encoding.S24LE, 2**-23), (Encoding.S32LE, 2**-31), (Encoding.F64LE, 0)],
)
def test_samples_of_other_widths(encoding: Encoding, error: float) -> None:
    samples = speechlike(1000)
    heard = AudioInput(AudioFormat(encoding)).push(encoded(samples, encoding))
    np.testing.assert_allclose(heard, samples.astype(np.float32), atol=error, rtol=1e-6)


def test_channels_are_mixed_and_none_takes_another_away() -> None:
    one = speechlike(16000)
    for encoding in (Encoding.F32LE, Encoding.S24LE):
        format = AudioFormat(encoding, 16000, 2, "mix")
        alike = received(format, [encoded(np.stack([one, one], axis=1), encoding)])
        inverted = received(format, [encoded(np.stack([one, -one], axis=1), encoding)])
        half = received(format, [encoded(np.stack([one, 0 * one], axis=1), encoding)])
        np.testing.assert_allclose(alike, one, atol=1e-6)
        np.testing.assert_allclose(inverted[8000:], one[8000:], atol=1e-6)
        np.testing.assert_allclose(half, one / 2, atol=1e-6)


def test_a_bad_sample_of_a_mixture_ends_the_input_before_it() -> None:
    samples = np.zeros((100, 2), "<f4")
    samples[60, 1] = np.nan
    audio = AudioInput(AudioFormat(Encoding.F32LE, 16000, 2, "mix"))
    audio.push(samples.tobytes())
    assert "audio sample 60 is nan" in str(audio.error)
    assert audio.frames_received == 60


def test_companded_landmarks_of_g711() -> None:
    mulaw = AudioInput(AudioFormat(Encoding.MULAW)).push(b"\xff\x7f\x80\x00") * 32768
    np.testing.assert_array_equal(mulaw, [0, 0, 32124, -32124])
    alaw = AudioInput(AudioFormat(Encoding.ALAW)).push(b"\xd5\x55\xaa\x2a") * 32768
    np.testing.assert_array_equal(alaw, [8, -8, 32256, -32256])


def test_linear_values() -> None:
    words = np.array([0, 1, -1, 32767, -32768], "<i2")
    out = AudioInput(AudioFormat()).push(words.tobytes())
    np.testing.assert_array_equal(out, words.astype(np.float32) / 32768)
    floats = np.array([0, 0.5, -1.75, LARGEST_SAMPLE], "<f4")  # not clipped
    np.testing.assert_array_equal(AudioInput(AudioFormat(Encoding.F32LE)).push(floats.tobytes()), floats)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_bytes_like_object(make: type[bytes]) -> None:
    assert list(AudioInput(AudioFormat()).push(make(b"\x00\x40"))) == [0.5]


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_channel_is_picked(encoding: Encoding, channel: int) -> None:
    samples = speechlike(300).reshape(100, 3)
    out = AudioInput(AudioFormat(encoding, channels=3, channel=channel)).push(encoded(samples, encoding))
    alone = AudioInput(AudioFormat(encoding)).push(encoded(samples[:, channel], encoding))
    np.testing.assert_array_equal(out, alone)


@pytest.mark.parametrize("rate", RATES)
def test_resampling_keeps_frequency_level_and_time(rate: int) -> None:
    """A 1 kHz tone is the same tone, sample by sample, so nothing has been shifted or scaled."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate)
    out = received(AudioFormat(Encoding.F32LE, rate), [encoded(tone, Encoding.F32LE)])
    expected = np.sin(2 * np.pi * 1000 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    assert len(out) == 2 * SAMPLE_RATE
    inner = slice(800, -800)  # the tone's abrupt ends ring
    np.testing.assert_allclose(out[inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_resampling_removes_what_16_khz_cannot_hold(rate: int) -> None:
    tone = np.sin(2 * np.pi * 11000 * np.arange(rate) / rate)
    out = received(AudioFormat(Encoding.F32LE, rate), [encoded(tone, Encoding.F32LE)])
    assert np.abs(out[800:-800]).max() < 1e-4


def test_a_long_stream_does_not_drift() -> None:
    """A click after ten minutes of silence is where it belongs."""
    rate, seconds = 44100, 600
    audio = AudioInput(AudioFormat(Encoding.S16LE, rate))
    click = np.zeros(rate, "<i2")
    click[rate // 2] = 30000
    before = sum(len(audio.push(bytes(2 * rate))) for _ in range(seconds))
    after = np.concatenate([audio.push(click.tobytes()), audio.finish()])
    assert before + int(np.abs(after).argmax()) == seconds * SAMPLE_RATE + SAMPLE_RATE // 2
    assert before + len(after) == (seconds + 1) * SAMPLE_RATE


@pytest.mark.parametrize("rate", [*RATES, 96000, 4000])
def test_whole_recordings_equal_streams(rate: int) -> None:
    samples = speechlike(rate // 2).astype(np.float32)
    whole = resample(samples, rate)
    assert abs(len(whole) - SAMPLE_RATE / 2) <= 1
    if rate in RATES:
        streamed = received(AudioFormat(Encoding.F32LE, rate), [encoded(samples, Encoding.F32LE)])
        np.testing.assert_array_equal(whole, streamed)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_unusable_float_samples(bad: float, rate: int) -> None:
    good = speechlike(5000).astype("<f4")
    samples = good.copy()
    samples[3001] = bad
    samples[4000] = np.nan
    format = AudioFormat(Encoding.F32LE, rate)
    expected = received(format, [good[:3001].tobytes()])
    message = f"audio sample 3001 is {samples[3001]}; float samples must be finite"
    for sizes in ([], [4 * 3001], [4 * 3001 + 3], [1000] * 19):
        audio = AudioInput(format)
        out = []
        for part in pieces(samples.tobytes(), sizes):
            if audio.error is not None:
                with pytest.raises(AudioError, match=re.escape(message)):
                    audio.push(part)
            else:
                out.append(audio.push(part))
        assert audio.error is not None
        assert message in str(audio.error)
        assert audio.frames_received == 3001
        assert audio.leftover == 0
        np.testing.assert_array_equal(np.concatenate([*out, audio.finish()]), expected)


@given(st.binary(max_size=400))
def test_no_bytes_crash_float_input(data: bytes) -> None:
    audio = AudioInput(AudioFormat(Encoding.F32LE, 8000))
    out = np.concatenate([audio.push(data), audio.finish()])
    assert np.isfinite(out).all()
    assert (audio.error is None) == (audio.frames_received == len(data) // 4)


def test_the_other_channel_may_hold_anything() -> None:
    audio = AudioInput(AudioFormat(Encoding.F32LE, channels=2, channel=1))
    assert list(audio.push(np.array([np.nan, 0.25], "<f4").tobytes())) == [0.25]
    assert audio.error is None


def test_leftover_bytes_are_counted() -> None:
    audio = AudioInput(AudioFormat(Encoding.S16LE, channels=2))
    assert audio.leftover == 0
    assert len(audio.push(bytes(11))) == 2
    assert (audio.frames_received, audio.leftover) == (2, 3)
    assert len(audio.push(b"\x00")) == 1
    assert (audio.frames_received, audio.leftover) == (3, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"encoding": "mp3"},
            "audio encoding 'mp3' is not supported; allowed: s16le, f32le, mulaw, alaw, u8, s24le, s32le, f64le",
        ),
        ({"rate": 7999}, "audio rate 7999 is not supported; allowed: whole numbers 8000 to 48000"),
        ({"rate": 96000}, "audio rate 96000 is not supported; allowed: whole numbers 8000 to 48000"),
        ({"rate": 16000.0}, "audio rate 16000.0 is not supported; allowed: whole numbers 8000 to 48000"),
        ({"rate": True}, "audio rate True is not supported; allowed: whole numbers 8000 to 48000"),
        ({"channels": 0}, "audio channels 0 is not supported; allowed: whole numbers 1 to 8"),
        ({"channels": "2"}, "audio channels '2' is not supported; allowed: whole numbers 1 to 8"),
        ({"channels": 2, "channel": 2}, "audio channel 2 is not supported; allowed: whole numbers 0 to 1"),
        ({"channel": -1}, "audio channel -1 is not supported; allowed: whole numbers 0 to 0"),
    ],
)
def test_formats_that_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(AudioError, match=f"^{re.escape(message)}$"):
        AudioFormat(**fields)  # type: ignore[arg-type]


def test_an_encoding_may_be_named() -> None:
    assert AudioFormat(Encoding("mulaw")) == AudioFormat("mulaw")  # type: ignore[arg-type]
    assert AudioFormat("mulaw").encoding is Encoding.MULAW  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((5, 2), np.float32), 16000, "audio of shape (5, 2) is not supported"),
        (np.zeros(5, np.int16), 16000, "audio of type int16 is not supported"),
        (np.zeros(5, np.float32), 0, "audio rate 0 is not supported"),
        (np.array([0, np.nan], np.float32), 8000, "audio sample 1 is nan"),
    ],
)
def test_recordings_that_are_refused(samples: NDArray[np.float32], rate: int, message: str) -> None:
    with pytest.raises(AudioError, match=re.escape(message)):
        resample(samples, rate)


def test_memory_is_flat() -> None:
    """After a first minute of odd-sized messages, a second one adds nothing that stays."""
    audio = AudioInput(AudioFormat(Encoding.S16LE, 44100, 2))
    minute = [bytes(4999)] * (60 * 44100 * 4 // 4999)
    for part in minute:
        audio.push(part)
    tracemalloc.start()
    try:
        for part in minute:
            audio.push(part)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
