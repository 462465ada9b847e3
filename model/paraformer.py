"""Paraformer: features of speech in, tokens out; whole utterances or streaming windows, in batches.

Source: Gao et al. 2022; FunASR `Paraformer` and `ParaformerStreaming`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model.batches import placed, rounded, rounded_sizes
from parastream.model.cif import Fired, Integrator
from parastream.model.config import ModelConfig
from parastream.model.decoder import Decoder
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.encoder import Encoder
from parastream.model.hotword_terms import EncodedTerms, Terms
from parastream.model.lanes import Lanes, LaneWork, finish
from parastream.model.lattice import Wanted
from parastream.model.layers import log_probabilities
from parastream.model.pool import SCRATCH, Part, Pool
from parastream.model.predictor import Predictor
from parastream.model.rows import length_mask
from parastream.model.seaco import Seaco
from parastream.model.selection import Selection
from parastream.model.stream_state import StreamState, take_windows
from parastream.model.timestamps import timed_finely
from parastream.model.tokens import Tokens

_MEMORY, _HISTORY, _DECODER_MEMORY = "encoder keys and values {}", "decoder histories", "decoder keys and values"
"""Parts of the pool; of the first there are several, see `Encoder.memory_widths`."""
_ON_CUDA, _ON_METAL = 64, 4
"""Windows of a full-size model that take about as long as one: measured on an H200; on a Mac it is a guess."""
_FEWEST_ROWS, _FEWEST_TOKENS = 32, 4
"""Whole utterances and the tokens of windows are padded to at least so many on a GPU."""
_LONGEST_PLANNED, _MOST_PLANNED = 384, 6144
"""Rows of the longest utterance, and of the largest batch, that are planned ahead: 23 seconds, and 64 of 6 seconds."""


@dataclass(slots=True)
class _Computed:
    """What some windows gave, and what is to be remembered of them."""

    tokens: list[Tokens]
    states: Sequence[StreamState]
    last: Sequence[bool]
    keys_values: Sequence[mx.array]
    """Of the encoder, in parts: (B, rows, …), with B of the windows' padded batch."""
    heard: Sequence[StreamState] = ()
    """Those whose windows have tokens."""
    history: mx.array | None = None
    """Of the decoder, of these and what they are padded with."""
    memory: mx.array | None = None
    """Likewise."""


class Paraformer(nn.Module):
    """The network. Its weights are shared and never change; each utterance's state is a `StreamState`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder)
        self.predictor = Predictor(config.predictor)
        self.decoder = Decoder(config.decoder)
        if config.seaco is not None:
            self.seaco = Seaco(config.seaco)
        self.integrator = Integrator(config.predictor)
        weights: list[tuple[str, mx.array]] = tree_flatten(self.parameters())  # type: ignore[assignment]
        self.size = sum(array.size for _, array in weights)
        """Number of weights."""
        self._config = config

    @property
    def lanes(self) -> int:
        """See `Network.lanes`."""
        return len(self._lanes) if on_cpu() else _ON_METAL if mx.metal.is_available() else _ON_CUDA

    @property
    def value_bytes(self) -> int:
        """Bytes of a number that a state remembers."""
        return self.encoder.dtype.size

    @cached_property
    def _pool(self) -> Pool:
        config = self._config
        decoder = config.decoder
        rows = self._kept if self._unlimited else config.encoder_look_back * config.chunk.hop
        parts = {
            name: Part(rows, width) for name, width in zip(self._memories, self.encoder.memory_widths, strict=True)
        }
        parts[_HISTORY] = Part(decoder.num_blocks, (decoder.kernel_size - 1) * decoder.size)
        parts[_DECODER_MEMORY] = Part(
            max(0, config.decoder_look_back) * config.chunk.hop, decoder.att_layer_num * 2 * decoder.size
        )
        return Pool(parts, self.encoder.dtype)

    @cached_property
    def _memories(self) -> list[str]:
        """Parts of the pool with the encoder's keys and values."""
        return [_MEMORY.format(number) for number in range(len(self.encoder.memory_widths))]

    @property
    def _memory_rows(self) -> int:
        """Rows of earlier windows that the pool has room for."""
        return self._pool.rows(self._memories[0])

    @property
    def _unlimited(self) -> bool:
        return self._config.encoder_look_back < 0

    @property
    def _kept(self) -> int:
        """Rows of a window that the encoder remembers."""
        return self._config.chunk.left + self._config.chunk.hop

    @cached_property
    def _lanes(self) -> Lanes:
        """Made when they are needed: some want to know no more of a network than the shapes of its weights."""
        return Lanes()

    @cached_property
    def _encoded_terms(self) -> EncodedTerms[mx.array]:
        return EncodedTerms(self.seaco.encode, self._lanes)

    def pack(self) -> None:
        """Bring the weights into the layout that this machine computes fastest with; once, after loading."""
        dense = [module for module in self.modules() if isinstance(module, Dense)]
        for linear in dense:
            linear.dequantize_on_cpu()
        for layer in self.encoder.layers:
            layer.pack()
        for linear in dense:
            linear.pack()
        self.encoder.compile()
        self.decoder.compile()

    def transcribe(self, features: Sequence[NDArray[np.float32]]) -> list[Tokens]:
        """Recognise whole utterances with full context.

        Args:
            features: Rows (T, row_size) of each utterance; lengths may differ.

        Returns:
            The tokens of each, in order. An utterance without rows has none.
        """
        return finish(self.transcribe_in_slices(features, layers=len(self.encoder.layers)))

    def transcribe_in_slices(
        self,
        features: Sequence[NDArray[np.float32]],
        *,
        layers: int,
        wanted: Sequence[Wanted | None] | None = None,
        terms: Sequence[Terms | None] | None = None,
    ) -> Generator[None, None, list[Tokens]]:
        """Do the same as `transcribe`, but yield after every few encoder layers, so that other work can go between.

        Args:
            features: As for `transcribe`.
            layers: Number of encoder layers between two yields.
            wanted: As for `step`.
            terms: For each utterance with hotwords what they are made of, if the network listens for them by itself.

        Returns:
            As `transcribe`.
        """
        wanted = wanted or [None] * len(features)
        hotwords: list[mx.array | None] = [None] * len(features)
        if terms is not None and any(terms):
            hotwords = yield from self._encoded_terms.of(terms, steps=layers)
        # Utterances of about the same length share a lane, so that little of its work is padding.
        present = sorted((i for i in range(len(features)) if len(features[i])), key=lambda i: len(features[i]))
        parts = [[present[k] for k in part] for part in self._lanes.share(len(present))]
        works = [
            self._transcribe(
                [features[i] for i in part],
                [wanted[i] for i in part],
                [hotwords[i] for i in part],
            )
            for part in parts
        ]
        tokens = yield from self._lanes.in_slices(works, steps=layers)
        return placed(len(features), parts, tokens)

    def _transcribe(
        self,
        features: Sequence[NDArray[np.float32]],
        wanted: Sequence[Wanted | None],
        hotwords: Sequence[mx.array | None],
    ) -> LaneWork[list[Tokens]]:
        # Padding is one row long, so that its attention is defined.
        lengths = np.ones(_sized(len(features)), np.int64)
        lengths[: len(features)] = [len(rows) for rows in features]
        batch = np.zeros((len(lengths), _sized(int(lengths.max()), _FEWEST_ROWS), features[0].shape[1]), np.float32)
        for row, rows in zip(batch, features, strict=False):
            row[: len(rows)] = self.encoder.embed(rows)
        real = length_mask(lengths, batch.shape[1])
        embedded = encoded = mx.array(batch)
        for encoded in self.encoder.layer_by_layer(embedded, None if real.all() else real):
            yield encoded
        if not real.all():
            encoded = encoded * mx.array(real)[:, :, None]
        weights = self.predictor.weigh(encoded)
        yield weights
        fired = self.integrator.fire(np.array(weights)[: len(features)], lengths[: len(features)])
        results = [Tokens.none() for _ in features]
        nonempty = np.flatnonzero(fired.counts).tolist()
        if len(nonempty):
            chosen = _filled(nonempty)
            picked, counts = mx.array(chosen), fired.counts[chosen]
            tokens = embeddings(fired, encoded)[picked, :-1]
            hidden = yield from self.decoder(tokens, counts, encoded[picked], lengths[chosen])
            # What is padding ends here.
            picked, tokens, hidden = (each[: len(nonempty)] for each in (picked, tokens, hidden))
            counts = counts[: len(nonempty)]
            found = log_probabilities(self.decoder.output_layer(hidden))
            found = yield from self._biased(found, tokens, hidden, counts, [hotwords[k] for k in nonempty])
            selection = self._select(found, [wanted[k] for k in nonempty])
            yield selection.arrays
            for k, best in zip(nonempty, selection.tokens(counts, [fired.rows[k] for k in nonempty]), strict=True):
                results[k] = best
            if self._config.predictor.timestamps:
                times = self._config.predictor.upsample_times
                weights = yield from self.predictor.weigh_finely(encoded[picked], lengths[nonempty])
                yield weights
                for k, own in zip(nonempty, np.array(weights), strict=True):
                    results[k] = timed_finely(results[k], own[: times * lengths[k]], times)
        return results

    def _biased(
        self,
        found: mx.array,
        tokens: mx.array,
        hidden: mx.array,
        counts: NDArray[np.int64],
        hotwords: Sequence[mx.array | None],
    ) -> LaneWork[mx.array]:
        """Let the utterances that have hotwords have them; the arguments are those of `Seaco`."""
        listening = [k for k, own in enumerate(hotwords) if own is not None]
        if listening:
            some = mx.array(listening)
            encoded = [own for own in hotwords if own is not None]
            found[some] = yield from self.seaco(found[some], tokens[some], hidden[some], counts[listening], encoded)
        return found

    def plan(self) -> None:
        """See `Network.plan`."""
        if on_cpu():
            return
        for windows in rounded_sizes(1, 4 * self.lanes) if self._config.streams else ():
            rows = self._config.chunk.window
            mx.eval(self.encoder.plan(windows, rows, self._memory_rows))
            mx.eval(self.decoder.plan(windows, _FEWEST_TOKENS, rows, self._pool.rows(_DECODER_MEMORY)))
        for rows in rounded_sizes(_FEWEST_ROWS, _LONGEST_PLANNED):
            for utterances in rounded_sizes(1, _MOST_PLANNED // rows):
                mx.eval(self.encoder.plan(utterances, rows))
        mx.clear_cache()  # the arrays of batches have other sizes than those that follow one another here

    def new_state(self) -> StreamState:
        """Return the state of an utterance before its first window."""
        overlap = np.zeros((self._config.chunk.overlap, self._config.encoder.input_size), np.float32)
        return StreamState(self._pool.take(), self.integrator.new_state(), overlap)

    def step(
        self,
        features: Sequence[NDArray[np.float32]],
        states: Sequence[StreamState],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None] | None = None,
    ) -> list[Tokens]:
        """Recognise the next window of each of B independent utterances.

        Args:
            features: New rows (n, row_size) of each: n = hop; in an utterance's last window it may be less, even 0.
            states: The utterances' states, advanced in place.
            last: Which utterances end here; their states must not be used again.
            wanted: For each utterance that needs a lattice, the tokens wanted in it besides the best, which may be
                none; None for one that needs no lattice, and for all if left out.

        Returns:
            The tokens that each window adds.
        """
        wanted = wanted or [None] * len(features)
        # An utterance that ends before it began would decode the zero rows of its first window.
        live = [i for i, state in enumerate(states) if len(features[i]) or state.rows]
        if self._unlimited and live:
            needed = max(states[i].filled for i in live) + self._kept
            if needed > self._memory_rows:
                self._pool.widen(self._memories, 2 * needed)
        self._pool.prepare()
        parts = [[live[k] for k in part] for part in self._lanes.share(len(live))]
        works = [
            self._step(
                [features[i] for i in part],
                [states[i] for i in part],
                [last[i] for i in part],
                [wanted[i] for i in part],
            )
            for part in parts
        ]
        computed = self._lanes.run(works)
        # Only now, so that windows that failed can be computed again.
        for one in computed:
            self._remember(one)
        mx.async_eval(self._pool.arrays)
        return placed(len(features), parts, [one.tokens for one in computed])

    def _step(
        self,
        features: Sequence[NDArray[np.float32]],
        states: Sequence[StreamState],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None],
    ) -> LaneWork[_Computed]:
        chunk, count = self._config.chunk, len(states)
        x, lengths, first_rows = take_windows(features, states, self.encoder.embed, chunk, _sized(count))
        real = length_mask(lengths, chunk.window)
        slots, filled = _slots(states, len(x)), np.zeros(len(x), np.int64)
        filled[:count] = [state.filled for state in states]
        encoded, keys_values = yield from self.encoder.step(
            mx.array(x),
            real,
            length_mask(filled, self._memory_rows),
            (self._pool.read(part, slots) for part in self._memories) if self._memory_rows else None,
            self._kept,
        )
        weights = self.predictor.weigh(encoded)
        yield encoded, keys_values, weights
        predictors = [state.predictor for state in states]
        fired = self.integrator.fire_in_window(np.array(weights)[:count], lengths[:count], predictors, last, chunk)
        held = np.zeros((len(x), 1, self._config.predictor.size), np.float32)
        held[:count, 0] = [predictor.hidden for predictor in predictors]
        tokens = embeddings(fired, mx.concatenate([mx.array(held), encoded], axis=1))
        computed = _Computed([Tokens.none() for _ in states], states, last, keys_values)
        nonempty = np.flatnonzero(fired.counts).tolist()
        selection = None
        if len(nonempty):
            computed.heard = [states[i] for i in nonempty]
            chosen = _filled(nonempty)
            picked, counts = mx.array(chosen), fired.counts[chosen]
            hidden = yield from self._decode(computed, tokens[picked, :-1], counts, encoded[picked], real[chosen])
            found = log_probabilities(self.decoder.output_layer(hidden[: len(nonempty)]))
            selection = self._select(found, [wanted[i] for i in nonempty])
        unfinished = tokens[:, -1]
        yield selection and selection.arrays, unfinished, computed.history, computed.memory
        for predictor, row in zip(predictors, np.array(unfinished.astype(mx.float32)), strict=False):
            predictor.hidden = row.copy()
        if selection is not None:
            fired_in = [np.maximum(fired.rows[i] + first_rows[i], 0) for i in nonempty]
            for i, best in zip(nonempty, selection.tokens(fired.counts[nonempty], fired_in), strict=True):
                computed.tokens[i] = best
        return computed

    def _decode(
        self,
        computed: _Computed,
        embedded: mx.array,
        counts: NDArray[np.int64],
        encoded: mx.array,
        real: NDArray[np.bool_],
    ) -> LaneWork[mx.array]:
        """Decode the windows that have tokens, and return their hidden states; arguments as for `Decoder.step`."""
        slots, rows = _slots(computed.heard, len(real)), self._pool.rows(_DECODER_MEMORY)
        filled, begun = np.zeros(len(real), np.int64), np.zeros(len(real), np.bool_)
        filled[: len(computed.heard)] = [state.decoder_filled for state in computed.heard]
        begun[: len(computed.heard)] = [state.begun for state in computed.heard]
        # New rows enter a memory at its end, so those in use are the last ones.
        takes_part = np.concatenate([length_mask(filled, rows)[:, ::-1], real], axis=1)
        hidden, computed.history, computed.memory = yield from self.decoder.step(
            embedded.astype(self.decoder.dtype),
            counts,
            encoded,
            takes_part,
            self._pool.read(_HISTORY, slots),
            self._pool.read(_DECODER_MEMORY, slots) if rows else None,
            begun,
        )
        return hidden

    def _remember(self, computed: _Computed) -> None:
        """Store what later windows look back at; nothing looks back at an utterance's last window."""
        batch, fresh = computed.keys_values[0].shape[:2]
        capacity = self._memory_rows
        count = min(fresh, capacity)
        slots, rows = np.full(batch, SCRATCH, np.int32), np.zeros((batch, count), np.int32)
        for i, (state, last) in enumerate(zip(computed.states, computed.last, strict=True)):
            if not last:
                _, start = state.make_room(fresh, capacity, unlimited=self._unlimited)
                slots[i], rows[i] = state.slot.index, (start + np.arange(count)) % max(1, capacity)
        for part, values in zip(self._memories, computed.keys_values, strict=True):
            self._pool.write(part, slots, rows, values[:, fresh - count :])
        if computed.history is not None:
            self._replace(_HISTORY, computed.heard, computed.history)
        if computed.memory is not None:
            self._replace(_DECODER_MEMORY, computed.heard, computed.memory)
        for state in computed.heard:
            state.decode(self._config.chunk.window, self._pool.rows(_DECODER_MEMORY))

    def _replace(self, part: str, states: Sequence[StreamState], values: mx.array) -> None:
        """Store (B, …) of one kind, which take the places of all that was remembered."""
        rows = self._pool.rows(part)
        every = np.broadcast_to(np.arange(rows, dtype=np.int32), (len(values), rows))
        self._pool.write(part, _slots(states, len(values)), every, values.reshape(len(values), rows, -1))

    def _select(self, found: mx.array, wanted: Sequence[Wanted | None]) -> Selection:
        return Selection(found, mx, wanted, on_device=not on_cpu())


def embeddings(fired: Fired, hidden: mx.array) -> mx.array:
    """Sum up rows (B, T, size) into tokens (B, U + 1, size), in float32; the last token is unfinished.

    On a GPU U is rounded up, and B and T may be larger than those of `fired`.
    """
    utterances, tokens, rows = fired.shares.shape
    shares = np.zeros((len(hidden), 1 + _sized(tokens - 1, _FEWEST_TOKENS), hidden.shape[1]), np.float32)
    shares[:utterances, : tokens - 1, :rows] = fired.shares[:, :-1]
    shares[:utterances, -1, :rows] = fired.shares[:, -1]
    return (mx.array(shares) @ hidden.astype(mx.float32)).astype(hidden.dtype)


def _sized(size: int, least: int = 1) -> int:
    """Return to what to pad a size of a batch.

    A GPU is given few different sizes: much is planned for each by cuBLAS and cuDNN, and padding costs it little.
    """
    return size if on_cpu() else rounded(size, least)


def _filled(places: list[int]) -> list[int]:
    """Fill up the places of a batch with the first of them."""
    return places + places[:1] * (_sized(len(places)) - len(places))


def _slots(states: Sequence[StreamState], size: int) -> NDArray[np.int32]:
    """Return the slots of a batch that is padded to a size."""
    slots = np.full(size, SCRATCH, np.int32)
    slots[: len(states)] = [state.slot.index for state in states]
    return slots
