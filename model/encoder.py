"""SAN-M encoder: self-attention with an FSMN memory (FunASR `SANMEncoder`, `SANMEncoderChunkOpt`).

Each layer has a full-context form (`__call__`) and a streaming form (`step`) over the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ChunkSize, EncoderConfig
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.lanes import LaneWork
from parastream.model.layers import FSMN, LAYER_NORM_EPS, LayerNorm, attend
from parastream.model.rows import Embedding, length_mask


@dataclass(slots=True)
class EncoderState:
    """What one utterance's encoder carries from window to window."""

    overlap: NDArray[np.float32]
    """Scaled and position-encoded rows (overlap, input_size) that the next window begins with.

    They start as zeros that take part in attention, as in FunASR.
    """
    memory: mx.array
    """Keys and values of earlier windows (layers, 2 heads, capacity, size / heads): a ring, unless unlimited."""
    unlimited: bool = False
    """Whether the memory grows with each window (look-back -1)."""
    rows: int = 0
    """Rows of features fed so far; also the position of the next one."""
    filled: int = 0
    """Rows of `memory` in use."""
    head: int = 0
    """Row of the ring that is overwritten next."""


class SelfAttention(nn.Module):
    """Multi-head attention plus FSMN memory over the values (FunASR `MultiHeadedAttentionSANM`)."""

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.linear_q_k_v = Dense(input_size, 3 * config.size, parts=3 * self.heads)
        self.linear_out = Dense(config.size, config.size)
        self.fsmn_block = FSMN(config.size, config.kernel_size)
        self.before = (config.kernel_size - 1) // 2 + config.shift
        self.after = config.kernel_size - 1 - self.before

    def __call__(
        self,
        x: mx.array,
        batch: int,
        mask: mx.array | None,
        memory: mx.array | None = None,
        keys: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """Attend within the rows of each utterance.

        Args:
            x: Rows (B T, input).
            batch: B.
            mask: (B, 1, T, 1), 1 on real rows; None where all are.
            memory: Keys and values of earlier windows, (B, 2 heads, S, size / heads).
            keys: (B, 1, 1, S + T), True where a key takes part; None where all do.

        Returns:
            The output (B T, size), and the rows' keys and values (B, 2 heads, T, size / heads).
        """
        projected = self.linear_q_k_v.heads(x, batch)
        q, k, v = mx.split(projected, 3, axis=1)
        values = v if mask is None else v * mask
        fsmn = self.fsmn_block(values, self.before, self.after, residual=True).reshape(x.shape[0], -1)
        return self.linear_out.add_to(fsmn, attend(q, k, v, keys, memory)), projected[:, self.heads :]


class FeedForward(nn.Module):
    """Two linear layers with ReLU (FunASR `PositionwiseFeedForward`)."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = Dense(size, hidden)
        self.w_2 = Dense(hidden, size)
        self._floor: mx.array | None = None

    def pack(self) -> None:
        """Pack both layers, see `Dense.pack`, and move the first one's bias.

        relu(h + b) is max(h, -b) + b. The second layer turns that b into a constant, which its own bias absorbs. The
        widest array of the model is then traversed once less.
        """
        movable = self.w_1.rewritable and self.w_2.rewritable
        if movable:
            self.w_2.bias = self.w_2.bias + self.w_2.weight @ self.w_1.bias
        self.w_1.pack()
        self.w_2.pack()
        if movable:
            self._floor = -self.w_1.bias_of_pieces(self.w_2)
            mx.eval(self._floor)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        """Return residual + the layers' output, for rows (N, size)."""
        hidden = self.w_1.pieces(x, self.w_2)
        if self._floor is not None:
            hidden = mx.maximum(hidden, self._floor)
        else:
            hidden = mx.maximum(hidden + self.w_1.bias_of_pieces(self.w_2), 0)
        return self.w_2.add_pieces_to(residual, hidden.reshape(*hidden.shape[:2], -1))


class EncoderLayer(nn.Module):
    """Pre-norm SAN-M layer; no residual around attention where its width changes (layer 0)."""

    def __init__(self, config: EncoderConfig, input_size: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, input_size)
        self.feed_forward = FeedForward(config.size, config.linear_units)
        self.norm1 = LayerNorm(input_size, eps)
        self.norm2 = LayerNorm(config.size, eps)
        self.residual = input_size == config.size

    def pack(self) -> None:
        """Pack the linear layers, see `Dense.pack`; they take over scale and shift of the norms before them."""
        self.norm1.hand_over(self.self_attn.linear_q_k_v)
        self.norm2.hand_over(self.feed_forward.w_1)
        self.feed_forward.pack()

    def __call__(self, x: mx.array, batch: int, mask: mx.array | None = None, keys: mx.array | None = None) -> mx.array:
        """Map the rows x (B T, input) of `batch` whole utterances to (B T, size); masks as in `SelfAttention`."""
        return self.step(x, batch, None, mask, keys)[0]

    def step(
        self, x: mx.array, batch: int, memory: mx.array | None, mask: mx.array | None, keys: mx.array | None
    ) -> tuple[mx.array, mx.array]:
        """Do the same for one window of each, which also attends to `memory`; return its keys and values too."""
        attended, keys_values = self.self_attn(self.norm1(x), batch, mask, memory, keys)
        x = x + attended if self.residual else attended
        return self.feed_forward(self.norm2(x), x), keys_values


class Encoder(nn.Module):
    """Stack of SAN-M layers over position-encoded features."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = [
            EncoderLayer(config, config.input_size if i == 0 else config.size) for i in range(config.num_blocks)
        ]
        self.after_norm = LayerNorm(config.size)
        self._config = config
        self._embedding = Embedding(config)

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the layers' outputs."""
        return self.layers[0].self_attn.linear_q_k_v.dtype

    def new_state(self, chunk: ChunkSize, look_back: int) -> EncoderState:
        """Return the state before the first window. `look_back` counts hops; -1 is unlimited."""
        capacity = max(0, look_back) * chunk.hop
        heads = self._config.attention_heads
        return EncoderState(
            overlap=np.zeros((chunk.overlap, self._config.input_size), np.float32),
            memory=mx.zeros((len(self.layers), 2 * heads, capacity, self._config.size // heads), self.dtype),
            unlimited=look_back < 0,
        )

    def embed(self, features: NDArray[np.float32], start: int = 0) -> NDArray[np.float32]:
        """Scale rows (T, input) and add the encodings of positions `start` and following."""
        return self._embedding(features, start)

    def __call__(self, x: mx.array, mask: mx.array | None = None) -> mx.array:
        """Encode whole utterances: embedded features (B, T, input) to (B, T, size). `mask` (B, T) is 1 on real rows."""
        return list(self.layer_by_layer(x, mask))[-1]

    def layer_by_layer(self, x: mx.array, mask: mx.array | None = None) -> Iterator[mx.array]:
        """Do the same as `__call__`, but yield after each layer, so that a caller can cut the work into slices."""
        rows = None if mask is None else mask[:, None, :, None].astype(self.dtype)
        keys = None if mask is None else mask[:, None, None, :]
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        for layer in self.layers:
            x = layer(x, shape[0], rows, keys)
            yield x
        yield self.after_norm(x).reshape(*shape[:2], -1)

    def step(
        self, windows: Sequence[NDArray[np.float32]], states: Sequence[EncoderState], chunk: ChunkSize
    ) -> LaneWork[tuple[mx.array, mx.array, NDArray[np.int64]]]:
        """Encode one window of each of B utterances.

        Args:
            windows: Embedded rows (W, input) of each, overlap included; an utterance's last window may be shorter.
            states: The utterances' states, which only `remember` changes.
            chunk: Shape of the windows.

        Returns:
            Encoded rows (B, W, size), zero beyond each window's own length; the windows' keys and values (layers, B,
            2 heads, rows to be remembered, size / heads); and the windows' lengths (B,).
        """
        lengths = np.array([len(window) for window in windows])
        width = int(lengths.max())
        padded = np.zeros((len(windows), width, windows[0].shape[1]), np.float32)
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = window
        real = length_mask(lengths, width)
        capacity = max(state.memory.shape[2] for state in states)
        takes_part = np.concatenate([length_mask(np.array([s.filled for s in states]), capacity), real], axis=1)
        keys = None if takes_part.all() else mx.array(takes_part)[:, None, None, :]
        mask = None if real.all() else mx.array(real)[:, None, :, None].astype(self.dtype)
        x = mx.array(padded.reshape(-1, padded.shape[2]))
        memories = _memories(states, capacity) if capacity else repeat(None)
        kept = []
        for layer, memory in zip(self.layers, memories, strict=False):
            x, keys_values = layer.step(x, len(windows), memory, mask, keys)
            kept.append(keys_values[:, :, : max(0, width - chunk.look_ahead)])
            yield x, kept[-1]
        x = self.after_norm(x).reshape(len(windows), width, -1)
        return (x if mask is None else x * mask[:, 0]), mx.stack(kept), lengths


def remember(states: Sequence[EncoderState], fresh: mx.array) -> None:
    """Store the keys and values that `Encoder.step` returned, once they have been evaluated.

    Attention does not depend on the order of its keys, so new rows take the places of the oldest ones.
    """
    count = fresh.shape[3]
    for i, state in enumerate(states):
        capacity = state.memory.shape[2]
        if state.unlimited:
            state.memory = mx.concatenate([state.memory, fresh[:, i]], axis=2)
            state.filled += count
        elif capacity and count:
            first = min(count, capacity - state.head)
            state.memory[:, :, state.head : state.head + first] = fresh[:, i, :, :first]
            if first < count:
                state.memory[:, :, : count - first] = fresh[:, i, :, first:]
            state.head = (state.head + count) % capacity
            state.filled = min(capacity, state.filled + count)


def _memories(states: Sequence[EncoderState], capacity: int) -> Iterator[mx.array]:
    """Yield, for each layer, the memories of all states side by side: (B, 2 heads, capacity, size / heads)."""
    padded = [
        state.memory
        if state.memory.shape[2] == capacity
        else mx.pad(state.memory, [(0, 0), (0, 0), (0, capacity - state.memory.shape[2]), (0, 0)])
        for state in states
    ]
    if not on_cpu():
        # One copy for each state, not for each of its layers: a GPU is kept waiting by the number of operations.
        stacked = mx.stack(padded, axis=1)
        yield from (stacked[layer] for layer in range(stacked.shape[0]))
        return
    # One layer at a time, so that a layer finds in the cache what was copied for it.
    for layer in zip(*(mx.split(memory, memory.shape[0]) for memory in padded), strict=True):
        yield mx.concatenate(list(layer))
