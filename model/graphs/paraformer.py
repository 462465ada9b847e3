"""Paraformer computed by onnxruntime: the network of `parastream.model.paraformer` on the same weights.

Windows are always computed at their full width, and whole utterances one by one: what an utterance gets has the same
bits whoever shares its batch.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from parastream.model.batches import balanced, placed, share
from parastream.model.cif import Fired, Integrator
from parastream.model.config import ModelConfig
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.pool import Pool
from parastream.model.graphs.sanm import Float32, Take
from parastream.model.graphs.seaco import SeacoStage
from parastream.model.graphs.stages import LAYERS, DecoderStage, EncoderStage, Fresh, Mask, gathered
from parastream.model.graphs.timestamps import TimestampStage
from parastream.model.graphs.workers import Workers
from parastream.model.hotword_terms import EncodedTerms, Terms
from parastream.model.lanes import finish
from parastream.model.lattice import Wanted
from parastream.model.rows import Embedding, length_mask
from parastream.model.selection import Selection
from parastream.model.stream_state import StreamState, take_windows
from parastream.model.timestamps import timed_finely
from parastream.model.tokens import Tokens

_FEWEST = 2
"""Tokens that windows are padded to: products of a single row have other bits than those of several."""
_MEMORY, _HISTORY, _DECODER_MEMORY = "encoder keys and values", "decoder histories", "decoder keys and values"
"""Parts of the pool."""


@dataclass(slots=True)
class _Computed:
    """What some windows gave, and what is to be remembered of them."""

    tokens: list[Tokens]
    states: Sequence[StreamState]
    last: Sequence[bool]
    keys_values: Sequence[Fresh]
    """Of the encoder."""
    heard: Sequence[StreamState] = ()
    """Those whose windows have tokens."""
    histories: Sequence[Fresh] = ()
    """Inputs of the decoder's filters, of these."""
    decoder_keys_values: Sequence[Fresh] = ()
    """Likewise."""


class GraphParaformer:
    """The network; see `Network`."""

    def __init__(self, config: ModelConfig, take: Take, arithmetic: Arithmetic, size: int) -> None:
        """Build all graphs.

        Args:
            config: Sizes of the network.
            take: Hands out each of its weights by name, in float32, once.
            arithmetic: Of the linear layers, the predictor's excepted.
            size: Number of weights.

        Raises:
            ModelConfigError: This onnxruntime cannot compute the network.
        """
        self.size, self.value_bytes = size, 4
        self.arithmetic = arithmetic
        self._config = config
        self._embed = Embedding(config.encoder)
        self._integrator = Integrator(config.predictor)
        self._workers = Workers()
        chunk = config.chunk
        self._kept = chunk.left + chunk.hop
        self._decoder_rows = max(0, config.decoder_look_back) * chunk.hop
        self._unlimited = config.encoder_look_back < 0
        self._encoder = EncoderStage(config.encoder, take, arithmetic, kept=self._kept)
        self._decoder = DecoderStage(config.decoder, take, arithmetic, kept=self._decoder_rows)
        if config.predictor.timestamps:
            self._timestamps = TimestampStage(config.predictor, take)
        if config.seaco is not None:
            self._seaco = SeacoStage(config.seaco, take, arithmetic)
            self._encoded_terms = EncodedTerms(self._seaco.encode, self._workers)
        rows = self._kept if self._unlimited else config.encoder_look_back * chunk.hop
        self._pool = Pool(
            {
                _MEMORY: self._encoder.memories(rows),
                _HISTORY: self._decoder.histories(),
                _DECODER_MEMORY: self._decoder.memories(self._decoder_rows),
            }
        )

    @property
    def lanes(self) -> int:
        """See `Network.lanes`."""
        return len(self._workers)

    def transcribe(self, features: Sequence[Float32]) -> list[Tokens]:
        """See `Network.transcribe`."""
        return finish(self.transcribe_in_slices(features, layers=1 << 16))

    def transcribe_in_slices(
        self,
        features: Sequence[Float32],
        *,
        layers: int,
        wanted: Sequence[Wanted | None] | None = None,
        terms: Sequence[Terms | None] | None = None,
    ) -> Generator[None, None, list[Tokens]]:
        """See `Network.transcribe_in_slices`; the utterances are computed one by one."""
        steps = math.ceil(layers / LAYERS)
        wanted = wanted or [None] * len(features)
        vectors: list[Float32 | None] = [None] * len(features)
        if terms is not None and any(terms):
            vectors = yield from self._encoded_terms.of(terms, steps=steps)
        parts = balanced([len(rows) for rows in features], self.lanes)
        works = [_side_by_side([self._transcribe(features[i], wanted[i], vectors[i]) for i in part]) for part in parts]
        tokens = yield from self._workers.in_slices(works, steps=steps)
        return placed(len(features), parts, tokens)

    def _transcribe(
        self, features: Float32, wanted: Wanted | None, hotwords: Float32 | None
    ) -> Generator[object, None, Tokens]:
        if not len(features):
            return Tokens.none()
        real = np.ones((1, len(features)), np.bool_)
        nothing = np.zeros((1, 0), np.bool_)
        x = self._embed(features)[None]
        index = np.zeros(1, np.int64)
        rows = yield from self._encoder.in_groups(x, real, nothing, index, self._encoder.nothing)
        encoded, weights = self._encoder.weigh(rows, real)
        fired = self._integrator.fire(self._scaled(weights), np.array([len(features)]))
        if not fired.counts[0]:
            return Tokens.none()
        tokens = self._encoder.integrate(fired.shares, encoded)[:, :-1]
        found, hidden = yield from self._decoder.whole(tokens, encoded)
        if hotwords is not None:
            found = yield from self._seaco.hear(found, tokens, hidden, hotwords)
        chosen = Selection(found, np, [wanted]).tokens(fired.counts, fired.rows)[0]
        if self._config.predictor.timestamps:
            weights = yield from self._timestamps.weigh(encoded[0])
            chosen = timed_finely(chosen, weights, self._config.predictor.upsample_times)
        return chosen

    def _scaled(self, weights: Float32) -> Float32:
        """Turn the predictor's weights, from 0 to 1, into tokens."""
        config = self._config.predictor
        scaled: Float32 = np.maximum(weights * np.float32(config.smooth_factor) - np.float32(config.noise_threshold), 0)
        return scaled

    def plan(self) -> None:
        """See `Network.plan`: graphs need none."""

    def new_state(self) -> StreamState:
        """See `Network.new_state`."""
        overlap = np.zeros((self._config.chunk.overlap, self._config.encoder.input_size), np.float32)
        return StreamState(self._pool.take(), self._integrator.new_state(), overlap)

    def step(
        self,
        features: Sequence[Float32],
        states: Sequence[StreamState],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None] | None = None,
    ) -> list[Tokens]:
        """See `Network.step`."""
        wanted = wanted or [None] * len(features)
        # An utterance that ends before it began would decode the zero rows of its first window.
        live = [i for i, state in enumerate(states) if len(features[i]) or state.rows]
        if self._unlimited and live:
            self._make_room(max(states[i].filled for i in live) + self._kept)
        parts = [[live[k] for k in part] for part in share(len(live), self.lanes)]
        works = [
            partial(
                self._step,
                [features[i] for i in part],
                [states[i] for i in part],
                [last[i] for i in part],
                [wanted[i] for i in part],
            )
            for part in parts
        ]
        computed = self._workers.run(works)
        # Only now, so that windows that failed can be computed again.
        self._workers.run([partial(self._remember, one) for one in computed])
        return placed(len(features), parts, [one.tokens for one in computed])

    def _make_room(self, rows: int) -> None:
        """Have the encoder remember so many rows at least, where it forgets none."""
        if rows > self._capacity:
            self._pool.widen(_MEMORY, self._encoder.memories(2 * rows).shape)

    @property
    def _capacity(self) -> int:
        return int(self._pool.arrays[_MEMORY].shape[3])

    def _step(
        self,
        features: Sequence[Float32],
        states: Sequence[StreamState],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None],
    ) -> _Computed:
        chunk = self._config.chunk
        x, lengths, first_rows = take_windows(features, states, self._embed, chunk, len(states))
        real = length_mask(lengths, chunk.window)
        remembered = length_mask(np.array([state.filled for state in states]), self._capacity)
        index = np.array([state.slot.index for state in states])
        keys_values, rows = gathered(self._encoder.in_groups(x, real, remembered, index, self._pool.values))
        encoded, weights = self._encoder.weigh(rows, real)
        predictors = [state.predictor for state in states]
        fired = self._integrator.fire_in_window(self._scaled(weights), lengths, predictors, last, chunk)
        held = np.stack([predictor.hidden for predictor in predictors])[:, None]
        embedded = self._integrate(fired, np.concatenate([held, encoded], axis=1))
        for predictor, hidden in zip(predictors, embedded[:, -1], strict=True):
            predictor.hidden = hidden.copy()
        computed = _Computed([Tokens.none() for _ in states], states, last, keys_values)
        heard = np.flatnonzero(fired.counts).tolist()
        if len(heard):
            computed.heard = [states[i] for i in heard]
            counts, real = fired.counts[heard], real[heard]
            found, computed.histories, computed.decoder_keys_values = self._decoder.step(
                embedded[heard, :-1],
                counts,
                encoded[heard],
                np.concatenate([self._remembered_by_decoder(computed.heard), real], axis=1),
                index[heard],
                self._pool.values,
                np.array([state.begun for state in computed.heard]),
            )
            selection = Selection(found, np, [wanted[i] for i in heard])
            fired_in = [np.maximum(fired.rows[i] + first_rows[i], 0) for i in heard]
            for i, chosen in zip(heard, selection.tokens(counts, fired_in), strict=True):
                computed.tokens[i] = chosen
        return computed

    def _integrate(self, fired: Fired, rows: Float32) -> Float32:
        """Sum up rows (B, 1 + T, size) into tokens (B, U + 1, size), U at least `_FEWEST`; the last is unfinished."""
        end = fired.shares.shape[1] - 1
        shares = np.insert(fired.shares, [end] * max(0, _FEWEST - end), 0, axis=1)
        return self._encoder.integrate(shares, rows)

    def _remembered_by_decoder(self, states: Sequence[StreamState]) -> Mask:
        # New rows enter a memory at its end, so those in use are the last ones.
        return length_mask(np.array([state.decoder_filled for state in states]), self._decoder_rows)[:, ::-1]

    def _remember(self, computed: _Computed) -> None:
        """Store what later windows look back at; nothing looks back at an utterance's last window."""
        for i, (state, last) in enumerate(zip(computed.states, computed.last, strict=True)):
            if not last:
                self._remember_window(state, computed.keys_values, i)
        histories, memories = self._pool.arrays[_HISTORY], self._pool.arrays[_DECODER_MEMORY]
        for i, state in enumerate(computed.heard):
            for fresh in computed.histories:
                histories[fresh.layers.start : fresh.layers.stop, state.slot.index] = fresh.values[:, i]
            for fresh in computed.decoder_keys_values:
                target = _of_layers(memories, fresh.layers)[:, :, state.slot.index]
                target[...] = fresh.values[:, i].reshape(target.shape)
            state.decode(self._config.chunk.window, self._decoder_rows)

    def _remember_window(self, state: StreamState, keys_values: Sequence[Fresh], place: int) -> None:
        """Store the keys and values of a window in place of the oldest ones."""
        capacity = self._capacity
        count, start = state.make_room(self._kept, capacity, unlimited=self._unlimited)
        skipped = self._kept - count
        before_end = min(count, capacity - start)
        for fresh in keys_values:
            target = _of_layers(self._pool.arrays[_MEMORY], fresh.layers)[:, :, state.slot.index]
            new = fresh.values[:, place].reshape(*target.shape[:3], self._kept, target.shape[4])[:, :, :, skipped:]
            target[:, :, :, start : start + before_end] = new[:, :, :, :before_end]
            target[:, :, :, : count - before_end] = new[:, :, :, before_end:]


def _side_by_side(passes: Sequence[Generator[object, None, Tokens]]) -> Generator[None, None, list[Tokens]]:
    """Do passes over several utterances on one worker: a step is one of each that is not done."""
    results: dict[int, Tokens] = {}
    while True:
        for place, one in enumerate(passes):
            if place not in results:
                try:
                    next(one)
                except StopIteration as end:
                    results[place] = end.value
        if len(results) == len(passes):
            return [results[place] for place in range(len(passes))]
        yield


def _of_layers(memories: Float32, layers: range) -> Float32:
    """View the keys and values (2 layers, slots, …) of some layers as (layers, 2, slots, …)."""
    return memories.reshape(len(memories) // 2, 2, *memories.shape[1:])[layers.start : layers.stop]
