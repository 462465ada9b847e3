"""Audio as callers have it, in the bytes that a session's format wants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Audio = bytes | bytearray | memoryview | NDArray[Any]
"""Bytes in the session's format, or an array of int16 or float samples."""


def encode_audio(audio: Audio, encoding: str, channels: int) -> bytes:
    """Convert audio to bytes of a wire format.

    Args:
        audio: bytes, which stay as they are; or samples, (n,) or (n, channels), whose full scale is 1 if they
            are floats.
        encoding: `s16le`, `f32le`, `mulaw` or `alaw`; arrays can be converted to the first two.
        channels: interleaved channels of the session.

    Raises:
        TypeError: an array's type cannot be converted to the encoding.
        ValueError: an array has the wrong shape, or floats that are not finite.
    """
    if not isinstance(audio, np.ndarray):
        return bytes(audio)
    if not (audio.ndim == 1 or (audio.ndim == 2 and audio.shape[1] == channels)):
        raise ValueError(f"samples of shape {audio.shape}; allowed are (n,) and (n, {channels})")
    integer, floating = audio.dtype.newbyteorder("=") == np.int16, np.issubdtype(audio.dtype, np.floating)
    if not (integer or floating) or encoding not in ("s16le", "f32le"):
        raise TypeError(
            f"samples of type {audio.dtype} for the format {encoding}; "
            "int16 and float arrays can be sent as s16le and f32le, anything else as bytes"
        )
    if encoding == "f32le":
        return (audio / np.float32(32768) if integer else audio).astype("<f4").tobytes()
    if integer:
        return audio.astype("<i2").tobytes()
    if not np.isfinite(audio).all():
        raise ValueError("samples that are not finite cannot be sent as s16le")
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype("<i2").tobytes()
