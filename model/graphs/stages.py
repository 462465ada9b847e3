"""The stages of Paraformer's network, each a few programs that run one after the other."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from parastream.model.config import DecoderConfig, EncoderConfig
from parastream.model.graphs import decoder, encoder
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.pool import Part
from parastream.model.graphs.program import Program, Value, array_of, value_of
from parastream.model.graphs.sanm import Float32, Take
from parastream.model.rows import length_mask

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Y = TypeVar("Y")
R = TypeVar("R")
Memories = Mapping[str, Value]
"""What is remembered, by the names of the graphs' inputs; a slot for each utterance."""

LAYERS = 2
"""Layers of a graph, the least that a pass computes in one go."""


@dataclass(frozen=True)
class _Group:
    """Consecutive layers."""

    program: Program
    layers: range
    memories: tuple[str, ...]
    """Names of the inputs that are memories."""

    def run(self, given: Mapping[str, Value], memories: Memories) -> list[Value]:
        return self.program({**given, **{name: memories[name] for name in self.memories}})


@dataclass(frozen=True)
class Fresh:
    """What some layers have to remember of a batch."""

    layers: range
    values: NDArray[np.float32]
    """(layers, B, …)."""


class EncoderStage:
    """The encoder, and the predictor's weights of its rows."""

    def __init__(self, config: EncoderConfig, take: Take, arithmetic: Arithmetic, *, kept: int) -> None:
        """Build the graphs; the arguments are those of `encoder_graph`."""
        self._config = config
        self._groups = [
            _Group(
                Program(encoder.encoder_graph(config, take, layers, arithmetic, kept=kept)),
                layers,
                tuple(name for layer in layers for name in encoder.memory_names(layer)),
            )
            for layers in _grouped(config.num_blocks)
        ]
        self._predictor = Program(encoder.predictor_graph(take, config.size))
        self._integration = Program(encoder.integration_graph(config.size))
        self.nothing: Memories = _nothing(self.memories(0))
        """Memories of a single slot without rows."""

    def memories(self, rows: int) -> Part:
        """Describe the keys and values of so many rows."""
        heads, size = self._config.attention_heads, self._config.size
        names = [name for group in self._groups for name in group.memories]
        return Part(names, (heads, rows, size // heads))

    def in_groups(
        self, x: Float32, real: Mask, remembered: Mask, index: Integers, memories: Memories
    ) -> Generator[Fresh, None, Value]:
        """Encode B windows or utterances.

        Args:
            x: Embedded rows (B, T, input).
            real: Which of them are no padding, (B, T).
            remembered: Which rows of the memories are in use, (B, S).
            index: The slot of each in the memories, (B,).
            memories: Keys and values of earlier windows, of `memories(S)`.

        Yields:
            After each group of layers its keys and values to be remembered.

        Returns:
            Rows (B T, size).
        """
        batch, length = real.shape
        heads, size = self._config.attention_heads, self._config.size
        given = {
            "heads": _integers(batch, length, 3 * heads, size // heads),
            "mask": value_of(real[:, :, None].astype(np.float32)),
            "added": _added(np.concatenate([remembered, real], axis=1)),
            "index": value_of(index),
        }
        rows = value_of(x.reshape(batch * length, -1))
        for group in self._groups:
            rows, fresh = group.run({"x": rows, **given}, memories)
            yield Fresh(group.layers, array_of(fresh))
        return rows

    def weigh(self, rows: Value, real: Mask) -> tuple[Float32, Float32]:
        """Return encoded rows (B, T, size), zero where they are padding, and the weights (B, T) of each."""
        batch, length = real.shape
        mask = value_of(real[:, :, None].astype(np.float32))
        frame = _integers(batch, length, self._config.size)
        encoded, weights = self._predictor({"x": rows, "frame": frame, "mask": mask})
        return array_of(encoded), array_of(weights).reshape(batch, length)

    def integrate(self, shares: Float32, rows: Float32) -> Float32:
        """Sum up rows (B, T, size) by shares (B, U, T) to (B, U, size)."""
        return array_of(self._integration({"shares": shares, "rows": rows})[0])


@dataclass(frozen=True)
class _Sight:
    """What the decoder's filters see, and what the next window is to remember of it."""

    behind: int
    """Rows of zeros behind the tokens."""
    recent: Integers
    """(B, r) places of what is to be remembered."""
    last_behind: int
    """As `behind`, for the layers without cross-attention."""
    place: Integers
    """(B, n) what the filters of these layers see of all that there is."""
    last: bool = True
    """Whether these layers take part."""


class DecoderStage:
    """The decoder."""

    def __init__(self, config: DecoderConfig, take: Take, arithmetic: Arithmetic, *, kept: int) -> None:
        """Build the graphs; the arguments are those of `decoder_graph`."""
        self._config = config
        self._reach = config.kernel_size - 1
        self._groups = [
            _Group(
                Program(decoder.decoder_graph(config, take, layers, arithmetic, kept=kept)),
                layers,
                tuple(n for layer in layers for n in (decoder.history_name(layer), *decoder.memory_names(layer))),
            )
            for layers in _grouped(config.att_layer_num)
        ]
        last = range(config.att_layer_num, config.num_blocks)
        self._last = [
            _Group(
                Program(decoder.filter_graph(config, take, arithmetic)), last, tuple(map(decoder.history_name, last))
            )
            for _ in last[:1]
        ]
        self._output = Program(decoder.output_graph(config, take, arithmetic))
        middle = self._reach // 2
        self._front = middle + config.shift
        zeros = {
            decoder.history_name(layer): np.zeros(
                (1, middle if layer in last else self._front, config.size), np.float32
            )
            for layer in range(config.num_blocks)
        }
        self._nothing: Memories = {**_nothing(self.memories(0)), **{name: value_of(a) for name, a in zeros.items()}}

    def histories(self) -> Part:
        """Describe the inputs of filters that are remembered."""
        names = [decoder.history_name(layer) for layer in range(self._config.num_blocks)]
        return Part(names, (self._reach, self._config.size))

    def memories(self, rows: int) -> Part:
        """Describe the keys and values of so many rows."""
        heads, size = self._config.attention_heads, self._config.size
        names = [name for layer in range(self._config.att_layer_num) for name in decoder.memory_names(layer)]
        return Part(names, (heads, rows, size // heads))

    def whole(self, tokens: Float32, encoded: Float32) -> Generator[object, None, tuple[Float32, Float32]]:
        """Decode one whole utterance; yield after each group of layers.

        Args:
            tokens: From CIF, (1, U, size).
            encoded: Encoded rows (1, T, size).

        Returns:
            Logarithms of the vocabulary's probabilities, (1, U, V), and the hidden states behind them, (1, U, size).
        """
        count, middle = tokens.shape[1], self._reach // 2
        sight = _Sight(
            behind=self._reach - self._front,
            recent=np.zeros((1, 0), np.int64),
            last_behind=self._reach - middle,
            place=np.arange(self._reach + count)[None],
        )
        every = np.ones((1, count), np.bool_), np.ones((1, encoded.shape[1]), np.bool_)
        return self._in_groups(tokens, encoded, *every, np.zeros(1, np.int64), self._nothing, sight)

    def step(
        self,
        tokens: Float32,
        counts: Integers,
        encoded: Float32,
        takes_part: Mask,
        index: Integers,
        memories: Memories,
        begun: Mask,
    ) -> tuple[Float32, list[Fresh], list[Fresh]]:
        """Decode one window of each of B utterances, all of which have at least one token.

        Args:
            tokens: From CIF, (B, U, size).
            counts: Number of real tokens of each, (B,).
            encoded: Encoded rows (B, T, size).
            takes_part: Which rows attention covers, those remembered first, (B, S + T).
            index: The slot of each in the memories, (B,).
            memories: What is remembered, of `histories()` and `memories(S)`.
            begun: Which utterances have had a token before, (B,).

        Returns:
            Logarithms of the vocabulary's probabilities, (B, U, V); and what is to be remembered: inputs of filters,
            and keys and values.
        """
        count, ahead = tokens.shape[1], self._reach // 2
        # The layers without cross-attention look ahead, but only within their first window.
        start = np.where(begun, 0, ahead)[:, None]
        sight = _Sight(
            behind=0,
            recent=counts[:, None] + np.arange(self._reach),
            last_behind=ahead,
            place=start + np.arange(self._reach + count),
            last=self._config.num_blocks - self._config.att_layer_num != 1,  # FunASR leaves a single one out here
        )
        real = length_mask(counts, count)
        work = self._in_groups(tokens, encoded, real, takes_part, index, memories, sight)
        fresh, (found, _) = gathered(work)
        return found, [history for history, *_ in fresh], [newest for _, *memory in fresh for newest in memory]

    def _in_groups(
        self,
        tokens: Float32,
        encoded: Float32,
        real: Mask,
        takes_part: Mask,
        index: Integers,
        memories: Memories,
        sight: _Sight,
    ) -> Generator[list[Fresh], None, tuple[Float32, Float32]]:
        batch, count, size = tokens.shape
        heads = self._config.attention_heads
        given = {
            "tokens": _integers(batch, count, size),
            "mask": value_of(real[:, :, None].astype(np.float32)),
            "behind": value_of(np.zeros((batch, sight.behind, size), np.float32)),
            "recent": value_of(sight.recent[:, :, None]),
            "index": value_of(index),
        }
        attention = {
            "encoded": value_of(encoded.reshape(-1, size)),
            "queries": _integers(batch, count, heads, size // heads),
            "keys": _integers(batch, encoded.shape[1], 2 * heads, size // heads),
            "added": _added(takes_part),
        }
        x = value_of(tokens.reshape(-1, size))
        for group in self._groups:
            x, *fresh = group.run({"x": x, **given, **attention}, memories)
            yield [Fresh(group.layers, array_of(value)) for value in fresh]
        given |= {
            "behind": value_of(np.zeros((batch, sight.last_behind, size), np.float32)),
            "place": value_of(sight.place[:, :, None]),
        }
        for group in self._last if sight.last else []:
            x, *fresh = group.run({"x": x, **given}, memories)
            yield [Fresh(group.layers, array_of(value)) for value in fresh]
        found, hidden = self._output({"x": x})
        return array_of(found).reshape(batch, count, -1), array_of(hidden).reshape(batch, count, -1)


def gathered(work: Generator[Y, None, R]) -> tuple[list[Y], R]:
    """Run a generator to its end and return what it yields, and its result."""
    values: list[Y] = []
    while True:
        try:
            values.append(next(work))
        except StopIteration as end:
            return values, end.value


def _grouped(layers: int) -> list[range]:
    """Cut layers into groups of about the same size."""
    groups = math.ceil(layers / LAYERS)
    return [range(layers * i // groups, layers * (i + 1) // groups) for i in range(groups)]


def _nothing(part: Part) -> Memories:
    return {name: value_of(np.zeros((1, *part.shape), np.float32)) for name in part.names}


def _added(takes_part: Mask) -> Value:
    """Turn a mask of keys (B, S) into what is added to their scores, (B, 1, 1, S)."""
    return value_of(np.where(takes_part, np.float32(0), np.float32(-np.inf))[:, None, None])


def _integers(*values: int) -> Value:
    return value_of(np.array(values, np.int64))
