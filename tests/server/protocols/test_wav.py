"""WAV headers before audio."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from parastream.server.protocols.wav import LONGEST_HEADER, WavHeader, WavInput
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import Encoding

SAMPLES = np.arange(-500, 500, dtype=np.int16)
AUDIO = SAMPLES.tobytes()
FORMAT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data


def read(data: bytes, size: int) -> tuple[bytes, WavHeader | None]:
    audio = WavInput()
    parts = [audio.push(data[first : first + size]) for first in range(0, len(data), size)]
    return b"".join([*parts, audio.finish()]), audio.header


@given(st.integers(1, 100), st.sampled_from([0, 5, 12, 44]))
def test_any_cut_gives_the_same_audio(size: int, more: int) -> None:
    data = riff(chunk(b"LIST", b"x" * more), FORMAT, chunk(b"data", AUDIO), chunk(b"LIST", b"afterwards"))
    if more % 2:
        data = riff(chunk(b"LIST", b"x" * more) + b"\0", FORMAT, chunk(b"data", AUDIO))
    assert read(data, size) == (AUDIO, WavHeader("s16le", 8000, 1, len(AUDIO)))


def test_a_header_of_thousands_of_chunks_that_comes_byte_by_byte() -> None:
    """Takes minutes if each byte has all of them looked at again."""
    header = riff(*[chunk(b"junk", b"")] * 8180, FORMAT, chunk(b"data", AUDIO))
    assert read(header, 1) == (AUDIO, WavHeader("s16le", 8000, 1, len(AUDIO)))


@pytest.mark.parametrize(
    ("subtype", "format", "channels"),
    [("PCM_16", "s16le", 1), ("PCM_16", "s16le", 3), ("FLOAT", "f32le", 2), ("ULAW", "mulaw", 1), ("ALAW", "alaw", 1)],
)
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_files_of_libsndfile(subtype: str, format: str, channels: int, kind: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.stack([SAMPLES] * channels, axis=1), 22050, format=kind, subtype=subtype)
    audio, header = read(file.getvalue(), 960)
    assert header is not None
    assert (header.format, header.rate, header.channels) == (format, 22050, channels)
    assert len(audio) == len(SAMPLES) * channels * {"s16le": 2, "f32le": 4}.get(format, 1)
    if format == "s16le":
        assert audio == np.repeat(SAMPLES, channels).tobytes()


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, len(AUDIO) + 36])
def test_a_size_that_nobody_knew_when_it_was_written_means_nothing(size: int) -> None:
    """As in what is piped, or recorded live."""
    data = riff(FORMAT, chunk(b"data", AUDIO, size), size=size)
    if size == len(AUDIO) + 36:  # larger than the file says it is
        data = riff(FORMAT, chunk(b"data", AUDIO, size), size=36)
    assert read(data, 7) == (AUDIO, WavHeader("s16le", 8000, 1, None))


@pytest.mark.parametrize("audio", [b"", b"R", b"RI", b"RIFF", b"RIFFxxxxWA", b"RIFX" * 9, b"RIFFxxxxWAVX", AUDIO])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_audio_without_a_header_comes_through(audio: bytes, size: int) -> None:
    assert read(audio, size) == (audio, None)


@pytest.mark.parametrize(
    ("subtype", "name", "width"),
    [
        ("PCM_U8", "u8", 1),
        ("PCM_16", "s16le", 2),
        ("PCM_24", "s24le", 3),
        ("PCM_32", "s32le", 4),
        ("FLOAT", "f32le", 4),
        ("DOUBLE", "f64le", 8),
        ("ULAW", "mulaw", 1),
        ("ALAW", "alaw", 1),
    ],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_samples_of_every_width(subtype: str, name: str, width: int, container: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-0.5, 0.5, 2000).reshape(-1, 2), 8000, subtype, format=container)
    audio = WavInput()
    assert len(audio.push(file.getvalue())) == 2000 * width
    assert audio.header is not None
    assert (audio.header.format, audio.header.channels) == (name, 2)
    assert Encoding(audio.header.format).sample_bytes == width


@pytest.mark.parametrize("end", [12, 20, 43])
def test_a_header_and_nothing_else_is_no_audio(end: int) -> None:
    assert read(riff(FORMAT, chunk(b"data", b""))[:end], 5) == (b"", None)


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (riff(chunk(b"data", AUDIO)), "invalid_audio", "does not say what the audio is"),
        (riff(chunk(b"fmt ", b"short"), b"\0", chunk(b"data", AUDIO)), "invalid_audio", "does not say"),
        (riff(FORMAT[:-2] + b"\x0c\0", chunk(b"data", AUDIO)), "unsupported", "format 1 with 12 bits"),
        (riff(chunk(b"fmt ", b"\x55" + FORMAT[9:]), chunk(b"data", AUDIO)), "unsupported", "format 85 with 16 bits"),
        (riff(FORMAT, chunk(b"LIST", b"", 1 << 20)), "invalid_audio", f"in its first {LONGEST_HEADER} bytes"),
        (riff(*[chunk(b"LIST", b"x" * 998)] * 70), "invalid_audio", f"in its first {LONGEST_HEADER} bytes"),
    ],
)
def test_headers_that_cannot_be_used(data: bytes, code: str, message: str) -> None:
    with pytest.raises(RefusalError, match=message) as caught:
        read(data, 1000)
    assert caught.value.code == code


# --- several files


def test_pieces_that_are_files_of_their_own_are_heard_however_they_are_cut() -> None:
    pieces = [AUDIO[first : first + 100] for first in range(0, len(AUDIO), 100)]
    data = b"".join(riff(FORMAT, chunk(b"data", piece)) for piece in pieces)
    for size in (1, 7, 100, 144, len(data)):
        audio, header = read(data, size)
        assert audio == AUDIO
        assert header == WavHeader("s16le", 8000, 1, 100)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 1 << 20])
def test_pieces_whose_headers_do_not_know_their_size_are_heard_if_each_is_a_message(size: int) -> None:
    audio = WavInput()
    pieces = [AUDIO[first : first + 100] for first in range(0, len(AUDIO), 100)]
    heard = [audio.push(riff(FORMAT, chunk(b"data", piece, size), size=size)) for piece in pieces]
    assert b"".join(heard) == AUDIO


@pytest.mark.parametrize("padding", [b"", b"\0"])
@pytest.mark.parametrize("more", [b"", chunk(b"LIST", b"abcd"), chunk(b"LIST", b"abc") + b"\0"])
@pytest.mark.parametrize("size", [1, 13, 1000])
def test_what_stands_between_two_files_is_no_audio(padding: bytes, more: bytes, size: int) -> None:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 7, 1, 8000, 8000, 1, 8)
    file = riff(form, chunk(b"data", b"odd") + padding, more)
    assert read(file * 3, size)[0] == b"odd" * 3


def test_a_file_in_another_format_than_the_one_before_is_refused() -> None:
    audio = WavInput()
    audio.push(riff(FORMAT, chunk(b"data", AUDIO)))
    other = FORMAT.replace(struct.pack("<I", 8000), struct.pack("<I", 16000))
    with pytest.raises(RefusalError, match="a WAV header says s16le, 16000 Hz and 1 channels, the one before it"):
        audio.push(riff(other, chunk(b"data", AUDIO)))


@given(st.binary(max_size=300), st.integers(1, 50))
def test_anything_may_follow_a_file(rest: bytes, size: int) -> None:
    data = riff(FORMAT, chunk(b"data", AUDIO)) + rest
    try:
        assert read(data, size)[0].startswith(AUDIO)
    except RefusalError:
        assert b"RIFF" in rest
