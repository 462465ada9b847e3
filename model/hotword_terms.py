"""Hotwords as a network takes them in that listens for them by itself: the ids of their tokens.

Source: FunASR `SeacoParaformer`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Terms = tuple[tuple[int, ...], ...]
"""Ids of each of some hotwords, or of ways to say them; at least one."""
NO_TERM = (1,)
"""What stands behind the terms of each list, for none of them: `<s>`."""
MOST_ATTENDED = 50
"""Terms that the bias decoder attends to, besides `NO_TERM`: of more, those that matter most in an utterance."""

_GROUP = 64
"""Terms that are encoded together."""
_MOST_KEPT = 4000
"""Terms of which encodings are kept: 8 MB at full size."""

E = TypeVar("E")


def in_groups(terms: Terms) -> Iterator[tuple[list[int], NDArray[np.int64], NDArray[np.int64]]]:
    """Cut a list, `NO_TERM` behind it, into groups of terms of about the same length.

    Yields:
        The places of B terms in the list; their ids, padded with 0, (B, longest); and the lengths of these, (B,).
    """
    every = [*terms, NO_TERM]
    order = sorted(range(len(every)), key=lambda place: len(every[place]))
    for start in range(0, len(order), _GROUP):
        group = order[start : start + _GROUP]
        lengths = np.array([len(every[place]) for place in group])
        ids = np.zeros((len(group), int(lengths.max())), np.int64)
        for row, place in zip(ids, group, strict=True):
            row[: len(every[place])] = every[place]
        yield group, ids, lengths


def most_attended(masses: NDArray[np.float32]) -> NDArray[np.int64]:
    """Choose from a list, by the attention (n,) that each term got and `NO_TERM` behind them, those that matter.

    As in FunASR, `NO_TERM` is there in any case, and once more if it is among the most attended.
    """
    count = min(MOST_ATTENDED, len(masses) - 1)
    best = np.argsort(-masses, kind="stable")[:count]
    return np.append(best, len(masses) - 1)


class SideBySide(Protocol):
    """Where parts of a batch are computed side by side."""

    def __len__(self) -> int:
        """Return how many there are."""

    def in_slices(
        self, works: Sequence[Generator[object, None, E]], *, steps: int
    ) -> Generator[None, None, Sequence[E]]:
        """Do as many works at most, and yield after every `steps` steps."""


class EncodedTerms(Generic[E]):
    """What a bias encoder has made of lists of terms, those that were used last: it need not run for each utterance."""

    def __init__(self, encode: Callable[[Terms], Generator[object, None, E]], lanes: SideBySide) -> None:
        """Take the bias encoder, and where it runs."""
        self._encode = encode
        self._lanes = lanes
        self._kept: OrderedDict[Terms, E] = OrderedDict()

    def of(self, lists: Sequence[Terms | None], *, steps: int) -> Generator[None, None, list[E | None]]:
        """Return what has been made of each list, None where there is none; encode those that are new.

        Yield after every `steps` steps, so that other work can go between.
        """
        named = dict.fromkeys(terms for terms in lists if terms)
        found = {terms: self._kept[terms] for terms in named if terms in self._kept}
        new = [terms for terms in named if terms not in found]
        for start in range(0, len(new), len(self._lanes)):
            some = new[start : start + len(self._lanes)]
            works = [self._encode(terms) for terms in some]
            found |= zip(some, (yield from self._lanes.in_slices(works, steps=steps)), strict=True)
        for terms, encoded in found.items():
            self._kept[terms] = encoded
            self._kept.move_to_end(terms)
        while len(self._kept) > 1 and sum(map(len, self._kept)) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return [found[terms] if terms else None for terms in lists]
