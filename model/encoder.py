"""SAN-M encoder: self-attention with an FSMN memory (FunASR `SANMEncoder`, `SANMEncoderChunkOpt`).

Each layer has a full-context form (`__call__`) and a streaming form (`step`) over the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.config import DecoderConfig, EncoderConfig
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.lanes import LaneWork
from parastream.model.layers import FSMN, LAYER_NORM_EPS, LayerNorm, attend, attention_mask, compiled
from parastream.model.rows import Embedding

_TOGETHER = 10
"""Layers whose keys and values are stored side by side, so that a step holds a copy of no more than those."""


class SelfAttention(nn.Module):
    """Multi-head attention plus FSMN memory over the values (FunASR `MultiHeadedAttentionSANM`)."""

    def __init__(self, config: EncoderConfig, input_size: int) -> None:
        super().__init__()
        self.heads, self.size = config.attention_heads, config.size
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
        *,
        residual: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """Attend within the rows of each utterance.

        Args:
            x: Rows (B T, input).
            batch: B.
            mask: (B, T, 1), 1 on real rows; None where all are.
            memory: Keys and values of earlier windows, (B, 2 heads, S, size / heads).
            keys: What `attention_mask` returned for the keys.
            residual: What is added to the output, (B T, size).

        Returns:
            The output (B T, size), and the rows' keys and values (B, 2 heads, T, size / heads).
        """
        if on_cpu():
            projected = self.linear_q_k_v.heads(x, batch)
            v = projected[:, 2 * self.heads :]
            v = v if mask is None else v * mask[:, None]
            terms = [self.fsmn_block(v, self.before, self.after, residual=True)]
        else:  # with as few operations as possible
            rows = self.linear_q_k_v(x).reshape(batch, -1, 3 * self.size)
            projected = rows.reshape(batch, -1, 3 * self.heads, self.size // self.heads).transpose(0, 2, 1, 3)
            v = rows[:, :, 2 * self.size :]
            v = v if mask is None else v * mask
            terms = [self.fsmn_block(v, self.before, self.after), v]
        if residual is not None:
            terms.append(residual.reshape(terms[0].shape))
        q, keys_values = projected[:, : self.heads], projected[:, self.heads :]
        attended = attend(q, keys_values, keys, memory)
        return self.linear_out.add_to(terms[0], attended, *terms[1:]).reshape(x.shape[0], -1), keys_values


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
        if self._floor is None:
            return self.w_2.add_to(residual, mx.maximum(self.w_1(x), 0))
        hidden = mx.maximum(self.w_1.pieces(x, self.w_2), self._floor)
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
        residual = x if self.residual else None
        x, keys_values = self.self_attn(self.norm1(x), batch, mask, memory, keys, residual=residual)
        return self.feed_forward(self.norm2(x), x), keys_values


class Encoder(nn.Module):
    """Stack of SAN-M layers over position-encoded features."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = [
            EncoderLayer(config, config.input_size if i == 0 else config.size) for i in range(config.num_blocks)
        ]
        self._steps = [layer.step for layer in self.layers]
        self.after_norm = LayerNorm(config.size)
        self._config = config
        self.embed = Embedding(config)

    def compile(self) -> None:
        """Compile the layers, see `compiled`; once, after loading."""
        self._steps = [compiled(layer.step) for layer in self.layers]

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the layers' outputs."""
        return self.layers[0].self_attn.linear_q_k_v.dtype

    @property
    def memory_widths(self) -> list[int]:
        """Numbers for each row of the parts in which `step` takes and returns keys and values, a few layers' each."""
        layers = len(self.layers)
        return [2 * self._config.size * len(range(layers)[i : i + _TOGETHER]) for i in range(0, layers, _TOGETHER)]

    def __call__(self, x: mx.array, mask: NDArray[np.bool_] | None = None) -> mx.array:
        """Encode whole utterances: embedded features (B, T, input) to (B, T, size); `mask` (B, T): which are real."""
        return list(self.layer_by_layer(x, mask))[-1]

    def layer_by_layer(self, x: mx.array, mask: NDArray[np.bool_] | None = None) -> Iterator[mx.array]:
        """Do the same as `__call__`, but yield after each layer, so that a caller can cut the work into slices."""
        rows = None if mask is None else mx.array(mask)[:, :, None].astype(self.dtype)
        keys = None if mask is None else attention_mask(mask, self.dtype)
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        for step in self._steps:
            x, _ = step(x, shape[0], None, rows, keys)
            yield x
        yield self.after_norm(x).reshape(*shape[:2], -1)

    def step(
        self,
        x: mx.array,
        real: NDArray[np.bool_],
        remembered: NDArray[np.bool_],
        memory: Iterable[mx.array] | None,
        kept: int,
    ) -> LaneWork[tuple[mx.array, list[mx.array]]]:
        """Encode one window of each of B utterances.

        Args:
            x: Embedded rows (B, W, input) of each, overlap included.
            real: Which of them are, (B, W).
            remembered: Which rows of the memory are in use, (B, S).
            memory: Keys and values of earlier windows in parts (B, S, width), as they are returned; each is asked for
                when it is needed. None without any.
            kept: The first so many rows of each window are to be remembered.

        Returns:
            Encoded rows (B, W, size), zero where they are not real; and the keys and values of the rows that are to be
            remembered, in parts (B, kept, width), see `memory_widths`.
        """
        batch, width = real.shape
        keys = attention_mask(np.concatenate([remembered, real], axis=1), self.dtype)
        mask = None if real.all() else mx.array(real)[:, :, None].astype(self.dtype)
        x = x.reshape(batch * width, -1)
        layers = len(self._steps)
        memories = repeat(None, layers) if memory is None else memories_by_layer(memory, self._config)
        parts, fresh = [], []
        for number, (step, own) in enumerate(zip(self._steps, memories, strict=True), 1):
            x, keys_values = step(x, batch, own, mask, keys)
            fresh.append(keys_values[:, :, :kept].transpose(0, 2, 1, 3))
            if len(fresh) == _TOGETHER or number == layers:
                parts.append(mx.stack(fresh, axis=2).reshape(batch, kept, -1))
                fresh.clear()
            yield x, fresh[-1:] or parts[-1]
        x = self.after_norm(x).reshape(batch, width, -1)
        return (x if mask is None else x * mask), parts

    def plan(self, batch: int, rows: int, memory: int = 0) -> list[mx.array]:
        """Return what has to be evaluated to have had all kinds of operations on a batch of these sizes.

        These are those of the first two layers: all others have the shapes of the second, and are only traced.
        """
        heads, depth = self._config.attention_heads, self._config.size // self._config.attention_heads
        keys = attention_mask(np.ones((batch, memory + rows), np.bool_), self.dtype)
        own = mx.zeros((batch, 2 * heads, memory, depth), self.dtype) if memory else None
        results = []
        for mask in (None, mx.zeros((batch, rows, 1), self.dtype)):
            x, outputs = mx.zeros((batch * rows, self._config.input_size)), list[mx.array]()
            for step in self._steps:
                x, _ = step(x, batch, own, mask, keys)
                outputs.append(x)
            results.append(outputs[1])
        return results


def memories_by_layer(parts: Iterable[mx.array], config: EncoderConfig | DecoderConfig) -> Iterator[mx.array]:
    """Yield each layer's keys and values by heads, (B, 2 heads, S, size / heads), of parts (B, S, layers · 2 size)."""
    heads = config.attention_heads
    for part in parts:
        by_layer = part.reshape(*part.shape[:2], -1, 2 * heads, config.size // heads)
        for layer in range(by_layer.shape[2]):
            yield by_layer[:, :, layer].transpose(0, 2, 1, 3)
