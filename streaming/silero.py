"""The network of silero VAD for 16 kHz in NumPy, for many frames at a time.

    spectrum (4 columns) ─▶ four convolutions (4, 2, 1, 1 columns) ─▶ LSTM ─▶ probability

Only the LSTM looks back, so all frames that wait, of one session and of all, share each matrix product before it.
The network is small and its shapes are fixed: ONNX Runtime spends most of its time on other things than products.

A frame's result does not depend on what it is computed with, except that BLAS may add a product's terms in another
order for another number of rows. The network enlarges such rounding: probabilities may differ by some 1e-5, as ONNX
Runtime's do from exact ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import CheckpointError

Float32 = NDArray[np.float32]

FRAME = 512
"""Samples at 16 kHz that one probability is for (32 ms)."""
CONTEXT = 64
"""Samples of the frame before that the network wants in front of each frame; also a block, see `Silero.encode`."""
HIDDEN = 128
"""Values of each of the LSTM's two vectors."""

_WINDOW = 256  # samples of a column of the spectrum
_HOP = 128
_COLUMNS = 4
_BINS = _WINDOW // 2 + 1
_KERNEL = 3  # columns that a convolution looks at, the middle one and those beside it
_SEEN = np.r_[0:4, 2:6, 4:8, 6:9, 8]  # blocks of the four columns; the very last one is made of the others
_BATCH = 96  # frames encoded at a time, so that what lies between two layers stays in the processor's cache

_SHAPES = {
    "model.stft.forward_basis_buffer": (2 * _BINS, 1, _WINDOW),
    "model.encoder.0.reparam_conv.weight": (128, _BINS, _KERNEL),
    "model.encoder.0.reparam_conv.bias": (128,),
    "model.encoder.1.reparam_conv.weight": (64, 128, _KERNEL),
    "model.encoder.1.reparam_conv.bias": (64,),
    "model.encoder.2.reparam_conv.weight": (64, 64, _KERNEL),
    "model.encoder.2.reparam_conv.bias": (64,),
    "model.encoder.3.reparam_conv.weight": (HIDDEN, 64, _KERNEL),
    "model.encoder.3.reparam_conv.bias": (HIDDEN,),
    "model.decoder.rnn.weight_ih": (4 * HIDDEN, HIDDEN),
    "model.decoder.rnn.weight_hh": (4 * HIDDEN, HIDDEN),
    "model.decoder.rnn.bias_ih": (4 * HIDDEN,),
    "model.decoder.rnn.bias_hh": (4 * HIDDEN,),
    "model.decoder.decoder.2.weight": (1, HIDDEN, 1),
    "model.decoder.decoder.2.bias": (1,),
}
"""The weights, as the ONNX file names them."""


class Silero:
    """The network: immutable weights. Safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        """Reads `silero_vad_16k_op15.onnx`.

        Raises:
            CheckpointError: the file is damaged or of another network.
        """
        weights = _read_weights(path)
        basis = weights["model.stft.forward_basis_buffer"][:, 0]
        self._window = basis[0]  # that of 0 Hz
        # The fast Fourier transform costs a third of a product with the basis, and gives the same.
        transform = np.fft.rfft(np.diag(self._window)).T
        if not np.allclose(basis, np.concatenate((transform.real, transform.imag)), rtol=0, atol=1e-5):
            raise CheckpointError(f"{path}: the spectrum of this silero VAD is not a Fourier transform")
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

    def encode(self, blocks: Float32, places: NDArray[np.intp]) -> Float32:
        """What the LSTM gets (4, N, 128) of N frames.

        Args:
            blocks: (M, 64) samples.
            places: (N,) which block is the context of each frame; the eight behind it are the frame.
        """
        gates = np.empty((4, len(places), HIDDEN), np.float32)
        for start in range(0, len(places), _BATCH):
            batch = slice(start, start + _BATCH)
            x = self._spectrum(blocks, places[batch])
            for convolution in self._convolutions:
                x = convolution(x)
            made = gates[:, batch]
            np.matmul(x, self._from_input, out=made)
            made += self._gate_bias
        return gates

    def step(self, gates: Float32, hidden: Float32, cell: Float32) -> None:
        """One frame of each of B sessions: uses up what `encode` gave (4, B, 128), updates both vectors (B, 128)."""
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
        """Of speech (...), from the hidden vectors (..., 128) after each frame."""
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


def _read_weights(path: Path) -> dict[str, Float32]:
    try:
        tensors = dict(_tensors(memoryview(path.read_bytes())))
        return {name: np.frombuffer(tensors[name], "<f4").reshape(shape) for name, shape in _SHAPES.items()}
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or not the weights of silero VAD for 16 kHz ({error!r})") from error


def _tensors(model: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Names and bytes of the weights in an ONNX file, by the field numbers of its messages (onnx.proto)."""
    for field, graph in _fields(model):
        if field == 7:  # ModelProto.graph
            for field, tensor in _fields(graph):
                if field == 5:  # GraphProto.initializer
                    values = dict(_fields(tensor))
                    yield bytes(values[8]).decode(), values[9]  # TensorProto.name and .raw_data


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and bytes of a protocol buffer's fields, but for those that are single numbers."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        match key & 7:
            case 0:
                _, place = _varint(message, place)
            case 1:
                place += 8
            case 2:
                size, place = _varint(message, place)
                yield key >> 3, message[place : place + size]
                place += size
            case 5:
                place += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits to the byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
