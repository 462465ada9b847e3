"""Audio input: bytes of any framing become 16 kHz float32 samples on the session's one clock.

Contract: however the same bytes are cut into pieces, the concatenated output of `AudioInput.push` and
`AudioInput.finish` is equal bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray
from parastream.media.mixing import Mixer
from parastream.model.errors import AudioError

SAMPLE_RATE = 16000
"""Samples per second of everything after this module."""

LOWEST_RATE, HIGHEST_RATE = 8000, 48000
MOST_CHANNELS = 8

LARGEST_SAMPLE = float(1 << 20)
"""Largest accepted magnitude of a float sample. Full scale is 1, and even a sender that forgot to divide
16-bit values stays far below; much larger values would overflow further on, in the spectrum."""

_QUALITY = "HQ"
_BLOCKS_PER_SECOND = 50


def _mulaw_table() -> NDArray[np.float32]:
    """Values of the 256 mu-law codes of ITU-T G.711, 14 bits aligned to 16, full scale 1."""
    code = ~np.arange(256, dtype=np.uint8)  # the wire carries the complement
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = ((2 * mantissa.astype(np.int32) + 33) << exponent) - 33
    return (np.where(code & 0x80, -magnitude, magnitude) * 4 / 32768).astype(np.float32)


def _alaw_table() -> NDArray[np.float32]:
    """Values of the 256 A-law codes of ITU-T G.711, 13 bits aligned to 16, full scale 1."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55  # the wire carries every other bit inverted
    exponent, mantissa = (code >> 4) & 7, code & 15
    odd = 2 * mantissa.astype(np.int32) + 1
    magnitude = np.where(exponent == 0, odd, (odd + 32) << np.maximum(exponent.astype(np.int32) - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) * 8 / 32768).astype(np.float32)


class Encoding(StrEnum):
    """How one sample is written. Construction from an unknown name raises `AudioError`."""

    S16LE = "s16le"
    F32LE = "f32le"
    MULAW = "mulaw"
    ALAW = "alaw"
    U8 = "u8"
    S24LE = "s24le"
    S32LE = "s32le"
    F64LE = "f64le"

    @classmethod
    def _missing_(cls, value: object) -> Encoding:
        raise AudioError(f"audio encoding {value!r} is not supported; allowed: {', '.join(cls)}")

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return _WIRE_TYPES[self].itemsize


_WIRE_TYPES: dict[Encoding, np.dtype[np.generic]] = {
    Encoding.S16LE: np.dtype("<i2"),
    Encoding.F32LE: np.dtype("<f4"),
    Encoding.MULAW: np.dtype(np.uint8),
    Encoding.ALAW: np.dtype(np.uint8),
    Encoding.U8: np.dtype(np.uint8),
    Encoding.S24LE: np.dtype((np.void, 3)),
    Encoding.S32LE: np.dtype("<i4"),
    Encoding.F64LE: np.dtype("<f8"),
}
_FLOATS = (Encoding.F32LE, Encoding.F64LE)
_COMPANDED: dict[Encoding, NDArray[np.float32]] = {
    Encoding.MULAW: _mulaw_table(),
    Encoding.ALAW: _alaw_table(),
}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a session's bytes are: interleaved channels of one encoding at one rate.

    Raises:
        AudioError: A value cannot be used; the message says what is allowed.
    """

    encoding: Encoding = Encoding.S16LE
    rate: int = SAMPLE_RATE
    """Sample frames per second, 8000 to 48000."""
    channels: int = 1
    """1 to 8, interleaved."""
    channel: int | Literal["mix"] = 0
    """The channel that is recognised, counted from 0; `mix`: all of them together."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", Encoding(self.encoding))
        for name, low, high in (
            ("rate", LOWEST_RATE, HIGHEST_RATE),
            ("channels", 1, MOST_CHANNELS),
            ("channel", 0, self.channels - 1 if isinstance(self.channels, int) else 0),
        ):
            value = getattr(self, name)
            if name == "channel" and value == "mix":
                continue
            if type(value) is not int or not low <= value <= high:
                raise AudioError(f"audio {name} {value!r} is not supported; allowed: whole numbers {low} to {high}")

    @property
    def number(self) -> int:
        """The number by which the recognised channel goes; a mixture is number 0."""
        return 0 if self.channel == "mix" else self.channel

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample frame, that is of one sample of every channel."""
        return self.encoding.sample_bytes * self.channels


class AudioInput:
    """One session's bytes on their way to 16 kHz samples; memory is bounded by the largest single push.

    A float sample that is NaN, infinite or beyond `LARGEST_SAMPLE` ends the input there: `push` still returns
    what came before it, `error` says which sample it was, and any later `push` raises that error. What was
    accepted stays whole: `finish` flushes it as usual. Only the recognised channel is looked at.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self.frames_received = 0
        """Whole, usable sample frames so far, at the format's own rate."""
        self.error: AudioError | None = None
        """Why no more audio is taken."""
        self._tail = b""  # an incomplete sample frame, shorter than frame_bytes
        self._resampler = None if audio_format.rate == SAMPLE_RATE else StreamResampler(audio_format.rate)
        mixed = audio_format.channel == "mix" and audio_format.channels > 1
        self._mixer = Mixer(audio_format.channels, audio_format.rate) if mixed else None

    @property
    def leftover(self) -> int:
        """Bytes of the incomplete sample frame that the input ends with so far."""
        return len(self._tail)

    def push(self, data: bytes | bytearray | memoryview) -> NDArray[np.float32]:
        """Take the next bytes.

        Returns:
            The 16 kHz samples (n,) that they complete, perhaps none.

        Raises:
            AudioError: The input has ended with this error, which `error` holds.
        """
        if self.error is not None:
            raise self.error
        data = b"".join((self._tail, data))
        whole = len(data) - len(data) % self.format.frame_bytes
        self._tail = data[whole:]
        samples = self._usable(self._decode(data[:whole]))
        self.frames_received += len(samples)
        return self._resampled(samples if self._mixer is None else self._mixer.push(samples))

    def _resampled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return samples if self._resampler is None else self._resampler.push(samples)

    def finish(self) -> NDArray[np.float32]:
        """End the input.

        Returns:
            The samples (n,) that the resampler still held. In all, round(frames_received * 16000 / rate) samples have
            then come out, give or take one.
        """
        rest = np.zeros(0, np.float32) if self._mixer is None else self._resampled(self._mixer.finish())
        return rest if self._resampler is None else np.concatenate((rest, self._resampler.finish()))

    def _decode(self, data: bytes) -> NDArray[np.float32]:
        """Return the samples (n,) of the channel, or those (n, channels) that are to be mixed."""
        encoding, channels = self.format.encoding, self.format.channels
        wire = np.frombuffer(data, _WIRE_TYPES[encoding])
        wire = wire[self.format.number :: channels] if self._mixer is None else wire.reshape(-1, channels)
        match encoding:
            case Encoding.MULAW | Encoding.ALAW:
                return _COMPANDED[encoding][wire]
            case Encoding.U8:
                return (wire.astype(np.float32) - 128) / np.float32(128)
            case Encoding.S16LE:
                return wire.astype(np.float32) / np.float32(32768)
            case Encoding.S24LE:
                return _from_24_bits(wire)
            case Encoding.S32LE:
                return (wire / float(1 << 31)).astype(np.float32)
            case Encoding.F32LE | Encoding.F64LE:
                with np.errstate(over="ignore", invalid="ignore"):  # what is too large is found, not warned about
                    return wire.astype(np.float32)

    def _usable(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.format.encoding not in _FLOATS:
            return samples
        first = _first_unusable(samples)
        if first is None:
            return samples
        first //= samples[0].size
        self.error = _unusable(self.frames_received + first, samples[first].flat[_first_unusable(samples[first]) or 0])
        self._tail = b""
        return samples[:first]


def _from_24_bits(wire: NDArray[np.void]) -> NDArray[np.float32]:
    """Return signed samples of three bytes as floats with full scale 1."""
    wide = np.zeros((*wire.shape, 4), np.uint8)
    wide[..., 1:] = np.ascontiguousarray(wire).view(np.uint8).reshape(*wire.shape, 3)
    samples: NDArray[np.float32] = (wide.view("<i4")[..., 0] / float(1 << 31)).astype(np.float32)
    return samples


class StreamResampler:
    """A streaming resampler to 16 kHz. It takes blocks of one size, so that framing cannot show in its output."""

    def __init__(self, rate: int) -> None:
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY)
        self._block = max(1, rate // _BLOCKS_PER_SECOND)
        self._held = np.zeros(0, np.float32)  # shorter than one block

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples (n,) and return those at 16 kHz (m,) that they complete."""
        held = np.concatenate((self._held, samples))
        whole = len(held) - len(held) % self._block
        self._held = held[whole:].copy()  # a view would keep the whole push alive
        blocks = held[:whole].reshape(-1, self._block)
        return np.concatenate([self._held[:0], *map(self._stream.resample_chunk, blocks)])

    def finish(self) -> NDArray[np.float32]:
        """End the input and return the rest (m,)."""
        samples: NDArray[np.float32] = self._stream.resample_chunk(self._held, last=True)
        self._held = self._held[:0]
        return samples


def float_samples(samples: NDArray[Any] | bytes) -> NDArray[np.float32]:
    """Return one channel's samples as floats (n,) with full scale 1.

    Args:
        samples: (n,) int16 or float; or bytes, which are 16-bit samples, little-endian.

    Raises:
        AudioError: The samples cannot be used.
    """
    if isinstance(samples, bytes):
        if len(samples) % 2:
            raise AudioError(f"{len(samples)} bytes of audio are not whole samples; allowed: 2 bytes for each")
        samples = np.frombuffer(samples, "<i2")
    _check_one_channel(samples)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"audio of type {samples.dtype} is not supported; allowed: int16, or float samples with full scale 1"
        )
    return _checked(samples)


def resample(samples: NDArray[np.floating[Any]], rate: int) -> NDArray[np.float32]:
    """Resample a whole recording (n,) of any positive rate to 16 kHz, as `AudioInput` would.

    Raises:
        AudioError: The samples or the rate cannot be used.
    """
    _check_one_channel(samples)
    if rate <= 0:
        raise AudioError(f"audio rate {rate} is not supported; allowed: positive rates")
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"audio of type {samples.dtype} is not supported; allowed: float samples, full scale 1")
    samples = _checked(samples)
    if rate == SAMPLE_RATE:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE, quality=_QUALITY)
    return resampled


def _check_one_channel(samples: NDArray[Any]) -> None:
    if samples.ndim != 1:
        raise AudioError(f"audio of shape {samples.shape} is not supported; allowed: one channel, shape (samples,)")


def _checked(samples: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    audio = np.ascontiguousarray(samples, np.float32)
    first = _first_unusable(audio)
    if first is not None:
        raise _unusable(first, audio[first])
    return audio


def _first_unusable(samples: NDArray[np.float32]) -> int | None:
    with np.errstate(invalid="ignore"):  # a signalling NaN is found, not warned about
        bad = np.flatnonzero(~(np.abs(samples) <= LARGEST_SAMPLE))  # so written, NaN counts as bad
    return int(bad[0]) if len(bad) else None


def _unusable(index: int, value: np.float32) -> AudioError:
    return AudioError(
        f"audio sample {index} is {value};"
        f" float samples must be finite and not beyond {LARGEST_SAMPLE:.0f} (full scale is 1)"
    )
