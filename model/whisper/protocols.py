"""The seam between how Whisper hears and how its network is computed: by MLX or by onnxruntime.

`network` and `graphs` both have an encoder, a decoder and lanes of these kinds.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from parastream.model.whisper.config import WhisperConfig

T = TypeVar("T")

Float32 = NDArray[np.float32]
Rows = Any
"""Rows (n, size) of MLX or NumPy, as the network makes them."""
Work = Generator[object, None, T]
"""See `parastream.model.lanes.LaneWork`."""


@dataclass(frozen=True)
class Encoded:
    """What the decoder sees of an utterance."""

    rows: tuple[Rows, ...]
    """Joined they are (S, size)."""
    weights: Float32
    """(S,) logarithm of how many frames each row stands for."""

    def __len__(self) -> int:
        return len(self.weights)


class Lanes(Protocol):
    """What computes independent parts of a batch side by side."""

    def __len__(self) -> int:
        """How many at a time."""

    def in_slices(self, works: Sequence[Work[T]], *, steps: int) -> Generator[None, None, list[T]]:
        """Do each work on a lane of its own and return the results in order; yield after every `steps` steps."""


class Encoder(Protocol):
    """Encodes one utterance at a time, so it gets the same bits whoever shares its pass."""

    @property
    def steps(self) -> int:
        """How often `in_steps` yields."""

    def encode_silence(self) -> Rows:
        """Encode 30 s of digital silence: (1500, size), evaluated."""

    def as_rows(self, rows: NDArray[np.floating]) -> Rows:
        """Return rows (n, size) that have been encoded before, as the network makes them."""

    def in_steps(self, mel: Float32) -> Iterator[Rows]:
        """Encode features (T, mels), T even and at most 3000.

        Yields:
            Something after each step; last, the output (T / 2, size).
        """


class State(Protocol):
    """What a batch of B utterances carries from token to token."""

    length: int
    """Tokens so far."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only."""

    def cut(self, length: int) -> None:
        """Forget all tokens but the first ones."""


class Decoder(Protocol):
    """Text from audio, token by token, for a batch."""

    def begin(self, encoded: Sequence[Encoded]) -> Work[Any]:
        """Project the audio of B utterances; return their `State`, before the first token."""

    def step(self, tokens: NDArray[np.int32], state: Any) -> Work[tuple[Float32, Float32]]:
        """Take n further tokens of each utterance, (B, n).

        Returns:
            What the logits after each token are made of, (B, n, size); and the scores that the alignment heads gave the
            audio at each, without weights, (B, n, heads, S).
        """

    def logits(self, hidden: Float32) -> Float32:
        """Return the logits (N, tokens) that rows (N, size) make."""

    def best(self, hidden: Float32, suppressed: Float32, favoured: Float32 | None) -> tuple[NDArray[np.int64], Float32]:
        """Choose the best next tokens.

        Args:
            hidden: Rows (N, size).
            suppressed: Added to all logits, (tokens,).
            favoured: Added besides for the choice only, (N, tokens).

        Returns:
            Tokens (N,), and their logarithmic probabilities without what `favoured` adds.
        """


class Network(Protocol):
    """Encoder and decoder. Their weights are shared and never change."""

    @property
    def config(self) -> WhisperConfig:
        """Sizes."""

    @property
    def encoder(self) -> Encoder:
        """Hears."""

    @property
    def decoder(self) -> Decoder:
        """Writes."""

    @property
    def lanes(self) -> Lanes:
        """Both may work side by side in these."""


def best_tokens(logits: Float32, favoured: Float32 | None) -> tuple[NDArray[np.int64], Float32]:
    """Choose as `Decoder.best` does, from logits (N, tokens) with everything suppressed; they are overwritten."""
    ids = (logits if favoured is None else logits + favoured).argmax(-1)
    logits -= logits.max(-1, keepdims=True)
    chosen = logits[np.arange(len(ids)), ids]
    return ids, chosen - np.log(np.exp(logits, out=logits).sum(-1))
