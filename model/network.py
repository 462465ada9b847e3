"""What a streaming network is: the seam between those who recognise speech and how it is computed.

`paraformer` computes with MLX, `graphs.paraformer` with onnxruntime; both are the same network on the same weights.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.model.hotword_terms import Terms
from parastream.model.lattice import Wanted
from parastream.model.tokens import Tokens

Float32 = NDArray[np.float32]


class Network(Protocol):
    """A network. Its weights are shared and never change; it belongs to the thread that loaded it."""

    @property
    def size(self) -> int:
        """Number of weights."""

    @property
    def lanes(self) -> int:
        """Number of utterances of a batch that are computed side by side, in about the time of one."""

    @property
    def value_bytes(self) -> int:
        """Bytes of a number that a state remembers."""

    def transcribe(self, features: Sequence[Float32]) -> list[Tokens]:
        """Recognise whole utterances with full context.

        Args:
            features: Rows (T, row_size) of each utterance; lengths may differ.

        Returns:
            The tokens of each, in order. An utterance without rows has none.
        """

    def transcribe_in_slices(
        self,
        features: Sequence[Float32],
        *,
        layers: int,
        wanted: Sequence[Wanted | None] | None = None,
        terms: Sequence[Terms | None] | None = None,
    ) -> Generator[None, None, list[Tokens]]:
        """Do the same as `transcribe`, but yield after every few layers, so that other work can go between.

        Args:
            features: As for `transcribe`.
            layers: Number of layers between two yields, about.
            wanted: As for `step`.
            terms: For each utterance with hotwords what they are made of, if the network listens for them by itself.

        Returns:
            As `transcribe`.
        """

    def plan(self) -> None:
        """Get ready for batches of all the usual sizes, which a GPU may have to plan for one by one."""

    def new_state(self) -> Any:
        """Return the state of an utterance before its first window, which this network alone understands.

        Raises:
            NoRoomError: A GPU has no memory for it.
        """

    def step(
        self,
        features: Sequence[Float32],
        states: Sequence[Any],
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
