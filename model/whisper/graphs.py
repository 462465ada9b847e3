"""Whisper computed by onnxruntime: the network of `parastream.model.whisper.network` on the same weights.

An utterance gets the same bits whoever shares its batch: it is encoded by itself, and what the decoder sees of its
audio is padded to whole blocks, so that sums over it are always added up in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.graphs.builder import CONTRIB, Arithmetic, GraphBuilder
from parastream.model.graphs.program import Program, Value, array_of
from parastream.model.graphs.workers import Workers
from parastream.model.layers import LayerNorm
from parastream.model.whisper.config import AUDIO_CONTEXT, WhisperConfig
from parastream.model.whisper.log_mel import SILENCE
from parastream.model.whisper.network import EPS, NEVER, DecoderLayer, EncoderLayer, Whisper
from parastream.model.whisper.protocols import Encoded, Float32, Work, best_tokens

_GROUP = 4
"""Decoder layers in one graph: those of large models would not all fit into the 2 GB of one."""
_BLOCK = 64
"""Rows of audio that its number is a multiple of."""
_NEAR = 2.0
"""Logits so close to the best are computed anew in float32; 8 bits are not enough to choose between them."""


class GraphWhisper:
    """The network; see `protocols.Network`."""

    def __init__(self, network: Whisper, arithmetic: Arithmetic) -> None:
        """Build all graphs from a network that has been loaded but not packed, and that is of no use any more then.

        Raises:
            ModelConfigError: This onnxruntime cannot compute the network.
        """
        self.config = network.config
        self.arithmetic = arithmetic
        self.lanes = Workers()
        self.encoder = GraphEncoder(network, arithmetic)
        self.decoder = GraphDecoder(network, arithmetic)


class GraphEncoder:
    """See `protocols.Encoder`."""

    def __init__(self, network: Whisper, arithmetic: Arithmetic) -> None:
        encoder, heads = network.encoder, network.config.heads
        self._mels = network.config.mels
        self._positions = _array(encoder.embed_positions)
        self._convolutions = Program(_convolutions(network, arithmetic))
        self._layers = [Program(_encoder_layer(layer, heads, arithmetic)) for layer in encoder.layers]
        graph = GraphBuilder(arithmetic)
        graph.output(_normalised(graph, graph.input("x", ["rows", network.config.size]), encoder.layer_norm))
        self._end = Program(graph)

    @property
    def steps(self) -> int:
        """See `protocols.Encoder.steps`."""
        return 1 + len(self._layers)

    def encode_silence(self) -> Float32:
        """See `protocols.Encoder.encode_silence`."""
        *_, rows = self.in_steps(np.full((2 * AUDIO_CONTEXT, self._mels), SILENCE, np.float32))
        found: Float32 = rows
        return found

    def as_rows(self, rows: NDArray[np.floating]) -> Float32:
        """See `protocols.Encoder.as_rows`."""
        return rows.astype(np.float32)

    def in_steps(self, mel: Float32) -> Iterator[Any]:
        """See `protocols.Encoder.in_steps`; yield after the convolutions and after each layer."""
        (x,) = self._convolutions({"mel": mel, "positions": self._positions[: len(mel) // 2]})
        for layer in self._layers:
            yield x
            (x,) = layer({"x": x})
        yield array_of(self._end({"x": x})[0])


@dataclass(slots=True)
class GraphState:
    """See `protocols.State`."""

    audio: dict[str, NDArray[np.float32]]
    """Keys and values of the audio for each layer, (B, H, S, d), and what is added to their scores, (B, 1, 1, S)."""
    past: dict[str, NDArray[np.float32]]
    """Keys and values of the tokens so far for each layer, (B, H, n, d)."""
    length: int = field(default=0)
    """n."""

    def keep(self, rows: Sequence[int]) -> None:
        """See `protocols.State.keep`."""
        if len(rows) < len(self.audio["added"]):
            kept = list(rows)
            self.audio = {name: array[kept] for name, array in self.audio.items()}
            self.past = {name: array[kept] for name, array in self.past.items()}

    def cut(self, length: int) -> None:
        """See `protocols.State.cut`."""
        if length < self.length:
            self.past = {name: np.ascontiguousarray(array[:, :, :length]) for name, array in self.past.items()}
            self.length = length


@dataclass(frozen=True)
class _Group:
    """Some layers of the decoder."""

    step: Program
    projection: Program
    """Of the audio, to the keys and values of these layers."""
    audio: tuple[str, ...]
    """Names of those."""
    past: tuple[str, ...]
    """Names of keys and values of tokens."""
    aligned: bool
    """Whether there are alignment heads among them."""


class GraphDecoder:
    """See `protocols.Decoder`."""

    def __init__(self, network: Whisper, arithmetic: Arithmetic) -> None:
        config, decoder = network.config, network.decoder
        self._config = config
        self._positions = _array(decoder.embed_positions)
        layers = decoder.layers
        norm = _array(decoder.layer_norm.weight), _array(decoder.layer_norm.bias)
        # In 8 bits the last norm's scale is in the weights behind it, which costs less accuracy than elsewhere.
        folded = arithmetic == "int8"
        last = (np.ones_like(norm[0]), np.zeros_like(norm[1])) if folded else norm
        self._groups = [
            _group(config, layers[i : i + _GROUP], i, arithmetic, last if i + _GROUP >= len(layers) else None)
            for i in range(0, len(layers), _GROUP)
        ]
        table, _ = _taken(decoder.embed_tokens)
        graph = GraphBuilder(arithmetic)
        hidden = graph.input("hidden", ["rows", config.size])
        graph.output(graph.linear(hidden, table * norm[0], table @ norm[1]) if folded else graph.linear(hidden, table))
        self._head = Program(graph)
        self._exact = norm if folded else None
        self._table = table.astype(np.float16) if folded else table

    def begin(self, encoded: Sequence[Encoded]) -> Work[GraphState]:
        """See `protocols.Decoder.begin`; yield after each utterance and few layers."""
        width = max(map(_padded, map(len, encoded)))
        added = np.full((len(encoded), 1, 1, width), NEVER, np.float32)
        audio: dict[str, NDArray[np.float32]] = {"added": added}
        heads, depth = self._config.heads, self._config.size // self._config.heads
        for k, one in enumerate(encoded):
            added[k, 0, 0, : len(one)] = one.weights
            padding = np.zeros((_padded(len(one)) - len(one), self._config.size), np.float32)
            rows = np.concatenate([*one.rows, padding])
            for group in self._groups:
                for name, value in zip(group.audio, group.projection({"rows": rows}), strict=True):
                    if len(encoded) == 1:
                        audio[name] = array_of(value)
                        continue
                    if k == 0:
                        audio[name] = np.zeros((len(encoded), heads, width, depth), np.float32)
                    audio[name][k, :, : len(rows)] = array_of(value)[0]
                yield ()
        none = np.zeros((len(encoded), heads, 0, depth), np.float32)
        return GraphState(audio, {name: none for group in self._groups for name in group.past})

    def step(self, tokens: NDArray[np.int32], state: GraphState) -> Work[tuple[Float32, Float32]]:
        """See `protocols.Decoder.step`."""
        batch, count = tokens.shape
        heads, size = self._config.heads, self._config.size
        stop = state.length + count
        rows = self._table[tokens].astype(np.float32) + self._positions[state.length : stop]
        later = np.arange(stop) > np.arange(state.length, stop)[:, None]
        given: dict[str, Any] = {
            "added": state.audio["added"],
            "mask": np.where(later, np.float32(-np.inf), np.float32(0))[None, None],
            "heads": np.array([batch, count, 3 * heads, size // heads]),
            "queries": np.array([batch, count, heads, size // heads]),
        }
        x: Value = rows.reshape(batch * count, size)
        scores = []
        for group in self._groups:
            own = {name: state.audio[name] for name in group.audio} | {name: state.past[name] for name in group.past}
            x, *found = group.step({"x": x, **given, **own})
            if group.aligned:
                scores.append(array_of(found.pop()))
            state.past |= {name: array_of(value) for name, value in zip(group.past, found, strict=True)}
        state.length = stop
        yield ()
        return array_of(x).reshape(batch, count, size), np.concatenate(scores, axis=1).swapaxes(1, 2)

    def logits(self, hidden: Float32) -> Float32:
        """See `protocols.Decoder.logits`."""
        found: Float32 = array_of(self._head({"hidden": np.ascontiguousarray(hidden)})[0])
        return found

    def best(self, hidden: Float32, suppressed: Float32, favoured: Float32 | None) -> tuple[NDArray[np.int64], Float32]:
        """See `protocols.Decoder.best`."""
        logits = self.logits(hidden) + suppressed
        if self._exact is not None:
            scale, shift = self._exact
            for row, exact in zip(logits, hidden * scale + shift, strict=True):
                near = np.flatnonzero(row > row.max() - _NEAR)
                row[near] = self._table[near].astype(np.float32) @ exact
        return best_tokens(logits, favoured)


def _convolutions(network: Whisper, arithmetic: Arithmetic) -> GraphBuilder:
    """Features (2 T, mels) and positions (T, size) -> (T, size)."""
    graph = GraphBuilder(arithmetic)
    x = graph.input("mel", ["frames", network.config.mels])
    positions = graph.input("positions", ["rows", network.config.size])
    for layer, stride in ((network.encoder.conv1, 1), (network.encoder.conv2, 2)):
        x = graph.node("Pad", x, graph.integers(1, 0, 1, 0))
        stops = (-2, -1, 1 << 40)
        seen = [graph.slice(x, start, stop, axis=0, step=stride) for start, stop in enumerate(stops)]
        x = graph.node("Gelu", graph.linear(graph.node("Concat", *seen, axis=1), *_taken(layer)))
    graph.output(graph.node("Add", x, positions))
    return graph


def _encoder_layer(layer: EncoderLayer, heads: int, arithmetic: Arithmetic) -> GraphBuilder:
    """Rows (T, size) -> (T, size)."""
    graph = GraphBuilder(arithmetic)
    size = layer.out.weight.shape[0]
    x = graph.input("x", ["rows", size])
    qkv = graph.linear(_normalised(graph, x, layer.self_attn_layer_norm), *_taken(layer.qkv))
    q, k, v = graph.split(graph.reshape(qkv, 1, -1, 3 * size), [size] * 3, axis=2)
    scale = (size // heads) ** -0.5
    attended = graph.node("MultiHeadAttention", q, k, v, domain=CONTRIB, num_heads=heads, scale=scale)
    x = graph.linear(graph.reshape(attended, -1, size), *_taken(layer.out), residual=x)
    # The last layers' values after GELU are too large for `after_gelu`.
    hidden = graph.node(
        "Gelu", graph.linear(_normalised(graph, x, layer.final_layer_norm), *_taken(layer.feed_forward.fc1))
    )
    graph.output(graph.linear(hidden, *_taken(layer.feed_forward.fc2), residual=x))
    return graph


def _group(
    config: WhisperConfig,
    layers: Sequence[DecoderLayer],
    first: int,
    arithmetic: Arithmetic,
    norm: tuple[Float32, Float32] | None,
) -> _Group:
    """Build some layers of the decoder, the first of which has this number; `norm` is the one behind the last layer."""
    numbers = range(first, first + len(layers))
    audio = tuple(f"audio_{part}{i}" for i in numbers for part in ("keys", "values"))
    past = tuple(f"past_{part}{i}" for i in numbers for part in ("keys", "values"))
    heads, size = config.heads, config.size
    projection, graph = GraphBuilder(arithmetic), GraphBuilder(arithmetic)
    rows = projection.input("rows", ["rows", size])
    x = graph.input("x", ["tokens", size])
    added = graph.input("added", ["batch", 1, 1, "audio"])
    mask = graph.input("mask", [1, 1, "n", "past_and_n"])
    split = graph.input("heads", [4], np.int64)
    queries = graph.input("queries", [4], np.int64)
    new, aligned = list[str](), list[str]()
    scale = (size // heads) ** -0.5

    def heads_first(rows: str, shape: str) -> str:
        return graph.node("Transpose", graph.node("Reshape", rows, shape), perm=(0, 2, 1, 3))

    for i, layer in zip(numbers, layers, strict=True):
        both = projection.reshape(projection.linear(rows, *_taken(layer.cross_kv)), 1, -1, 2 * heads, size // heads)
        both = projection.node("Transpose", both, perm=(0, 2, 1, 3))
        for part in projection.split(both, [heads, heads], axis=1):
            projection.output(part)
        kept = [graph.input(f"past_{part}{i}", ["batch", heads, "past", size // heads]) for part in ("keys", "values")]
        keys, values = (
            graph.input(f"audio_{part}{i}", ["batch", heads, "audio", size // heads]) for part in ("keys", "values")
        )
        qkv = graph.linear(_normalised(graph, x, layer.self_attn_layer_norm), *_taken(layer.qkv))
        q, *fresh = graph.split(heads_first(qkv, split), [heads] * 3, axis=1)
        k, v = (graph.node("Concat", old, part, axis=2) for old, part in zip(kept, fresh, strict=True))
        new += [k, v]
        x = graph.linear(graph.attention(q, k, v, mask, scale=scale, width=size), *_taken(layer.out), residual=x)
        q = graph.linear(_normalised(graph, x, layer.encoder_attn_layer_norm), *_taken(layer.cross_q))
        scores = graph.scores(heads_first(q, queries), keys, scale=scale)
        chosen = [head for number, head in config.aligned if number == i]
        if chosen:
            aligned.append(graph.node("Gather", scores, graph.integers(*chosen), axis=1))
        seen = graph.attended(scores, values, added, width=size)
        x = graph.linear(seen, *_taken(layer.cross_out), residual=x)
        hidden = graph.linear(_normalised(graph, x, layer.final_layer_norm), *_taken(layer.feed_forward.fc1))
        hidden = graph.node("Gelu", hidden)
        x = graph.linear(hidden, *_taken(layer.feed_forward.fc2), residual=x, after_gelu=True)
    graph.output(x if norm is None else graph.layer_norm(x, *norm, EPS))
    for value in new:
        graph.output(value)
    if aligned:
        graph.output(graph.node("Concat", *aligned, axis=1))
    return _Group(Program(graph), Program(projection), audio, past, bool(aligned))


def _normalised(graph: GraphBuilder, x: str, norm: LayerNorm) -> str:
    return graph.layer_norm(x, _array(norm.weight), _array(norm.bias), EPS)


def _taken(layer: Dense) -> tuple[Float32, Float32 | None]:
    """Return weight and bias of a layer, which loses them."""
    layer.dequantize()
    weight, bias = _array(layer.weight), _array(layer.bias) if "bias" in layer else None
    layer.weight = mx.zeros(())
    return weight, bias


def _array(array: mx.array) -> Float32:
    return np.array(array.astype(mx.float32))


def _padded(rows: int) -> int:
    return -(-rows // _BLOCK) * _BLOCK
