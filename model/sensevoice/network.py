"""SenseVoice's network: a deep SAN-M encoder behind four prompt rows, and a CTC head (FunASR `SenseVoiceSmall`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from parastream.model.dense import Dense
from parastream.model.encoder import EncoderLayer
from parastream.model.lanes import LaneWork
from parastream.model.layers import LayerNorm, attention_mask
from parastream.model.rows import Embedding, length_mask
from parastream.model.sensevoice.config import PROMPTS, SenseVoiceConfig

EPS = 1e-5
"""Of all norms: unlike Paraformer's, these are PyTorch's own."""
HEAD_STEPS = 4
"""Into so many steps the CTC head is cut, each about as much work as an encoder layer."""
_KIND_OF_SPEECH, _KIND_OF_SOUND = 1, 2
_WRITTEN, _BARE = 14, 15
_LANGUAGES = {None: 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
"""Rows of the table of prompts."""
TAG_ROWS = 4
"""Rows in front of the speech: of the language, emotion, kind of sound, and form of the text."""

TagIds = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Tokens among which the first three tags are chosen."""


def prompt(language: str | None, *, marks: bool) -> list[int]:
    """Return which rows of the table go in front of an utterance.

    Args:
        language: One of `languages.SENSEVOICE`, or None where the model is to find out.
        marks: Whether the text is to have marks, capitals and written numbers.
    """
    return [_LANGUAGES[language], _KIND_OF_SPEECH, _KIND_OF_SOUND, _WRITTEN if marks else _BARE]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the network makes of an utterance."""

    ids: NDArray[np.int32]
    """(T,) the likeliest token of each row of features, blanks included."""
    confidences: NDArray[np.float32]
    """(T,) its probability."""
    tags: tuple[int, int, int]
    """Places of the likeliest language, emotion and kind of sound among those that it was asked for."""
    tag_confidences: tuple[float, float, float]
    """Their probabilities among all tokens."""


class Encoder(nn.Module):
    """Two stacks of SAN-M layers (FunASR `SenseVoiceEncoderSmall`)."""

    def __init__(self, config: SenseVoiceConfig) -> None:
        super().__init__()
        sizes = config.encoder
        self.layers = [
            EncoderLayer(sizes, sizes.input_size if i == 0 else sizes.size, EPS) for i in range(sizes.num_blocks)
        ]
        self.after_norm = LayerNorm(sizes.size, EPS)
        self.tp_layers = [EncoderLayer(sizes, sizes.size, EPS) for _ in range(config.tp_blocks)]
        self.tp_norm = LayerNorm(sizes.size, EPS)
        self.embed = Embedding(sizes)

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the layers' outputs."""
        return self.layers[0].self_attn.linear_q_k_v.dtype

    def layer_by_layer(self, x: mx.array, mask: NDArray[np.bool_] | None) -> Iterator[mx.array]:
        """Encode embedded rows (B, N, input) whose `mask` (B, N) is 1 on real ones; yield after each layer.

        The last array that it yields is (B N, size), the one that the head takes.
        """
        rows = None if mask is None else mx.array(mask)[:, :, None].astype(self.dtype)
        keys = None if mask is None else attention_mask(mask, self.dtype)
        batch, x = x.shape[0], x.reshape(-1, x.shape[-1])
        for layer in self.layers:
            x = layer(x, batch, rows, keys)
            yield x
        x = self.after_norm(x)
        for layer in self.tp_layers:
            x = layer(x, batch, rows, keys)
            yield x
        yield self.tp_norm(x)


class SenseVoice(nn.Module):
    """The network. Weights are shared and never change."""

    def __init__(self, config: SenseVoiceConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.ctc = Dense(config.encoder.size, config.vocabulary)
        self.prompts = mx.zeros((PROMPTS, config.encoder.input_size))

    @property
    def steps(self) -> int:
        """Yields of `transcribe`."""
        return len(self.encoder.layers) + len(self.encoder.tp_layers) + HEAD_STEPS + 2

    def pack(self) -> None:
        """Bring the weights into the layout that this machine computes fastest with; once, after loading."""
        dense = [module for module in self.modules() if isinstance(module, Dense)]
        for linear in dense:
            linear.dequantize_on_cpu()
        for layer in (*self.encoder.layers, *self.encoder.tp_layers):
            layer.pack()
        for linear in dense:
            linear.pack()

    def transcribe(
        self, features: Sequence[NDArray[np.float32]], prompts: Sequence[Sequence[int]], tags: TagIds
    ) -> LaneWork[list[Heard]]:
        """Hear whole utterances, each as it would be heard alone; yield after each step.

        Args:
            features: Rows (T, row_size) of each; lengths may differ, and none is empty.
            prompts: What `prompt` returned for each.
            tags: Among what to choose the tags.
        """
        table = np.array(self.prompts.astype(mx.float32))
        rows = [np.concatenate([table[list(p)], f]) for p, f in zip(prompts, features, strict=True)]
        lengths = np.array([len(each) for each in rows])
        batch = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), np.float32)
        for place, each in zip(batch, rows, strict=True):
            place[: len(each)] = self.encoder.embed(each)
        real = length_mask(lengths, batch.shape[1])
        embedded = encoded = mx.array(batch)
        for encoded in self.encoder.layer_by_layer(embedded, None if real.all() else real):
            yield encoded
        found: list[tuple[mx.array, mx.array]] = []
        bounds = np.linspace(0, len(encoded), HEAD_STEPS + 1).astype(int).tolist()
        for start, stop in pairwise(bounds):
            found.append(_best(self.ctc(encoded[start:stop])))
            yield found[-1]
        ids, confidences = (
            np.concatenate([np.array(part) for part in column]).reshape(real.shape)
            for column in zip(*found, strict=True)
        )
        first = encoded.reshape(*real.shape, -1)[:, : len(tags)]
        chosen = [_chosen(self.ctc(first[:, row]), among) for row, among in enumerate(tags)]
        yield chosen
        places, probabilities = (
            np.stack([np.array(part) for part in column], 1).tolist() for column in zip(*chosen, strict=True)
        )
        return [
            Heard(
                ids[i, TAG_ROWS:length],
                confidences[i, TAG_ROWS:length],
                tuple(places[i]),
                tuple(probabilities[i]),
            )
            for i, length in enumerate(lengths)
        ]


def _best(logits: mx.array) -> tuple[mx.array, mx.array]:
    """Find the likeliest token of each row of logits (n, V), and its probability: (n,) each."""
    logits = logits.astype(mx.float32)
    ids = mx.argmax(logits, axis=-1).astype(mx.int32)
    return ids, mx.exp(mx.max(logits, axis=-1) - mx.logsumexp(logits, axis=-1))


def _chosen(logits: mx.array, among: Sequence[int]) -> tuple[mx.array, mx.array]:
    """Find the likeliest of some tokens in logits (B, V): its place among them, and its probability, (B,) each."""
    logits = logits.astype(mx.float32)
    few = logits[:, mx.array(list(among))]
    return mx.argmax(few, axis=-1).astype(mx.int32), mx.exp(mx.max(few, axis=-1) - mx.logsumexp(logits, axis=-1))
