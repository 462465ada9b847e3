"""Make sounds in which nobody speaks, the same ones in each run, for measuring what is taken for speech by mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RATE = 16000
SECONDS = 10

_CHORDS = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9))
_TIME = np.arange(SECONDS * RATE) / RATE


def sounds(recorded: Path | None = None) -> dict[str, Float32]:
    """Return the sounds (N,) at 16 kHz by name: 34 made ones, and the recordings of a folder.

    The number in a name is the level in dBFS (RMS of the whole sound).
    """
    rng = np.random.default_rng(45)
    made: list[tuple[str, Float64, tuple[int, ...]]] = [
        ("white noise", _noise(rng, SECONDS, np.ones_like), (-75, -60, -45, -30)),
        ("pink noise", _noise(rng, SECONDS, lambda f: f**-0.5), (-60, -45, -30)),
        ("rumble", _noise(rng, SECONDS, lambda f: 1 / (1 + (f / 80) ** 4)), (-60, -45, -30)),
        ("hum of 50 Hz", _hum(rng, 50), (-65, -50, -35)),
        ("hum of 60 Hz", _hum(rng, 60), (-50,)),
        ("chords of sines", _chords(rng, 1, decays=False), (-60, -45, -30)),
        ("chords of an organ", _chords(rng, 8, decays=False), (-60, -45, -30)),
        ("chords of a guitar", _chords(rng, 8, decays=True), (-60, -45, -30)),
        ("breaths", _breaths(rng, period=2.5, length=0.9), (-65, -55, -45, -35)),
        ("panting", _breaths(rng, period=0.8, length=0.35), (-50,)),
        ("keys", _clicks(rng, each_second=6, decay=900), (-70, -55, -40)),
        ("knocks", _clicks(rng, each_second=1.5, decay=60), (-60, -45)),
    ]
    result = {"silence": np.zeros(SECONDS * RATE, np.float32)}
    for name, sound, levels in made:
        unit = sound / np.sqrt(np.mean(sound**2))
        result |= {f"{name}, {level}": (unit * 10 ** (level / 20)).astype(np.float32) for level in levels}
    for path in sorted(recorded.glob("*.wav")) if recorded else ():
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or samples.ndim != 1:
            raise ValueError(f"{path} has a rate of {rate} Hz and the shape {samples.shape}; wanted: 16000 Hz, mono")
        result[path.name] = samples
        if not path.name.startswith("rir"):
            result[f"{path.name}, 40 dB lower"] = samples * np.float32(0.01)
    return result


def _noise(rng: np.random.Generator, seconds: float, shape: Callable[[Float64], Float64]) -> Float64:
    """Shape white noise by a function of the frequency in Hz."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies: NDArray[Any] = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 1.0)
    result: Float64 = np.fft.irfft(spectrum * shape(frequencies), count)
    return result


def _hum(rng: np.random.Generator, frequency: float) -> Float64:
    result = 0.01 * rng.standard_normal(len(_TIME))
    for k in range(1, 16):
        result += np.sin(2 * np.pi * frequency * k * _TIME + k) / k
    return result


def _chords(rng: np.random.Generator, harmonics: int, *, decays: bool) -> Float64:
    """Play a chord each second."""
    within = np.arange(RATE) / RATE
    result = []
    for second in range(SECONDS):
        chord = np.zeros(RATE)
        for note in _CHORDS[second % len(_CHORDS)]:
            for k in range(1, harmonics + 1):
                held = np.minimum(1, np.minimum(within, 1 - within) / 0.03)
                envelope = np.exp(-3 * within * k**0.5) if decays else held
                chord += envelope * np.sin(2 * np.pi * note * k * within) / k
        result.append(chord)
    return np.concatenate(result) + 0.001 * rng.standard_normal(len(_TIME))


def _breaths(rng: np.random.Generator, period: float, length: float) -> Float64:
    """Breathe: noise with two soft resonances, swelling and fading, above a noise floor 40 dB lower."""
    result = np.zeros(len(_TIME))
    count = int(length * RATE)
    for start in range(RATE // 2, len(result) - count, int(period * RATE)):
        noise = _noise(
            rng, length, lambda f: np.exp(-(np.log2(f / 900) ** 2)) + 0.6 * np.exp(-4 * np.log2(f / 2500) ** 2)
        )
        swell = np.sin(np.pi * np.arange(count) / count) ** 2
        result[start : start + count] += rng.uniform(0.5, 1) * swell * noise[:count]
    return _with_floor(rng, result)


def _clicks(rng: np.random.Generator, each_second: float, decay: float) -> Float64:
    """Strike something that rings for a moment, at random instants, above a noise floor 40 dB lower."""
    result = np.zeros(len(_TIME))
    within = np.arange(RATE // 8) / RATE
    for instant in np.cumsum(rng.exponential(1 / each_second, int(12 * each_second))):
        start = int(instant * RATE)
        if start < len(result) - len(within):
            ring = np.exp(-within * decay) * np.sin(2 * np.pi * rng.uniform(300, 3000) * within)
            result[start : start + len(within)] += rng.uniform(0.3, 1) * ring
    return _with_floor(rng, result)


def _with_floor(rng: np.random.Generator, sound: Float64) -> Float64:
    unit: Float64 = sound / np.sqrt(np.mean(sound**2))
    return unit + 0.01 * rng.standard_normal(len(sound))
