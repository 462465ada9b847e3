"""Beats for batches where a large one takes about as long as a small one, as on a GPU.

There, one batch now and then does what many small ones would do, in a part of the time.
"""

from __future__ import annotations

from parastream.streaming.pending import Queues
from parastream.streaming.schedule import ROOM

ROUND = 0.03
"""Seconds that a round of voice activity is taken to last; it needs no GPU, but is cheaper for many, too."""
_REST = 2.0
"""How many times longer than a batch took it is until the next one begins, at least."""

_PAUSE = 0.1
"""Seconds after which it is tried again whether there is room for what could not be computed."""


class Beat:
    """When the next batch of one kind may begin."""

    def __init__(self, *, rests: bool) -> None:
        """`rests`: whether there is a beat at all."""
        self._rests = rests
        self._at = 0.0

    def follow(self, now: float, seconds: float, load: float) -> None:
        """Take note that a batch is over which took so many seconds.

        `load` is the share of the time that goes to audio in real time. Where there is plenty of time, nobody waits.
        """
        if self._rests and load > ROOM:
            self._at = now + _REST * seconds

    def pause(self, now: float) -> None:
        """Wait for a little while, since nothing can be computed now."""
        self._at = now + _PAUSE

    def rest(self, now: float) -> float:
        """Return for how many seconds the next batch has to wait."""
        return max(0.0, self._at - now)


class Beats:
    """Those of all that an engine does in batches."""

    def __init__(self, *, rests: bool) -> None:
        """`rests`: whether there are any."""
        self.rounds, self.windows, self.passes = (Beat(rests=rests) for _ in range(3))

    def rest(self, now: float, queues: Queues, *, touched: bool, marked: bool) -> float | None:
        """Return for how many seconds there is nothing to do; None: until a client does something (`touched`).

        `marked`: whether marks have been found that nobody has been told of.
        """
        if queues.passes or queues.marks or marked:
            return 0.0
        rests = []
        if (rest := self.rounds.rest(now)) or touched or queues.vad:
            rests.append(rest)
        if queues.windows:
            rests.append(self.windows.rest(now))
        if queues.finals:
            rests.append(self.passes.rest(now))
        return min(rests, default=None)
