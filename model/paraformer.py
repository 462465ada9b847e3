"""Paraformer: features of speech in, tokens out; whole utterances or streaming windows, in batches.

Source: Gao et al. 2022; FunASR `Paraformer` and `ParaformerStreaming`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from parastream.model.batches import placed
from parastream.model.cif import Fired, Integrator, PredictorState
from parastream.model.config import ModelConfig
from parastream.model.decoder import Decoder, DecoderState
from parastream.model.dense import Dense
from parastream.model.device import on_cpu
from parastream.model.encoder import Encoder, EncoderState, remember
from parastream.model.hotword_terms import EncodedTerms, Terms
from parastream.model.lanes import Lanes, LaneWork, finish
from parastream.model.lattice import Wanted
from parastream.model.layers import log_probabilities
from parastream.model.predictor import Predictor
from parastream.model.rows import length_mask
from parastream.model.seaco import Seaco
from parastream.model.selection import Selection
from parastream.model.timestamps import timed_finely
from parastream.model.tokens import Tokens


@dataclass(slots=True)
class StreamState:
    """All that one utterance carries from window to window."""

    encoder: EncoderState
    predictor: PredictorState
    decoder: DecoderState

    def copy(self) -> StreamState:
        """Return a state that can be advanced in place of this one. Arrays are shared: a step replaces them.

        The rows that an encoder remembers are the exception. A step may overwrite the oldest of them.
        """
        return StreamState(replace(self.encoder), replace(self.predictor), replace(self.decoder))


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
        """Number of utterances of a batch that are computed side by side."""
        return len(self._lanes)

    @property
    def value_bytes(self) -> int:
        """Bytes of a number that a state remembers."""
        return self.encoder.dtype.size

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
            linear.dequantize()
        for layer in self.encoder.layers:
            layer.pack()
        for linear in dense:
            linear.pack()

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
        lengths = np.array([len(rows) for rows in features])
        batch = np.zeros((len(features), int(lengths.max()), features[0].shape[1]), np.float32)
        for row, rows in zip(batch, features, strict=True):
            row[: len(rows)] = self.encoder.embed(rows)
        real = length_mask(lengths, batch.shape[1])
        mask = None if real.all() else mx.array(real)
        embedded = encoded = mx.array(batch)
        for encoded in self.encoder.layer_by_layer(embedded, mask):
            yield encoded
        if mask is not None:
            encoded = encoded * mask[:, :, None]
        weights = self.predictor.weigh(encoded)
        yield weights
        fired = self.integrator.fire(np.array(weights), lengths)
        results = [Tokens.none() for _ in features]
        nonempty = np.flatnonzero(fired.counts).tolist()
        if len(nonempty):
            picked = mx.array(nonempty)
            tokens = embeddings(fired, encoded)[picked, :-1]
            counts = fired.counts[nonempty]
            hidden = yield from self.decoder(tokens, counts, encoded[picked], lengths[nonempty])
            found = log_probabilities(self.decoder.output_layer(hidden))
            found = yield from self._biased(found, tokens, hidden, counts, [hotwords[k] for k in nonempty])
            selection = self._select(found, [wanted[k] for k in nonempty])
            yield selection.arrays
            for k, chosen in zip(nonempty, selection.tokens(counts, [fired.rows[k] for k in nonempty]), strict=True):
                results[k] = chosen
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

    def new_state(self) -> StreamState:
        """Return the state of an utterance before its first window."""
        config = self._config
        return StreamState(
            self.encoder.new_state(config.chunk, config.encoder_look_back),
            self.integrator.new_state(),
            self.decoder.new_state(config.chunk, config.decoder_look_back),
        )

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
            states: The utterances' states, advanced in place and fully evaluated on return.
            last: Which utterances end here; their states must not be used again.
            wanted: For each utterance that needs a lattice, the tokens wanted in it besides the best, which may be
                none; None for one that needs no lattice, and for all if left out.

        Returns:
            The tokens that each window adds.
        """
        wanted = wanted or [None] * len(features)
        # An utterance that ends before it began would decode the zero rows of its first window.
        live = [i for i, s in enumerate(states) if len(features[i]) or s.encoder.rows]
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
        return placed(len(features), parts, self._lanes.run(works))

    def _step(
        self,
        features: Sequence[NDArray[np.float32]],
        states: Sequence[StreamState],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None],
    ) -> LaneWork[list[Tokens]]:
        chunk = self._config.chunk
        encoders, predictors = [s.encoder for s in states], [s.predictor for s in states]
        windows, first_rows = [], []
        for rows, state in zip(features, encoders, strict=True):
            windows.append(np.concatenate([state.overlap, self.encoder.embed(rows, state.rows)]))
            first_rows.append(state.rows - chunk.overlap)
            state.rows += len(rows)
            state.overlap = windows[-1][len(windows[-1]) - chunk.overlap :]
        encoded, fresh, lengths = yield from self.encoder.step(windows, encoders, chunk)
        weights = self.predictor.weigh(encoded)
        yield encoded, fresh, weights
        remember(encoders, fresh)
        fired = self.integrator.fire_in_window(np.array(weights), lengths, predictors, last, chunk)
        held = mx.array(np.stack([state.hidden for state in predictors]))[:, None]
        tokens = embeddings(fired, mx.concatenate([held, encoded], axis=1))
        results = [Tokens.none() for _ in features]
        nonempty = np.flatnonzero(fired.counts).tolist()
        selection = None
        if len(nonempty):
            picked = mx.array(nonempty)
            decoders = [state.decoder for state, count in zip(states, fired.counts, strict=True) if count]
            hidden = yield from self.decoder.step(
                tokens[picked, :-1].astype(self.decoder.dtype),
                fired.counts[nonempty],
                encoded[picked],
                lengths[nonempty],
                decoders,
            )
            found = log_probabilities(self.decoder.output_layer(hidden))
            selection = self._select(found, [wanted[k] for k in nonempty])
        unfinished = tokens[:, -1]
        # No lazy graph may survive the step: it would keep the whole batch in memory.
        yield (
            selection and selection.arrays,
            unfinished,
            [[s.encoder.memory, s.decoder.history, s.decoder.memory] for s in states],
        )
        for predictor, hidden in zip(predictors, np.array(unfinished), strict=True):
            predictor.hidden = hidden.copy()
        if selection is not None:
            rows_of = [np.maximum(fired.rows[k] + first_rows[k], 0) for k in nonempty]
            for k, chosen in zip(nonempty, selection.tokens(fired.counts[nonempty], rows_of), strict=True):
                results[k] = chosen
        return results

    def _select(self, found: mx.array, wanted: Sequence[Wanted | None]) -> Selection:
        return Selection(found, mx, wanted, on_device=not on_cpu())


def embeddings(fired: Fired, hidden: mx.array) -> mx.array:
    """Sum up rows (B, T, size) into tokens (B, U + 1, size), in float32; the last token is unfinished."""
    return (mx.array(fired.shares) @ hidden.astype(mx.float32)).astype(hidden.dtype)
