"""SAN-M encoder: self-attention with an FSMN memory (FunASR `SANMEncoder`, `SANMEncoderChunkOpt`).

Each layer has a full-context form (`__call__`) and a streaming form (`step`) over the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mlx.core as mx
import mlx.nn as nn

from .config import ChunkSize, EncoderConfig
from .layers import FSMN, PositionTable, attend, layer_norm, length_mask, pad_time


@dataclass(slots=True)
class EncoderState:
    """What one utterance's encoder carries from window to window."""

    overlap: NDArray[np.float32]
    """Scaled and position-encoded rows (overlap, input_size) that the next window begins with.

    They start as zeros that really take part, as in FunASR.
    """
    memory: mx.array
    """Keys and values of earlier windows (layers, capacity, 2 size): a ring, unless unlimited."""
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
        self.linear_q_k_v = nn.Linear(input_size, 3 * config.size)
        self.linear_out = nn.Linear(config.size, config.size)
        self.fsmn_block = FSMN(config.size, config.kernel_size)
        self.before = (config.kernel_size - 1) // 2 + config.shift
        self.after = config.kernel_size - 1 - self.before

    def __call__(
        self, x: mx.array, mask: mx.array | None, memory: mx.array | None = None, keys: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """x (B, T, input) -> (out (B, T, size), its keys and values (B, T, 2 size)).

        `mask` (B, T, 1) is 1 on real rows. `memory` (B, S, 2 size) are keys and values of earlier windows;
        `keys` (B, 1, 1, S + T) is True where a key takes part.
        """
        q, k, v = mx.split(self.linear_q_k_v(x), 3, axis=-1)
        if mask is not None:
            v_rows = v * mask
            fsmn = (self.fsmn_block(pad_time(v_rows, self.before, self.after)) + v_rows) * mask
        else:
            fsmn = self.fsmn_block(pad_time(v, self.before, self.after)) + v
        keys_values = mx.concatenate([k, v], axis=-1)
        seen = keys_values if memory is None else mx.concatenate([memory, keys_values], axis=1)
        return self.linear_out(attend(q, seen, self.heads, keys)) + fsmn, keys_values


class FeedForward(nn.Module):
    """Two linear layers with ReLU (FunASR `PositionwiseFeedForward`)."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.w_2 = nn.Linear(hidden, size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.w_2(nn.relu(self.w_1(x)))


class EncoderLayer(nn.Module):
    """Pre-norm SAN-M layer; no residual around attention where its width changes (layer 0)."""

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, input_size)
        self.feed_forward = FeedForward(config.size, config.linear_units)
        self.norm1 = layer_norm(input_size)
        self.norm2 = layer_norm(config.size)
        self.residual = input_size == config.size

    def __call__(self, x: mx.array, mask: mx.array | None = None, keys: mx.array | None = None) -> mx.array:
        """Full context: x (B, T, input) -> (B, T, size); masks as in `SelfAttention`."""
        return self.step(x, None, mask, keys)[0]

    def step(
        self, x: mx.array, memory: mx.array | None, mask: mx.array | None, keys: mx.array | None
    ) -> tuple[mx.array, mx.array]:
        """One window: also attends to `memory`; returns the window's own keys and values as well."""
        attended, keys_values = self.self_attn(self.norm1(x), mask, memory, keys)
        x = x + attended if self.residual else attended
        return x + self.feed_forward(self.norm2(x)), keys_values


class Encoder(nn.Module):
    """Stack of SAN-M layers over position-encoded features."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = [
            EncoderLayer(config, config.input_size if i == 0 else config.size) for i in range(config.num_blocks)
        ]
        self.after_norm = layer_norm(config.size)
        self._config = config
        self._positions = PositionTable(config.input_size)
        self._scale = np.float32(config.size**0.5)

    def new_state(self, chunk: ChunkSize, look_back: int) -> EncoderState:
        """State before the first window. `look_back` counts hops; -1 is unlimited."""
        capacity = max(0, look_back) * chunk.hop
        return EncoderState(
            overlap=np.zeros((chunk.overlap, self._config.input_size), np.float32),
            memory=mx.zeros((len(self.layers), capacity, 2 * self._config.size)),
            unlimited=look_back < 0,
        )

    def embed(self, features: NDArray[np.float32], start: int = 0) -> NDArray[np.float32]:
        """Scales rows (T, input) and adds the positions start, start + 1, …"""
        return features * self._scale + self._positions(start, len(features))

    def __call__(self, x: mx.array, mask: mx.array | None = None) -> mx.array:
        """Full context: embedded features (B, T, input) -> (B, T, size). `mask` (B, T) is 1 on real rows."""
        return list(self.layer_by_layer(x, mask))[-1]

    def layer_by_layer(self, x: mx.array, mask: mx.array | None = None) -> Iterator[mx.array]:
        """As `__call__`, but yields after each layer, so that a caller can cut the work in slices."""
        rows = None if mask is None else mask[:, :, None].astype(x.dtype)
        keys = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, rows, keys)
            yield x
        yield self.after_norm(x)

    def step(
        self, windows: Sequence[NDArray[np.float32]], states: Sequence[EncoderState], chunk: ChunkSize
    ) -> tuple[mx.array, NDArray[np.int64]]:
        """One window for each of B utterances.

        Args:
            windows: embedded rows (W, input) each, overlap included; the last of an utterance may be shorter.
            states: their states, advanced in place.
            chunk: shape of the windows.

        Returns:
            Encoded rows (B, W, size), zero beyond each window's own length, and those lengths (B,).
        """
        lengths = np.array([len(window) for window in windows])
        width = int(lengths.max())
        padded = np.zeros((len(windows), width, windows[0].shape[1]), np.float32)
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = window
        real = length_mask(lengths, width)
        memory, remembered = _gather_memory(states)
        takes_part = real if remembered is None else np.concatenate([remembered, real], axis=1)
        keys = None if takes_part.all() else mx.array(takes_part)[:, None, None, :]
        mask = None if real.all() else mx.array(real)[:, :, None].astype(mx.float32)
        x = mx.array(padded)
        kept = []
        for i, layer in enumerate(self.layers):
            x, keys_values = layer.step(x, None if memory is None else memory[i], mask, keys)
            kept.append(keys_values[:, : width - chunk.look_ahead])
        x = self.after_norm(x)
        if width > chunk.look_ahead:
            fresh = mx.stack(kept)
            for i, state in enumerate(states):
                if state.unlimited or state.memory.size:
                    _remember(state, fresh[:, i])
        return (x if mask is None else x * mask), lengths


def _gather_memory(
    states: Sequence[EncoderState],
) -> tuple[mx.array | None, NDArray[np.bool_] | None]:
    """Memories of all states side by side, (layers, B, S, 2 size), and which rows are in use, (B, S)."""
    capacity = max(state.memory.shape[1] for state in states)
    if not capacity:
        return None, None
    padded = [
        state.memory
        if state.memory.shape[1] == capacity
        else mx.pad(state.memory, [(0, 0), (0, capacity - state.memory.shape[1]), (0, 0)])
        for state in states
    ]
    filled = np.array([state.filled for state in states])
    return mx.stack(padded, axis=1), length_mask(filled, capacity)


def _remember(state: EncoderState, fresh: mx.array) -> None:
    """Stores a window's keys and values (layers, n, 2 size).

    Attention does not depend on the order of its keys, so the oldest rows are overwritten where they are.
    """
    count, capacity = fresh.shape[1], state.memory.shape[1]
    if state.unlimited:
        state.memory = mx.concatenate([state.memory, fresh], axis=1)
        state.filled += count
        return
    first = min(count, capacity - state.head)
    state.memory[:, state.head : state.head + first] = fresh[:, :first]
    if first < count:
        state.memory[:, : count - first] = fresh[:, first:]
    state.head = (state.head + count) % capacity
    state.filled = min(capacity, state.filled + count)
