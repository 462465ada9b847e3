"""Recordings of any kind, whole and damaged, made from samples."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

LOWEST = {"libopus": 48_000}
"""Rates that codecs insist on."""


def encode(
    path: Path,
    samples: NDArray[np.int16],
    codec: str,
    *,
    rate: int = 16_000,
    container: str | None = None,
    options: Mapping[str, str] | None = None,
    video: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write int16 samples (n,) with FFmpeg."""
    with av.open(str(path), "w", format=container, container_options=dict(options or {})) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(codec, rate=LOWEST.get(codec, rate), layout="mono")
        assert isinstance(stream, av.AudioStream)
        if video:
            pictures: Any = output.add_stream("mpeg4", rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
            for _ in range(len(samples) * 10 // rate):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                output.mux(pictures.encode(picture))
            output.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=stream.codec_context.sample_rate,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def ogg(path: Path, samples: NDArray[np.int16], rate: int = 16_000, subtype: str = "VORBIS") -> Path:
    """Write an Ogg file with libsndfile."""
    soundfile.write(path, samples, rate, format="OGG", subtype=subtype)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Write files one behind the other, as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def wav(
    path: Path,
    data: bytes,
    *,
    tag: int = 1,
    bits: int = 16,
    channels: int = 1,
    rate: int = 16_000,
    riff_size: int | None = None,
    data_size: int | None = None,
    extra: bytes = b"",
) -> Path:
    """Write a WAV file whose header says what it likes.

    Args:
        path: where to.
        data: the samples.
        tag: 1 for whole numbers, 3 for floats.
        bits: of a sample.
        channels: how many.
        rate: Hz.
        riff_size: what is written as the size of all; None for the truth.
        data_size: what is written as the size of the samples; None for the truth.
        extra: chunks before that of the samples.
    """
    frame = bits // 8 * channels
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, min(rate * frame, 0xFFFFFFFF), frame, bits)
    body = b"WAVE" + form + extra + struct.pack("<4sI", b"data", len(data) if data_size is None else data_size) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body) if riff_size is None else riff_size) + body)
    return path


def cut(path: Path, whole: Path, share: float = 0.6) -> Path:
    """Write the first part of a file."""
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share) + 7])
    return path


def holed(path: Path, whole: Path, length: int = 1500) -> Path:
    """Write a file with noise in its middle."""
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + length] = np.random.default_rng(5).bytes(length)
    path.write_bytes(content)
    return path


LIST = struct.pack("<4sI4s4sI6s", b"LIST", 18, b"INFO", b"ISFT", 6, b"maker\0")
"""A chunk that names a program, as many recorders write it."""
