"""Whisper's encoder and decoder.

The encoder takes one utterance at a time: on a CPU a batch costs no less, there is no padding, and so an utterance gets
the same bits whoever shares its pass. The decoder takes a batch, whose rows leave it as they end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.lanes import Lanes, LaneWork
from parastream.model.layers import LayerNorm, neighbours, softmax
from parastream.model.whisper.config import AUDIO_CONTEXT, WhisperConfig
from parastream.model.whisper.embedding import Embedding
from parastream.model.whisper.log_mel import SILENCE
from parastream.model.whisper.protocols import Encoded, Float32, best_tokens

EPS = 1e-5
"""Whisper's, of its layer norms."""
NEVER = -1e9
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
    if not on_cpu():
        return nn.gelu(x)
    if x.size < _MANY:
        return x * (1 + mx.erf(x * math.sqrt(0.5))) / 2  # MLX's own would run a C++ compiler
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
        for rows in self.in_steps(np.full((2 * AUDIO_CONTEXT, self._mels), SILENCE, np.float32)):
            mx.eval(rows)
        return rows

    def as_rows(self, rows: NDArray[np.floating]) -> mx.array:
        """See `protocols.Encoder.as_rows`."""
        return mx.array(rows, self.embed_positions.dtype)

    @property
    def steps(self) -> int:
        """How often `in_steps` yields."""
        return 2 + 2 * len(self.layers)

    def in_steps(self, mel: Float32) -> Iterator[mx.array]:
        """Encode features (T, mels), T even and at most 3000.

        Yields:
            Rows (T / 2, size) after the convolutions, after each half of a layer, and last the output.
        """
        x = gelu(self.conv1(neighbours(mx.array(mel).astype(self.embed_positions.dtype))))
        x = gelu(self.conv2(neighbours(x, 2)))
        x = x + self.embed_positions[: len(x)]
        yield x
        for layer in self.layers:
            x = layer.attend(x)
            yield x
            x = layer.transform(x)
            yield x
        yield self.layer_norm(x)


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

    def cut(self, length: int) -> None:
        """Forget all tokens but the first ones."""
        if length < self.length:
            self.past = [
                None if pair is None else (pair[0][:, :, :length], pair[1][:, :, :length]) for pair in self.past
            ]
            self.length = length


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

    def begin(self, encoded: Sequence[Encoded]) -> LaneWork[DecoderState]:
        """See `protocols.Decoder.begin`."""
        width = max(map(len, encoded))
        joined = [mx.concatenate(list(one.rows)) for one in encoded]
        padded = mx.stack([mx.pad(rows, [(0, width - len(rows)), (0, 0)]) for rows in joined])
        added = np.full((len(encoded), 1, 1, width), NEVER, np.float32)
        for row, one in zip(added, encoded, strict=True):
            row[0, 0, : len(one)] = one.weights
        cross, aligned = [], list[mx.array | None]()
        for layer, heads in zip(self.layers, self._aligned, strict=True):
            keys, values = mx.split(layer.cross_kv.heads(padded, len(padded)), 2, axis=1)
            cross.append((keys, values))
            aligned.append(keys[:, mx.array(heads)] if heads else None)
        yield cross
        return DecoderState(cross, mx.array(added).astype(padded.dtype), aligned, [None] * len(self.layers))

    def step(self, tokens: NDArray[np.int32], state: DecoderState) -> LaneWork[tuple[Float32, Float32]]:
        """See `protocols.Decoder.step`."""
        batch, count = tokens.shape
        x = self.embed_tokens.rows(mx.array(tokens)) + self.embed_positions[state.length : state.length + count]
        mask = None
        if count > 1:
            later = np.arange(state.length + count) > np.arange(state.length, state.length + count)[:, None]
            mask = mx.array(np.where(later, NEVER, 0).astype(np.float32)).astype(x.dtype)
        found = []
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
                found.append(chosen @ keys.swapaxes(2, 3))
            x = layer.cross_out.add_to(x, _attend_tokens(q, *state.cross[i], state.weights))
            x = layer.feed_forward(layer.final_layer_norm(x), x)
        state.length += count
        hidden, scores = self.layer_norm(x), mx.concatenate(found, axis=1).swapaxes(1, 2)
        yield hidden, scores
        return _to_numpy(hidden), _to_numpy(scores)

    def logits(self, hidden: Float32) -> Float32:
        """See `protocols.Decoder.logits`."""
        return self.embed_tokens.logits(hidden)

    def best(self, hidden: Float32, suppressed: Float32, favoured: Float32 | None) -> tuple[NDArray[np.int64], Float32]:
        """See `protocols.Decoder.best`."""
        if on_cpu():
            return best_tokens(self.logits(hidden) + suppressed, favoured)
        logits = self.embed_tokens(mx.array(hidden)).astype(mx.float32) + mx.array(suppressed)
        best = mx.argmax(logits if favoured is None else logits + mx.array(favoured), axis=-1)
        chosen = mx.take_along_axis(logits, best[:, None], axis=-1)[:, 0]
        log_probabilities = chosen - mx.logsumexp(logits, axis=-1)
        mx.eval(best, log_probabilities)
        return np.array(best).astype(np.int64), np.array(log_probabilities)


def _to_numpy(array: mx.array) -> Float32:
    return np.array(array.astype(mx.float32))


def _attend_tokens(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None) -> mx.array:
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

    @cached_property
    def lanes(self) -> Lanes:
        """See `protocols.Network.lanes`; made when needed, by the thread that computes."""
        return Lanes()

    def pack(self) -> None:
        """Bring the weights into the layout that this machine computes fastest with; once, after loading."""
        for module in self.modules():
            if isinstance(module, Dense):
                module.dequantize_on_cpu()
        for layer in self.encoder.layers:
            layer.pack()
        for module in self.encoder.modules():
            if isinstance(module, Dense):
                module.pack()
