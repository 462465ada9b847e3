"""Paraformer's decoder: all tokens of an utterance (or of a window) at once.

Source: Gao et al. 2022 (Paraformer); FunASR `ParaformerSANMDecoder`. Each layer begins with its feed-forward part,
which has no residual connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.config import DecoderConfig
from parastream.model.dense import Dense, added_up
from parastream.model.encoder import memories_by_layer
from parastream.model.lanes import LaneWork, finish
from parastream.model.layers import FSMN, LayerNorm, attend, attention_mask, compiled, pad_time, softmax
from parastream.model.rows import length_mask


class DecoderFeedForward(nn.Module):
    """Two linear layers with a LayerNorm between them; the second has no bias."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = Dense(size, hidden)
        self.w_2 = Dense(hidden, size, bias=False)
        self.norm = LayerNorm(hidden)

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., size) to (..., size)."""
        return self.w_2(self.norm(mx.maximum(self.w_1(x), 0)))


class FsmnSelfAttention(nn.Module):
    """The decoder's only view of neighbouring tokens (FunASR `MultiHeadedAttentionSANMDecoder`)."""

    def __init__(self, size: int, kernel_size: int) -> None:
        super().__init__()
        self.fsmn_block = FSMN(size, kernel_size)

    def __call__(self, padded: mx.array, x: mx.array, residual: mx.array) -> mx.array:
        """Return x, filtered, + x + residual, all (B, U, size). `padded` is x with the rows that the filter sees."""
        return added_up(residual, x, self.fsmn_block(padded))


class CrossAttention(nn.Module):
    """Attention from tokens to encoded rows."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = Dense(size, size, parts=heads)
        self.linear_k_v = Dense(size, 2 * size, parts=2 * heads)
        self.linear_out = Dense(size, size)

    def keys_values(self, encoded: mx.array) -> mx.array:
        """Map encoded rows (B, T, size) to keys and values (B, 2 heads, T, size / heads)."""
        return self.linear_k_v.heads(encoded, len(encoded))

    def __call__(
        self,
        x: mx.array,
        residual: mx.array,
        keys_values: mx.array,
        keys: mx.array | None,
        memory: mx.array | None = None,
    ) -> mx.array:
        """Return residual + the attention of x, both (B, U, size); the rest is as in `attend`."""
        attended = attend(self.linear_q.heads(x, len(x)), keys_values, keys, memory, of_many_shapes=True)
        return self.linear_out.add_to(residual, attended)

    def mass(self, x: mx.array, encoded: mx.array, keys: mx.array | None) -> mx.array:
        """Return how much each of x (B, U, size) attends to each encoded row, summed over the heads: (B, U, T)."""
        q, k = self.linear_q.heads(x, len(x)), self.keys_values(encoded)[:, : self.heads]
        return softmax(q @ k.swapaxes(2, 3), q.shape[-1] ** -0.5, keys).sum(axis=1)


def _latest(memory: mx.array, fresh: mx.array) -> mx.array:
    """Append `fresh` to `memory`, both (B, 2 heads, rows, size / heads), and keep as many rows as `memory` has."""
    rows, new = memory.shape[2], fresh.shape[2]
    return fresh[:, :, new - rows :] if rows <= new else mx.concatenate([memory[:, :, new:], fresh], axis=2)


class FeedForwardLayer(nn.Module):
    """FunASR's `decoders3`: feed-forward only, without a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.feed_forward = DecoderFeedForward(config.size, config.linear_units)
        self.norm1 = LayerNorm(config.size)

    def __call__(self, x: mx.array) -> mx.array:
        """Map (..., size) to (..., size)."""
        return self.feed_forward(self.norm1(x))


class FsmnLayer(FeedForwardLayer):
    """FunASR's `decoders2`: feed-forward, then FSMN; no cross-attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.self_attn = FsmnSelfAttention(config.size, config.kernel_size)
        self.norm2 = LayerNorm(config.size)

    def inner(self, x: mx.array, mask: mx.array | None) -> mx.array:
        """Compute the FSMN's input (B, U, size), which is zero where `mask` (B, U, 1) is."""
        t: mx.array = self.norm2(self.feed_forward(self.norm1(x)))
        return t if mask is None else t * mask


class DecoderLayer(FsmnLayer):
    """Feed-forward, FSMN, cross-attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.src_attn = CrossAttention(config.size, config.attention_heads)
        self.norm3 = LayerNorm(config.size)

    def step(
        self,
        x: mx.array,
        mask: mx.array | None,
        history: mx.array,
        recent: mx.array,
        encoded: mx.array,
        keys: mx.array | None,
        memory: mx.array | None,
    ) -> tuple[mx.array, ...]:
        """Decode one window of each of B utterances.

        Args:
            x: Tokens (B, U, size).
            mask: As for `inner`.
            history: Last inputs of the filter, (B, reach, size).
            recent: Places of the last ones of this window, counted from the first of those, (B, reach, 1).
            encoded: Encoded rows (B, W, size).
            keys: What `attention_mask` returned for the rows of the memory and the window.
            memory: Keys and values of earlier rows, (B, 2 heads, S, size / heads); None without any.

        Returns:
            Tokens, the new history, and the new memory, if there is any, as (B, S, 2 heads, size / heads).
        """
        t = self.inner(x, mask)
        padded = mx.concatenate([history, t], axis=1)
        latest = mx.take_along_axis(padded, recent, axis=1)
        x = self.self_attn(padded, t, x)
        keys_values = self.src_attn.keys_values(encoded)
        x = self.src_attn(self.norm3(x), x, keys_values, keys, memory)
        if memory is None:
            return x, latest
        return x, latest, _latest(memory, keys_values).transpose(0, 2, 1, 3)


class Decoder(nn.Module):
    """Stack of decoder layers and the output projection."""

    def __init__(self, config: DecoderConfig, *, projects: bool = True) -> None:
        """Make one with random weights; `projects`: whether it has the output projection."""
        super().__init__()
        self.layers = [DecoderLayer(config) for _ in range(config.att_layer_num)]
        self._steps = [layer.step for layer in self.layers]
        self.fsmn_layers = [FsmnLayer(config) for _ in range(config.num_blocks - config.att_layer_num)]
        self.last = FeedForwardLayer(config)
        self.after_norm = LayerNorm(config.size)
        if projects:
            self.output_layer = Dense(config.size, config.vocab_size)
        self._config = config

    def compile(self) -> None:
        """Compile the layers' steps, see `compiled`; once, after loading."""
        self._steps = [compiled(layer.step) for layer in self.layers]

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the layers' outputs."""
        return self.last.feed_forward.w_2.dtype

    @property
    def _reach(self) -> int:
        return self._config.kernel_size - 1

    def __call__(
        self,
        embeddings: mx.array,
        counts: NDArray[np.int64],
        encoded: mx.array,
        lengths: NDArray[np.int64],
    ) -> LaneWork[mx.array]:
        """Decode whole utterances.

        Args:
            embeddings: Tokens from CIF (B, U, size).
            counts: Number of real tokens of each utterance, (B,).
            encoded: Encoded rows (B, T, size).
            lengths: Number of real rows of each utterance, (B,).

        Returns:
            Hidden states (B, U, size), of which `output_layer` makes logits.
        """
        keys = _real_rows(lengths, encoded, self.dtype)
        x = yield from self._attended(self.layers, embeddings, counts, encoded, keys)
        mask = _real_tokens(counts, x)
        for tail in self.fsmn_layers:
            x = self._filter(tail, tail.inner(x, mask), x, 0)
            yield x
        return self._hidden(x)

    def mass(
        self,
        layer: int,
        embeddings: mx.array,
        counts: NDArray[np.int64],
        encoded: mx.array,
        lengths: NDArray[np.int64],
    ) -> LaneWork[mx.array]:
        """Return how much the tokens of whole utterances attend in a layer to each encoded row, in all: (B, T).

        Args:
            layer: Number of the layer.
            embeddings: As for `__call__`.
            counts: Likewise.
            encoded: Likewise.
            lengths: Likewise.
        """
        keys, mask = _real_rows(lengths, encoded, self.dtype), _real_tokens(counts, embeddings)
        x = yield from self._attended(self.layers[:layer], embeddings, counts, encoded, keys)
        last = self.layers[layer]
        x = self._filter(last, last.inner(x, mask), x, self._config.shift)
        mass = last.src_attn.mass(last.norm3(x), encoded, keys)
        return (mass if mask is None else mass * mask).sum(axis=1)

    def _attended(
        self,
        layers: Sequence[DecoderLayer],
        x: mx.array,
        counts: NDArray[np.int64],
        encoded: mx.array,
        keys: mx.array | None,
    ) -> LaneWork[mx.array]:
        """Run layers with cross-attention over tokens x (B, U, size) of whole utterances."""
        mask = _real_tokens(counts, x)
        for layer in layers:
            x = self._filter(layer, layer.inner(x, mask), x, self._config.shift)
            x = layer.src_attn(layer.norm3(x), x, layer.src_attn.keys_values(encoded), keys)
            yield x
        return x

    def step(
        self,
        embeddings: mx.array,
        counts: NDArray[np.int64],
        encoded: mx.array,
        takes_part: NDArray[np.bool_],
        history: mx.array,
        memory: mx.array | None,
        begun: NDArray[np.bool_],
    ) -> LaneWork[tuple[mx.array, mx.array, mx.array | None]]:
        """Decode one window of each of B utterances, all of which have at least one token.

        Attention covers all rows of a window, its look-ahead included, and the window's last rows are remembered. The
        next window therefore meets its first rows twice, as in FunASR.

        Args:
            embeddings: As in `__call__`, for windows in place of utterances.
            counts: Likewise.
            encoded: Encoded rows (B, W, size).
            takes_part: Which rows of the memory and of the windows do, (B, S + W).
            history: Last inputs of the filters of all blocks, (B, blocks, (kernel - 1) size), zeros at first.
            memory: Keys and values of earlier rows, (B, S, attention layers · 2 size); None without any.
            begun: Which utterances have had a token before, (B,).

        Returns:
            Hidden states as in `__call__`, and the new history and memory.
        """
        tokens = embeddings.shape[1]
        mask = _real_tokens(counts, embeddings)
        keys = attention_mask(takes_part, self.dtype)
        # Places of each utterance's last `reach` filter inputs: (B, reach, 1).
        recent = mx.array(counts[:, None] + np.arange(self._reach))[:, :, None]
        history = history.reshape(*history.shape[:2], self._reach, -1)
        histories, memories = [], []
        x = embeddings
        none = repeat(None, len(self._steps))
        remembered = none if memory is None else memories_by_layer([memory], self._config)
        for i, (step, own) in enumerate(zip(self._steps, remembered, strict=True)):
            x, latest, *memorised = step(x, mask, history[:, i], recent, encoded, keys, own)
            histories.append(latest)
            memories += memorised
            yield x, latest, memorised
        if len(self.fsmn_layers) != 1:  # FunASR leaves a single such layer out when streaming.
            # These layers look ahead, but only within their first window.
            ahead = self._reach // 2
            start = np.where(begun, 0, ahead)[:, None]
            place = mx.array(start + np.arange(self._reach + tokens))[:, :, None]
            for i, tail in enumerate(self.fsmn_layers, len(self.layers)):
                t = tail.inner(x, mask)
                padded = pad_time(mx.concatenate([history[:, i], t], axis=1), 0, ahead)
                padded = mx.take_along_axis(padded, place, axis=1)
                histories.append(mx.take_along_axis(padded, recent, axis=1))
                x = tail.self_attn(padded, t, x)
                yield x, histories[-1]
        else:
            histories.append(history[:, -1])
        new_memory = mx.stack(memories, axis=2).reshape(*memory.shape) if memory is not None else None
        return self._hidden(x), mx.stack(histories, axis=1), new_memory

    def plan(self, batch: int, tokens: int, rows: int, memory: int) -> list[mx.array]:
        """Return what has to be evaluated to have had all kinds of operations on a batch of windows of these sizes.

        Args:
            batch: Windows.
            tokens: Tokens of each, padding included.
            rows: Encoded rows of each.
            memory: Rows that are remembered of earlier windows.
        """
        size, blocks = self._config.size, self._config.num_blocks
        whole = finish(
            self.step(
                mx.zeros((batch, tokens, size), self.dtype),
                np.ones(batch, np.int64),
                mx.zeros((batch, rows, size), self.dtype),
                np.ones((batch, memory + rows), np.bool_),
                mx.zeros((batch, blocks, self._reach * size), self.dtype),
                mx.zeros((batch, memory, len(self.layers) * 2 * size), self.dtype) if memory else None,
                np.zeros(batch, np.bool_),
            )
        )
        return [each for each in whole if each is not None]

    def _filter(self, layer: FsmnLayer, t: mx.array, x: mx.array, shift: int) -> mx.array:
        before = self._reach // 2 + shift
        return layer.self_attn(pad_time(t, before, self._reach - before), t, x)

    def _hidden(self, x: mx.array) -> mx.array:
        return self.after_norm(self.last(x))


def _real_tokens(counts: NDArray[np.int64], x: mx.array) -> mx.array | None:
    """Return what x (B, U, size) has to be multiplied with, so that padding is zero; None where there is none."""
    real = length_mask(counts, x.shape[1])
    return None if real.all() else mx.array(real)[:, :, None].astype(x.dtype)


def _real_rows(lengths: NDArray[np.int64], encoded: mx.array, dtype: mx.Dtype) -> mx.array | None:
    """Return what `attend` needs to know of which rows (B, T, size) are real."""
    return attention_mask(length_mask(lengths, encoded.shape[1]), dtype)
