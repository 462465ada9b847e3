"""Audio to features: Kaldi fbank, low-frame-rate stacking (LFR) and CMVN, whole or incremental.

Source: FunASR `WavFrontend` and `WavFrontendOnline` with dither 0. All arithmetic before the logarithm is in
float64, so the features do not depend on how the audio was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import FrontendConfig
from parastream.model.errors import ModelConfigError

if TYPE_CHECKING:
    from parastream.model.log_mel import LogMel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

PRE_EMPHASIS = 0.97
ENERGY_FLOOR = float(np.finfo(np.float32).eps)
FULL_SCALE = 32768.0
_LOW_HZ = 20.0
_BLOCK = 64
"""Frames in one matrix product. With a fixed shape, a frame's bits do not depend on the frames around it."""


@dataclass(slots=True)
class FrontendState:
    """What one utterance carries from one `Frontend.step` to the next."""

    samples: Float32
    """Tail of the waveform that does not fill a frame yet."""
    frames: Float32 | None = None
    """Fbank frames (n, n_mels) that the next row still needs; None before the first frame."""


class Frontend:
    """Turns 16 kHz audio into rows of features; immutable, shared by all utterances.

    Feeding any pieces to `step` and then `final=True` gives, bit for bit, the rows of one `__call__`.
    """

    def __init__(self, config: FrontendConfig, shift: Float32, scale: Float32, *, on_device: bool = False) -> None:
        """Prepare filters and windows.

        Args:
            config: Sizes of frames and rows.
            shift: (row_size,), added to each row.
            scale: (row_size,), by which the sum is multiplied.
            on_device: Whether `steps` and `wholes` compute on MLX's device.

        Raises:
            ModelConfigError: The statistics have another size than a row.
        """
        for name, values in (("shift", shift), ("scale", scale)):
            if values.shape != (config.row_size,):
                raise ModelConfigError(f"CMVN {name} has {values.size} values, features have {config.row_size}")
        self.config = config
        self._shift = shift
        self._scale = scale
        self._frame = config.fs * config.frame_length // 1000
        self._hop = config.fs * config.frame_shift // 1000
        self._fft = 1 << (self._frame - 1).bit_length()
        self._window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(self._frame) / (self._frame - 1))
        self._mel = _mel_bank(config.n_mels, self._fft, config.fs)
        self.on_device = on_device
        self._log_mel: LogMel | None = None

    @property
    def row_samples(self) -> int:
        """Samples between two rows."""
        return self._hop * self.config.lfr_n

    def __call__(self, samples: Float32, known: Sequence[Float32] = ()) -> Float32:
        """Compute the features of a whole utterance.

        Args:
            samples: (N,) in [-1, 1].
            known: Rows that `step` has given one after the other for the same samples, or for more or fewer of them.
                They are not computed again.

        Returns:
            (T, row_size).
        """
        rows, rest, state = self._begun(samples, known)
        return np.concatenate([*rows, self.step(rest, state, final=True)])

    def wholes(self, samples: Sequence[Float32], known: Sequence[Sequence[Float32]]) -> list[Float32]:
        """Do the same for several utterances; see `steps` for how."""
        begun = [self._begun(own, rows) for own, rows in zip(samples, known, strict=True)]
        last = self.steps([rest for _, rest, _ in begun], [state for *_, state in begun], [True] * len(begun))
        return [np.concatenate([*rows, new]) for (rows, *_), new in zip(begun, last, strict=True)]

    def _begun(self, samples: Float32, known: Sequence[Float32]) -> tuple[list[Float32], Float32, FrontendState]:
        """Return the known rows of a whole utterance, what is left of it, and the state that goes with that."""
        frames, lead = self._count_frames(samples), (self.config.lfr_m - 1) // 2
        rows = np.concatenate(known)[: self._count_rows(frames + lead, final=False)] if known and frames else None
        if rows is None or not len(rows):
            return [], samples, self.new_state()
        first = len(rows) * self.config.lfr_n - lead  # frame with which the next row begins
        state = FrontendState(samples[:0], np.zeros((0, self.config.n_mels), np.float32))
        return [rows], samples[first * self._hop :], state

    def new_state(self) -> FrontendState:
        """Return the state of an utterance that has not begun."""
        return FrontendState(np.zeros(0, np.float32))

    def step(self, samples: Float32, state: FrontendState, *, final: bool = False) -> Float32:
        """Compute the rows (n, row_size) that these further samples complete; with `final`, the last ones too.

        Fewer samples than one frame still make a row when the utterance ends with them.
        """
        state.samples = np.concatenate([state.samples, samples])
        frames = self._take_frames(state, shorten=final and state.frames is None)
        return self._stacked(frames, state, final)

    def steps(
        self, samples: Sequence[Float32], states: Sequence[FrontendState], final: Sequence[bool]
    ) -> list[Float32]:
        """Do the same as `step` for several utterances.

        On MLX's device, and thus on its thread, if the frontend was made so. That is for GPUs, where a batch costs
        about as much as one utterance, but which have no float64: rows differ by what float32 rounds.
        """
        if not self.on_device:
            return [self.step(own, at, final=last) for own, at, last in zip(samples, states, final, strict=True)]
        if self._log_mel is None:
            from parastream.model.log_mel import LogMel  # only now, since it imports MLX

            self._log_mel = LogMel(self._frame, self._hop, self._window, self._mel)
        waves = [np.concatenate([state.samples, new]) for state, new in zip(states, samples, strict=True)]
        counts = [self._count_frames(wave) for wave in waves]
        whole = [i for i, count in enumerate(counts) if count]
        ends = [(count - 1) * self._hop + self._frame for count in counts]
        found = dict(zip(whole, self._log_mel([waves[i][: ends[i]] for i in whole]), strict=True))
        rows = []
        for i, (wave, state, last) in enumerate(zip(waves, states, final, strict=True)):
            if i in found:
                state.samples = wave[counts[i] * self._hop :]
                rows.append(self._stacked(found[i], state, last))
            else:
                rows.append(self.step(samples[i], state, final=last))
        return rows

    def _stacked(self, frames: Float32, state: FrontendState, final: bool) -> Float32:
        """Make rows of further fbank frames, and keep in the state what the next ones need."""
        if len(frames):
            # FunASR repeats the first frame to centre the first row.
            head = frames[:1].repeat((self.config.lfr_m - 1) // 2, 0) if state.frames is None else state.frames
            frames = np.concatenate([head, frames])
        elif final and state.frames is not None:
            frames = state.frames
        else:
            return np.zeros((0, self.config.row_size), np.float32)
        rows = self._count_rows(len(frames), final)
        start = np.arange(rows)[:, None] * self.config.lfr_n
        index = np.minimum(start + np.arange(self.config.lfr_m), len(frames) - 1)
        state.frames = frames[min(len(frames) - 1, self.config.lfr_n * rows) :]
        stacked = frames[index].reshape(rows, self.config.row_size)
        normalised: Float32 = (stacked + self._shift) * self._scale
        return normalised

    def _count_frames(self, samples: Float32) -> int:
        return max(0, 1 + (len(samples) - self._frame) // self._hop)

    def _count_rows(self, frames: int, final: bool) -> int:
        if final:
            return -(-(frames - (self.config.lfr_m - 1) // 2) // self.config.lfr_n)
        return max(0, (frames - self.config.lfr_m) // self.config.lfr_n + 1)

    def _take_frames(self, state: FrontendState, *, shorten: bool) -> Float32:
        """Compute the fbank frames of the waveform so far; leave in the state what the next frame needs."""
        samples = state.samples
        if shorten and 0 < len(samples) < self._frame:
            # Kaldi's whole-utterance form shortens the frame, and its window with it.
            length = len(samples)
            state.samples = samples[length:]
            window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / max(1, length - 1))
            mel = _mel_bank(self.config.n_mels, max(2, 1 << (length - 1).bit_length()), self.config.fs)
            return _fbank(samples[None], window, mel)
        count = self._count_frames(samples)
        state.samples = samples[count * self._hop :]
        if not count:
            return np.zeros((0, self.config.n_mels), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self._frame)[:: self._hop][:count]
        return _fbank(frames, self._window, self._mel)


def _fbank(frames: Float32, window: Float64, mel: Float64) -> Float32:
    """Compute the log mel energies (n, n_mels) of frames (n, length); `mel` is (fft / 2 + 1, n_mels)."""
    blocks = [_fbank_of_block(frames[i : i + _BLOCK], window, mel) for i in range(0, len(frames), _BLOCK)]
    return np.concatenate(blocks)


def _fbank_of_block(frames: Float32, window: Float64, mel: Float64) -> Float32:
    """Do the same for at most a block of frames, whose values stay in the processor's cache."""
    wave = frames.astype(np.float64) * FULL_SCALE
    wave -= wave.mean(axis=1, keepdims=True)
    emphasised = wave - PRE_EMPHASIS * np.concatenate([wave[:, :1], wave[:, :-1]], axis=1)
    spectrum = np.fft.rfft(emphasised * window, 2 * (len(mel) - 1))
    power = np.zeros((_BLOCK, len(mel)))
    power[: len(frames)] = spectrum.real**2 + spectrum.imag**2
    energy = (power @ mel)[: len(frames)]
    logarithms: Float32 = np.log(np.maximum(energy, ENERGY_FLOOR)).astype(np.float32)
    return logarithms


def _mel_bank(n_mels: int, fft: int, rate: int) -> Float64:
    """Make Kaldi's triangular filters (fft / 2 + 1, n_mels), linear in mel, without area normalisation."""
    low, high = _to_mel(_LOW_HZ), _to_mel(rate / 2)
    edges = low + (high - low) / (n_mels + 1) * np.arange(n_mels + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mel = _to_mel(np.arange(fft // 2 + 1) * rate / fft)[:, None]
    bank = np.maximum(0.0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))
    bank[-1] = 0.0  # Kaldi leaves the Nyquist bin out.
    return np.asarray(bank)


def _to_mel(hertz: float | Float64) -> Float64:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))
