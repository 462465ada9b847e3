"""Paraformer: features of speech in, tokens out; whole utterances or streaming windows, in batches.

Source: Gao et al. 2022; FunASR `Paraformer` and `ParaformerStreaming`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mlx.core as mx
import mlx.nn as nn

from .config import ModelConfig
from .decoder import Decoder, DecoderState
from .encoder import Encoder, EncoderState
from .layers import length_mask
from .predictor import Predictor, PredictorState


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens recognised in an utterance or in one window of it, special ones included."""

    ids: NDArray[np.int32]
    """(n,) indices into the token list."""
    confidences: NDArray[np.float32]
    """(n,) probability that the decoder gave to each, 0 to 1."""
    rows: NDArray[np.int64]
    """(n,) row of the utterance's features in which each fired; a row lasts 60 ms."""

    @classmethod
    def none(cls) -> Tokens:
        """No tokens."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.confidences, other.confidences]),
            np.concatenate([self.rows, other.rows]),
        )


@dataclass(slots=True)
class StreamState:
    """All that one utterance carries from window to window."""

    encoder: EncoderState
    predictor: PredictorState
    decoder: DecoderState


class Paraformer(nn.Module):
    """The network. Weights are shared and never change; utterances live in `StreamState` objects."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder)
        self.predictor = Predictor(config.predictor)
        self.decoder = Decoder(config.decoder)
        self._config = config

    def transcribe(self, features: Sequence[NDArray[np.float32]]) -> list[Tokens]:
        """Recognises whole utterances with full context.

        Args:
            features: rows (T, row_size) of each utterance; lengths may differ.

        Returns:
            The tokens of each, in order. An utterance without rows has none.
        """
        work = self.transcribe_in_slices(features, layers=len(self.encoder.layers))
        while True:
            try:
                next(work)
            except StopIteration as end:
                return list(end.value)

    def transcribe_in_slices(
        self, features: Sequence[NDArray[np.float32]], *, layers: int
    ) -> Generator[None, None, list[Tokens]]:
        """As `transcribe`, but yields after every few encoder layers, so that other work can go between."""
        lengths = np.array([len(rows) for rows in features])
        present = [i for i, length in enumerate(lengths) if length]
        results = [Tokens.none() for _ in features]
        if not present:
            return results
        lengths = lengths[present]
        batch = np.zeros((len(present), int(lengths.max()), features[0].shape[1]), np.float32)
        for row, i in zip(batch, present, strict=True):
            row[: len(features[i])] = self.encoder.embed(features[i])
        real = length_mask(lengths, batch.shape[1])
        mask = None if real.all() else mx.array(real)
        embedded = encoded = mx.array(batch)
        for done, encoded in enumerate(self.encoder.layer_by_layer(embedded, mask), 1):
            if done % layers == 0:
                mx.eval(encoded)
                yield
        if mask is not None:
            encoded = encoded * mask[:, :, None]
        fired = self.predictor(encoded, lengths)
        heard = np.flatnonzero(fired.counts)
        if len(heard):
            picked = mx.array(heard)
            logits = self.decoder(fired.embeddings[picked], fired.counts[heard], encoded[picked], lengths[heard])
            for k, chosen in zip(heard, _choose(logits, fired.counts[heard]), strict=True):
                results[present[k]] = Tokens(*chosen, fired.rows[k])
        return results

    def new_state(self) -> StreamState:
        """State of an utterance before its first window."""
        config = self._config
        return StreamState(
            self.encoder.new_state(config.chunk, config.encoder_look_back),
            self.predictor.new_state(),
            self.decoder.new_state(config.chunk, config.decoder_look_back),
        )

    def step(
        self,
        features: Sequence[NDArray[np.float32]],
        states: Sequence[StreamState],
        last: Sequence[bool],
    ) -> list[Tokens]:
        """Recognises the next window of each of B independent utterances.

        Args:
            features: new rows (n, row_size) of each: n = hop, or fewer, even none, in an utterance's last window.
            states: their states, advanced in place and fully evaluated on return.
            last: which utterances end here; their states must not be used again.

        Returns:
            The tokens that each window added.
        """
        results = [Tokens.none() for _ in features]
        # An utterance that ends before it began would decode the zero rows of its first window.
        live = [i for i, s in enumerate(states) if len(features[i]) or s.encoder.rows]
        if not live:
            return results
        states = [states[i] for i in live]
        final = [last[i] for i in live]
        chunk = self._config.chunk
        windows, first_rows = [], []
        for i, state in zip(live, states, strict=True):
            fresh = self.encoder.embed(features[i], state.encoder.rows)
            windows.append(np.concatenate([state.encoder.overlap, fresh]))
            first_rows.append(state.encoder.rows - chunk.overlap)
            state.encoder.rows += len(fresh)
            state.encoder.overlap = windows[-1][len(windows[-1]) - chunk.overlap :]
        encoded, lengths = self.encoder.step(windows, [s.encoder for s in states], chunk)
        fired = self.predictor.step(encoded, lengths, [s.predictor for s in states], final, chunk)
        heard = np.flatnonzero(fired.counts)
        if len(heard):
            picked = mx.array(heard)
            logits = self.decoder.step(
                fired.embeddings[picked],
                fired.counts[heard],
                encoded[picked],
                lengths[heard],
                [states[i].decoder for i in heard],
            )
            for k, chosen in zip(heard, _choose(logits, fired.counts[heard]), strict=True):
                rows = np.maximum(fired.rows[k] + first_rows[k], 0)
                results[live[k]] = Tokens(*chosen, rows)
        # No lazy graph may survive the step: it would hold on to the whole batch.
        mx.eval([[s.encoder.memory, s.predictor.hidden, s.decoder.history, s.decoder.memory] for s in states])
        return results


def _choose(logits: mx.array, counts: NDArray[np.int64]) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Best token and its probability from logits (B, U, V), for the real tokens of each utterance."""
    logits = logits.astype(mx.float32)
    ids = mx.argmax(logits, axis=-1).astype(mx.int32)
    confidences = mx.exp(mx.max(logits, axis=-1) - mx.logsumexp(logits, axis=-1))
    mx.eval(ids, confidences)
    pairs = zip(np.array(ids), np.array(confidences), counts, strict=True)
    return [(row_ids[:n], row_confidences[:n]) for row_ids, row_confidences, n in pairs]
