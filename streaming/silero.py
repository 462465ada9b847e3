"""The network of silero VAD for 16 kHz in NumPy, for many frames at a time.

    spectrum (4 columns) ─▶ four convolutions (4, 2, 1, 1 columns) ─▶ LSTM ─▶ probability

Only the LSTM depends on earlier frames. All waiting frames of all sessions therefore share each matrix product before
it. The network is so small that ONNX Runtime would spend most of its time outside the products.

A frame's result does not depend on the rest of its batch, except for rounding: BLAS may add up a product in another
order when the number of rows changes. The network amplifies this: probabilities may differ by some 1e-5, which is also
how far ONNX Runtime's are from exact ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import CheckpointError

Float32 = NDArray[np.float32]

FRAME = 512
"""Samples at 16 kHz that one probability is for (32 ms)."""
CONTEXT = 64
"""Samples of the previous frame that precede each frame at the network's input; also a block, see `Silero.encode`."""
HIDDEN = 128
"""Values of each of the LSTM's two vectors."""

_WINDOW = 256  # samples of a column of the spectrum
_HOP = 128
_COLUMNS = 4
_BINS = _WINDOW // 2 + 1
_KERNEL = 3  # columns that a convolution looks at, the middle one and those beside it
_SEEN = np.r_[0:4, 2:6, 4:8, 6:9, 8]  # blocks of the four columns; the last stands for a mirror image
_BATCH = 96  # frames encoded at a time, so that what lies between two layers stays in the processor's cache


class Silero:
    """The network: immutable weights. Safe to call from any thread."""

    def __init__(self, weights: Mapping[str, Float32]) -> None:
        """Take the weights, as `parastream.model.silero_weights` reads them.

        Raises:
            CheckpointError: They are of a network with another kind of spectrum.
        """
        basis = weights["model.stft.forward_basis_buffer"][:, 0]
        self._window = basis[0]  # that of 0 Hz
        # The fast Fourier transform costs a third of a product with the basis, and gives the same.
        transform = np.fft.rfft(np.diag(self._window)).T
        if not np.allclose(basis, np.concatenate((transform.real, transform.imag)), rtol=0, atol=1e-5):
            raise CheckpointError("these weights are of another silero VAD: its spectrum is not a Fourier transform")
        convolutions, columns = [], _COLUMNS
        for layer, stride in enumerate((1, 2, 2, 1)):
            name = f"model.encoder.{layer}.reparam_conv"
            convolutions.append(_Convolution(weights[f"{name}.weight"], weights[f"{name}.bias"], columns, stride))
            columns = convolutions[-1].columns
        self._convolutions = tuple(convolutions)
        self._from_input = _gates(weights["model.decoder.rnn.weight_ih"])
        self._from_hidden = _gates(weights["model.decoder.rnn.weight_hh"])
        bias = weights["model.decoder.rnn.bias_ih"] + weights["model.decoder.rnn.bias_hh"]
        self._gate_bias = _gates(bias[:, None])
        self._output = weights["model.decoder.decoder.2.weight"].reshape(HIDDEN)
        self._output_bias = weights["model.decoder.decoder.2.bias"][0]

    def encode(self, blocks: Float32, places: NDArray[np.intp], factors: Float32) -> Float32:
        """Compute the LSTM's input (4, N, 128) for N frames.

        Args:
            blocks: (M, 64) samples.
            places: (N,) index of the block that is each frame's context; the eight blocks after it are the frame.
            factors: (N,) by which each frame and its context are amplified.
        """
        gates = np.empty((4, len(places), HIDDEN), np.float32)
        for start in range(0, len(places), _BATCH):
            batch = slice(start, start + _BATCH)
            x = self._spectrum(blocks, places[batch])
            x *= factors[batch, None]  # magnitudes grow as samples do
            for convolution in self._convolutions:
                x = convolution(x)
            made = gates[:, batch]
            np.matmul(x, self._from_input, out=made)
            made += self._gate_bias
        return gates

    def step(self, gates: Float32, hidden: Float32, cell: Float32) -> None:
        """Advance B sessions by a frame: overwrite `encode`'s result (4, B, 128), update both vectors (B, 128)."""
        gates += hidden @ self._from_hidden
        np.tanh(gates, out=gates)
        logistic = gates[:3]
        logistic *= 0.5
        logistic += 0.5
        enter, keep, show, new = gates
        cell *= keep
        cell += np.multiply(enter, new, out=enter)
        np.tanh(cell, out=hidden)
        hidden *= show

    def probabilities(self, hidden: Float32) -> Float32:
        """Return the probabilities of speech (...) for the hidden vectors (..., 128) after each frame."""
        logits = np.maximum(hidden, 0.0) @ self._output + self._output_bias
        result: Float32 = np.tanh(logits * 0.5) * 0.5 + 0.5  # the logistic function
        return result

    def _spectrum(self, blocks: Float32, places: NDArray[np.intp]) -> Float32:
        """Magnitudes (N, 4 · 129), column after column."""
        columns = blocks.take(places[:, None] + _SEEN, axis=0).reshape(-1, _COLUMNS, _WINDOW)
        # The last column ends with a mirror image of what comes before.
        columns[:, -1, -CONTEXT:] = columns[:, -1, -CONTEXT - 2 : -2 * CONTEXT - 2 : -1]
        columns *= self._window
        # In two dimensions: with three, NumPy plans the transform anew for every frame.
        magnitudes: Float32 = np.abs(np.fft.rfft(columns.reshape(-1, _WINDOW)))
        return magnitudes.reshape(-1, _COLUMNS * _BINS)


class _Convolution:
    """Over a few columns, padded with one of zeros at each end, with ReLU; one matrix product for each column."""

    def __init__(self, weight: Float32, bias: Float32, columns: int, stride: int) -> None:
        """`weight` (out, in, 3) and `bias` (out,), for an input of so many columns."""
        size_out, size_in, _ = weight.shape
        taps = np.ascontiguousarray(weight.transpose(2, 1, 0))  # (3, in, out); all columns share it
        self.columns = (columns - 1) // stride + 1
        self._products = []
        for column in range(self.columns):
            first = column * stride - 1
            low, high = max(first, 0), min(first + _KERNEL, columns)  # the padding adds nothing
            matrix = taps[low - first : high - first].reshape(-1, size_out)
            seen = slice(low * size_in, high * size_in)
            self._products.append((seen, matrix, slice(column * size_out, (column + 1) * size_out)))
        self._bias = np.tile(bias, self.columns)
        self._zeros = np.zeros_like(self._bias)  # an array, since NumPy takes twice as long with a number

    def __call__(self, x: Float32) -> Float32:
        """(N, columns · in) to (N, columns · out)."""
        y = np.empty((len(x), len(self._bias)), np.float32)
        for seen, matrix, made in self._products:
            np.matmul(x[:, seen], matrix, out=y[:, made])
        y += self._bias
        return np.maximum(y, self._zeros, out=y)


def _gates(weight: Float32) -> Float32:
    """(4 · 128, n) as (4, n, 128), with the gates in another order: input, forget, output, cell.

    As logistic(x) = (1 + tanh(x / 2)) / 2, half of the first three makes one tanh over all four do.
    """
    scale = np.array([0.5, 0.5, 0.5, 1.0], np.float32).reshape(4, 1, 1)
    gates = weight.reshape(4, HIDDEN, -1).transpose(0, 2, 1)[[0, 1, 3, 2]]
    return np.ascontiguousarray(gates * scale)
