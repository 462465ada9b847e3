"""SeACo: a Paraformer that listens for hotwords by itself, in whole utterances.

A bias encoder makes a vector of each hotword, and a bias decoder attends to these vectors from the tokens. Where it
says that it has heard one, its probabilities count in place of the decoder's.

Source: Shi et al. 2023 (SeACo-Paraformer, arXiv 2308.03266); FunASR `SeacoParaformer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.config import ATTENTION_FILTER_LAYER, SeacoConfig
from parastream.model.decoder import Decoder
from parastream.model.dense import Dense
from parastream.model.hotword_terms import MOST_ATTENDED, Terms, in_groups, most_attended
from parastream.model.lanes import LaneWork
from parastream.model.layers import log_probabilities
from parastream.model.lstm import LSTM


class Seaco(nn.Module):
    """Bias encoder and bias decoder."""

    def __init__(self, config: SeacoConfig) -> None:
        super().__init__()
        self.embed = mx.zeros((config.decoder.vocab_size, config.size))
        self.encoder = LSTM(config.size, config.size, layers=2)
        self.decoder = Decoder(config.decoder, projects=False)
        self.output_layer = Dense(config.size, config.decoder.vocab_size)
        self._no_bias = config.no_bias

    def encode(self, terms: Terms) -> LaneWork[mx.array]:
        """Return a vector for each term, and behind them that for none of them: (terms + 1, size), in float32."""
        places: list[int] = []
        vectors = []
        for group, ids, lengths in in_groups(terms):
            states = yield from self.encoder(self.embed[mx.array(ids)], lengths)
            vectors.append(mx.take_along_axis(states, mx.array(lengths - 1)[:, None, None], axis=1)[:, 0])
            yield vectors[-1]
            places += group
        every = mx.concatenate(vectors)[mx.array(np.argsort(places))]
        yield every
        return every

    def __call__(
        self,
        plain: mx.array,
        embeddings: mx.array,
        hidden: mx.array,
        counts: NDArray[np.int64],
        encoded: Sequence[mx.array],
    ) -> LaneWork[mx.array]:
        """Let B whole utterances have their hotwords.

        Args:
            plain: Log-probabilities of the vocabulary, as the decoder has them, (B, U, V).
            embeddings: Tokens from CIF (B, U, size).
            hidden: The decoder's hidden states (B, U, size).
            counts: Number of real tokens of each utterance, (B,).
            encoded: For each utterance what `encode` made of its terms.

        Returns:
            Log-probabilities (B, U, V), those of the bias decoder where that has heard something.
        """
        attended = yield from self._attended(hidden, counts, encoded)
        vectors, lengths = _padded(attended)
        twice = mx.concatenate([embeddings, hidden])
        heard = yield from self.decoder(
            twice, np.tile(counts, 2), mx.concatenate([vectors, vectors]), np.tile(lengths, 2)
        )
        by_embedding, by_hidden = mx.split(heard, 2)
        biased = log_probabilities(self.output_layer(by_embedding + by_hidden))
        silent = mx.argmax(biased, axis=-1, keepdims=True) == self._no_bias
        return mx.where(silent, plain, biased)

    def _attended(
        self, hidden: mx.array, counts: NDArray[np.int64], encoded: Sequence[mx.array]
    ) -> LaneWork[list[mx.array]]:
        """Return for each utterance the vectors of the terms that matter in it."""
        found = list(encoded)
        many = [k for k, vectors in enumerate(encoded) if len(vectors) > MOST_ATTENDED]
        if many:
            vectors, lengths = _padded([encoded[k] for k in many])
            mass = yield from self.decoder.mass(
                ATTENTION_FILTER_LAYER, hidden[mx.array(many)], counts[many], vectors, lengths
            )
            yield mass
            for k, masses, length in zip(many, np.array(mass.astype(mx.float32)), lengths, strict=True):
                found[k] = encoded[k][mx.array(most_attended(masses[:length]))]
        return found


def _padded(vectors: Sequence[mx.array]) -> tuple[mx.array, NDArray[np.int64]]:
    """Return vectors (n, size) of B utterances as (B, longest n, size), and how many each has."""
    lengths = np.array([len(own) for own in vectors])
    longest = int(lengths.max())
    return mx.stack([mx.pad(own, [(0, longest - len(own)), (0, 0)]) for own in vectors]), lengths
