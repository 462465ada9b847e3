"""Audio in the bytes of a session's format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parastream.client.audio import encode_audio


@pytest.mark.parametrize(
    ("format", "samples", "wire"),
    [
        ("s16le", np.array([1, -2, 32767], np.int16), np.array([1, -2, 32767], "<i2")),
        ("s16le", np.array([0.5, -1.0, 1.0, 7.0], np.float32), np.array([16384, -32768, 32767, 32767], "<i2")),
        ("f32le", np.array([0.25, -1.5], np.float32), np.array([0.25, -1.5], "<f4")),
        ("f32le", np.array([0.25, -1.5]), np.array([0.25, -1.5], "<f4")),
        ("f32le", np.array([16384, -32768], np.int16), np.array([0.5, -1.0], "<f4")),
        ("s16le", np.array([[1, 2], [3, 4]], np.int16), np.array([1, 2, 3, 4], "<i2")),
        ("s16le", np.array([1, 256], ">i2"), np.array([1, 256], "<i2")),
    ],
)
def test_arrays(format: str, samples: Any, wire: Any) -> None:
    assert encode_audio(samples, format, max(samples.ndim, 1)) == wire.tobytes()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_taken_as_they_are(kind: Any) -> None:
    assert encode_audio(kind(b"abc"), "mulaw", 1) == b"abc"


@pytest.mark.parametrize(
    ("format", "samples", "error", "message"),
    [
        ("s16le", np.zeros(3, np.int32), TypeError, "samples of type int32 for the format s16le"),
        ("mulaw", np.zeros(3, np.int16), TypeError, "for the format mulaw"),
        ("s16le", np.zeros((3, 2), np.int16), ValueError, r"shape \(3, 2\); allowed are \(n,\) and \(n, 1\)"),
        ("s16le", np.array([0.0, np.nan]), ValueError, "not finite"),
    ],
)
def test_arrays_that_do_not_fit(format: str, samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode_audio(samples, format, 1)
