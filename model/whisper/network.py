"""Whisper's encoder and decoder.

The encoder takes one utterance at a time: on a CPU a batch costs no less, there is no padding, and so an utterance gets
the same bits whoever shares its pass. The decoder takes a batch, whose rows leave it as they end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.layers import LayerNorm, softmax
from parastream.model.whisper.config import AUDIO_CONTEXT, WhisperConfig
from parastream.model.whisper.embedding import Embedding
from parastream.model.whisper.log_mel import SILENCE

EPS = 1e-5
"""Whisper's, of its layer norms."""
_NEVER = -1e9
"""Added to the score of a frame that is padding."""
_QUERIES = 128
"""Rows of attention that a CPU computes at once: their scores stay in its cache."""
_MANY = 8192
"""Values from which on their error function is computed by operations on whole arrays."""
_ERF_TOP = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BOTTOM = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
"""erf(z) between -4 and 4 is z P(z²) / Q(z²), exact to 1e-6; highest powers first (Eigen's coefficients)."""


def gelu(x: mx.array) -> mx.array:
    """Exact GELU. On Linux CPUs a rational error function takes a tenth of the time of MLX's, but many operations."""
    if not on_cpu() or x.size < _MANY:
        return nn.gelu(x)
    z = mx.clip(x * math.sqrt(0.5), -4, 4)
    square = z * z
    top, bottom = mx.array(_ERF_TOP[0]), mx.array(_ERF_BOTTOM[0])
    for factor in _ERF_TOP[1:]:
        top = top * square + factor
    for factor in _ERF_BOTTOM[1:]:
        bottom = bottom * square + factor
    return x * (0.5 + 0.5 * (z * top / bottom))


class FeedForward(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Dense(size, hidden)
        self.fc2 = Dense(hidden, size)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        """Residual + the layers' output, for x of the same shape."""
        hidden = gelu(self.fc1.pieces(x, self.fc2) + self.fc1.bias_of_pieces(self.fc2))
        return self.fc2.add_pieces_to(residual, hidden.reshape(*hidden.shape[:2], -1))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.self_attn_layer_norm = LayerNorm(config.size, EPS)
        self.qkv = Dense(config.size, 3 * config.size, parts=3 * config.heads)
        self.out = Dense(config.size, config.size)
        self.final_layer_norm = LayerNorm(config.size, EPS)
        self.feed_forward = FeedForward(config.size, config.hidden)

    def pack(self) -> None:
        """See `Dense.pack`."""
        self.self_attn_layer_norm.hand_over(self.qkv)
        self.final_layer_norm.hand_over(self.feed_forward.fc1)

    def attend(self, x: mx.array) -> mx.array:
        """First half of the layer: rows x (T, size) of one utterance -> (T, size)."""
        q, k, v = mx.split(self.qkv.heads(self.self_attn_layer_norm(x), 1), 3, axis=1)
        return self.out.add_to(x, _attend(q, k, v))

    def transform(self, x: mx.array) -> mx.array:
        """Second half of the layer: what `attend` gave -> (T, size)."""
        return self.feed_forward(self.final_layer_norm(x), x)


def _attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """Attention of all rows to all rows, (1, H, T, d) each -> (T, H d)."""
    heads, length, depth = q.shape[1:]
    if on_cpu():
        keys, scale = k.swapaxes(2, 3), depth**-0.5
        blocks = [q[:, :, i : i + _QUERIES] for i in range(0, length, _QUERIES)]
        attended = mx.concatenate([softmax(block @ keys, scale) @ v for block in blocks], axis=2)
    else:
        attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=depth**-0.5)
    return attended[0].transpose(1, 0, 2).reshape(length, heads * depth)


class Encoder(nn.Module):
    """Two convolutions over time, then transformer layers; a row of its output is 20 ms."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = Dense(3 * config.mels, config.size)
        self.conv2 = Dense(3 * config.size, config.size)
        self.embed_positions = mx.zeros((AUDIO_CONTEXT, config.size))
        self.layers = [EncoderLayer(config) for _ in range(config.encoder_layers)]
        self.layer_norm = LayerNorm(config.size, EPS)
        self._mels = config.mels

    def encode_silence(self) -> mx.array:
        """Encode 30 s of digital silence: (1500, size), evaluated."""
        for rows in self.in_steps(mx.full((2 * AUDIO_CONTEXT, self._mels), SILENCE, self.embed_positions.dtype)):
            mx.eval(rows)
        return rows

    @property
    def steps(self) -> int:
        """How often `in_steps` yields."""
        return 2 + 2 * len(self.layers)

    def in_steps(self, mel: mx.array) -> Iterator[mx.array]:
        """Encode features (T, mels), T even and at most 3000.

        Yields:
            Rows (T / 2, size) after the convolutions, after each half of a layer, and last the output.
        """
        x = gelu(self.conv1(_neighbours(mel, 1)))
        x = gelu(self.conv2(_neighbours(x, 2)))
        x = x + self.embed_positions[: len(x)]
        yield x
        for layer in self.layers:
            x = layer.attend(x)
            yield x
            x = layer.transform(x)
            yield x
        yield self.layer_norm(x)


def _neighbours(x: mx.array, stride: int) -> mx.array:
    """Each row of x (T, C) between the ones before and behind it, every `stride`-th: (T / stride, 3 C)."""
    length = len(x)
    x = mx.pad(x, [(1, 1), (0, 0)])
    return mx.concatenate([x[i : i + length : stride] for i in range(3)], axis=-1)


@dataclass(slots=True)
class DecoderState:
    """What a batch of B utterances carries from token to token."""

    cross: list[tuple[mx.array, mx.array]]
    """Keys and values of the audio for each layer, (B, H, S, d)."""
    weights: mx.array
    """Added to the scores of the audio, (B, 1, 1, S): the logarithm of how many frames each stands for."""
    aligned: list[mx.array | None]
    """For each layer the keys of its alignment heads, (B, h, S, d)."""
    past: list[tuple[mx.array, mx.array] | None]
    """Keys and values of the tokens so far for each layer, (B, H, n, d)."""
    length: int = 0
    """n."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only."""
        if len(rows) == len(self.weights):
            return
        kept = mx.array(list(rows))
        self.cross = [(k[kept], v[kept]) for k, v in self.cross]
        self.weights = self.weights[kept]
        self.aligned = [None if keys is None else keys[kept] for keys in self.aligned]
        self.past = [None if pair is None else (pair[0][kept], pair[1][kept]) for pair in self.past]


class DecoderLayer(nn.Module):
    """Pre-norm transformer layer with cross-attention to the audio."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        size, heads = config.size, config.heads
        self.self_attn_layer_norm = LayerNorm(size, EPS)
        self.qkv = Dense(size, 3 * size, parts=3 * heads)
        self.out = Dense(size, size)
        self.encoder_attn_layer_norm = LayerNorm(size, EPS)
        self.cross_q = Dense(size, size, parts=heads)
        self.cross_kv = Dense(size, 2 * size, parts=2 * heads)
        self.cross_out = Dense(size, size)
        self.final_layer_norm = LayerNorm(size, EPS)
        self.feed_forward = FeedForward(size, config.hidden)


class Decoder(nn.Module):
    """Text from audio, token by token."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocabulary, config.size)
        self.embed_positions = mx.zeros((config.text_context, config.size))
        self.layers = [DecoderLayer(config) for _ in range(config.decoder_layers)]
        self.layer_norm = LayerNorm(config.size, EPS)
        self._aligned = [
            [head for aligned, head in config.aligned if aligned == layer] for layer in range(config.decoder_layers)
        ]

    def begin(self, encoded: Sequence[mx.array], weights: Sequence[NDArray[np.float32]]) -> DecoderState:
        """Project the audio of B utterances, rows (S, size) of each, whose weights (S,) are added to its scores."""
        width = max(len(rows) for rows in encoded)
        padded = mx.stack([mx.pad(rows, [(0, width - len(rows)), (0, 0)]) for rows in encoded])
        added = np.full((len(encoded), 1, 1, width), _NEVER, np.float32)
        for row, given in zip(added, weights, strict=True):
            row[0, 0, : len(given)] = given
        cross, aligned = [], list[mx.array | None]()
        for layer, heads in zip(self.layers, self._aligned, strict=True):
            keys, values = mx.split(layer.cross_kv.heads(padded, len(padded)), 2, axis=1)
            cross.append((keys, values))
            aligned.append(keys[:, mx.array(heads)] if heads else None)
        return DecoderState(cross, mx.array(added).astype(padded.dtype), aligned, [None] * len(self.layers))

    def step(self, tokens: NDArray[np.int32], state: DecoderState) -> tuple[mx.array, mx.array]:
        """Take n further tokens of each utterance, (B, n).

        Returns:
            What the logits after each token are made of, (B, n, size); and the scores that the alignment heads gave the
            audio at each, without weights, (B, n, heads, S).
        """
        batch, count = tokens.shape
        x = self.embed_tokens.rows(mx.array(tokens)) + self.embed_positions[state.length : state.length + count]
        mask = "causal" if count > 1 else None
        scores = []
        for i, layer in enumerate(self.layers):
            q, k, v = mx.split(layer.qkv.heads(layer.self_attn_layer_norm(x), batch), 3, axis=1)
            past = state.past[i]
            if past is not None:
                k, v = mx.concatenate([past[0], k], axis=2), mx.concatenate([past[1], v], axis=2)
            state.past[i] = k, v
            x = layer.out.add_to(x, _attend_tokens(q, k, v, mask))
            q = layer.cross_q.heads(layer.encoder_attn_layer_norm(x), batch)
            keys = state.aligned[i]
            if keys is not None:
                chosen = q[:, mx.array(self._aligned[i])] * q.shape[3] ** -0.5
                scores.append(chosen @ keys.swapaxes(2, 3))
            x = layer.cross_out.add_to(x, _attend_tokens(q, *state.cross[i], state.weights))
            x = layer.feed_forward(layer.final_layer_norm(x), x)
        state.length += count
        return self.layer_norm(x), mx.concatenate(scores, axis=1).swapaxes(1, 2)


def _attend_tokens(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> mx.array:
    """(B, H, n, d) to (B, H, S, d) -> (B, n, H d)."""
    batch, heads, count, depth = q.shape
    attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=depth**-0.5, mask=mask)
    return attended.transpose(0, 2, 1, 3).reshape(batch, count, heads * depth)


class Whisper(nn.Module):
    """The network. Weights are shared and never change."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.config = config

    def pack(self) -> None:
        """Bring the weights into the layout that this machine computes fastest with; once, after loading."""
        for module in self.modules():
            if isinstance(module, Dense):
                module.dequantize()
        for layer in self.encoder.layers:
            layer.pack()
        for module in self.encoder.modules():
            if isinstance(module, Dense):
                module.pack()
