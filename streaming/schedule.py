"""Who goes first, as pure functions of what waits: no threads, no clocks, no models.

Each session is entitled to one second of audio a second. What a client sends ahead of that, a whole file at once for
instance, is recognised in time that nobody is entitled to. Instants are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Generic, Protocol, TypeVar

from parastream.model.computing import Compute

BURST = 2.0
"""Seconds by which audio may be ahead of real time, as after a hold-up of the network, and still be urgent."""

PATIENCE = 0.2
"""Seconds that a pass over an utterance that has ended may wait before it gets as much time as windows."""

SPARE = 0.8
"""Share of the time that sessions cannot do without up to which they get what nobody needs for certain beside windows:
passes over pauses in which speech may go on, and the better ear."""

ROOM = 0.6
"""Share of the time that goes to audio in real time up to which there is plenty: partials are refined, and slices are
short."""

LEAST = 0.1
"""Share of the time that the better ear is taken to get, at least."""

REST = 2.0
"""How many times longer than it takes to refine a partial it is until the next time, at least."""

INDULGENCE = 0.25
"""Seconds after the end of an utterance, beyond what the pass itself takes, for which its final waits for the better
ear at most."""

_MUCH_LATER = 24 * 3600.0
"""Seconds by which audio that has no claim on being recognised in real time is always ahead of it."""

_PIECES = {"mlx": 4, "graphs": 16}
"""Of a slice, which is left at the end of a piece. Graphs can be left without a cost; MLX has to be waited for."""


class Pace:
    """When a session's audio is due: when it comes or, for what comes ahead of real time, when it would have come.

    This is the virtual clock of a token bucket. Audio of a session that is entitled to nothing is always ahead.
    """

    def __init__(self, now: float, *, entitled: bool = True) -> None:
        self._later = 0.0 if entitled else _MUCH_LATER
        self._newest = now  # when the newest audio would have come
        self._since = now  # when the oldest that waits came
        self._waits = False

    def receive(self, seconds: float, now: float) -> None:
        """Take note of audio that comes."""
        self._newest = max(self._newest, now - min(seconds, BURST)) + seconds
        if not self._waits:
            self._since, self._waits = now, True

    def catch_up(self, now: float) -> None:
        """Take note that nothing waits any more.

        What was ahead has found time that nobody needed, and what comes next is urgent again.
        """
        self._newest = min(self._newest, now)
        self._waits = False

    def due(self, behind: float) -> float:
        """Return when work is due on the audio that lies so many seconds before the newest."""
        return max(self._newest - behind, self._since) + self._later


W_co = TypeVar("W_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Waiting(Generic[W_co]):
    """A piece of work that waits."""

    work: W_co
    due: float
    """Since when it waits; in the future for what came ahead of real time."""

    def urgent(self, now: float) -> bool:
        """Return whether it is not, or hardly, ahead of real time at an instant."""
        return self.due <= now + BURST


def next_windows(waiting: Sequence[Waiting[W_co]], now: float, *, most: int, extra: int) -> list[Waiting[W_co]]:
    """Choose the next batch of windows: what is urgent, the oldest first, then up to `extra` ahead of time.

    There are at most `most` in it. When nothing is urgent, at least one goes ahead of its time.
    """
    ordered = sorted(waiting, key=lambda item: item.due)
    urgent = sum(item.urgent(now) for item in ordered)
    return ordered[: min(urgent + max(extra, 0 if urgent else 1), most)]


def without(waiting: Sequence[Waiting[W_co]], chosen: Sequence[Waiting[W_co]]) -> list[Waiting[W_co]]:
    """Return what still waits when some has been chosen."""
    taken = {id(item) for item in chosen}
    return [item for item in waiting if id(item) not in taken]


class Frames(Protocol):
    """What the schedule has to know of a round of voice activity."""

    @property
    def frames(self) -> int:
        """How many frames of a session are to be judged."""


F = TypeVar("F", bound=Frames)


def next_frames(waiting: Sequence[Waiting[F]], seconds: float, budget: float) -> list[Waiting[F]]:
    """Choose the next round of voice activity: the oldest first, as many as fit the budget, but at least one.

    `seconds` is what one frame costs.
    """
    chosen: list[Waiting[F]] = []
    frames = 0
    for item in sorted(waiting, key=lambda item: item.due):
        frames += item.work.frames
        if chosen and frames * seconds > budget:
            break
        chosen.append(item)
    return chosen


class Pass(Protocol):
    """What the schedule has to know of a final pass."""

    @property
    def better(self) -> bool:
        """Whether its utterance can do without it."""

    @property
    def refines(self) -> bool:
        """Whether it is not for a final, but for partials."""

    @property
    def decided(self) -> bool:
        """Whether its utterance has ended."""

    @property
    def rows(self) -> int:
        """Rows of features that it is over."""


P = TypeVar("P", bound=Pass)


class Rank(IntEnum):
    """How urgent a pass is."""

    DUE = auto()
    """Its utterance has ended."""
    SPECULATIVE = auto()
    """It is over a pause in which speech may go on."""
    DUE_BETTER = auto()
    """Its utterance has ended, but can do without it."""
    SPECULATIVE_BETTER = auto()
    REFINEMENT = auto()
    """It refines partials."""
    AHEAD = auto()
    """Its utterance has ended, ahead of real time. Nobody waits for its final to the tenth of a second."""
    AHEAD_SPECULATIVE = auto()
    """It is over a pause, ahead of real time: what comes next will show whether the pass is needed."""
    AHEAD_BETTER = auto()
    AHEAD_SPECULATIVE_BETTER = auto()

    @property
    def needed(self) -> bool:
        """Whether somebody needs the pass for certain."""
        return self in (Rank.DUE, Rank.AHEAD, Rank.AHEAD_BETTER)


def rank(item: Waiting[P], now: float) -> Rank:
    """Return how urgent a pass is at an instant."""
    if item.work.refines:
        return Rank.REFINEMENT
    first = Rank.DUE if item.urgent(now) else Rank.AHEAD
    return Rank(first + 2 * item.work.better + (not item.work.decided))


def next_passes(alike: Sequence[Waiting[P]], *, most_rows: int) -> list[Waiting[P]]:
    """Choose the next batch of full-context passes from those of the same rank: the oldest, and others like it.

    The others have about the same length: every pass in the batch is at least half as long as the longest. The batch
    has at most `most_rows` rows, padding included, unless the first pass alone has more.
    """
    first, *others = sorted(alike, key=lambda item: item.due)
    batch = [first]
    shortest = longest = first.work.rows
    for item in others:
        rows = item.work.rows
        low, high = min(shortest, rows), max(longest, rows)
        if 2 * low >= high and high * (len(batch) + 1) <= most_rows:
            batch.append(item)
            shortest, longest = low, high
    return batch


def steps_per_piece(
    rows: int, seconds: float, budget: float, compute: Compute = "mlx", *, crowded: bool = False
) -> int:
    """Return how many steps of a pass of so many rows make a piece, so that slices end close to their budget.

    `seconds` is what one row costs in one step. Where a large batch takes about as long as a small one (`crowded`),
    so does a piece: it is as long as a slice.
    """
    pieces = 1 if crowded else _PIECES[compute]
    return max(1, int(budget / pieces / max(rows * seconds, 1e-9)))


def most_rows(seconds: float, budget: float) -> int:
    """Return the rows of a batch of passes of which one step fills a slice, if a row costs so many seconds in it."""
    return int(budget / max(seconds, 1e-9))


def slice_budget(budget: float, *, windows: float, waits: float, load: float = 1.0) -> float:
    """Return the seconds of a slice.

    A pass that waits too long shows that windows leave no time. It then gets as much as they got: they wait in larger
    batches, which cost less for each window, so there is more time for both. Where there is plenty of time, batches
    need not be large, so nobody has to wait long for a slice to end.

    Args:
        budget: What a slice usually has.
        windows: What the batch of windows before it took.
        waits: For how long the oldest pass over an utterance that has ended has been waiting.
        load: Share of the time that goes to audio in real time.
    """
    if waits > PATIENCE:
        return max(budget, windows)
    return budget / 4 if load < ROOM else budget


class Slice:
    """Time for work that is less urgent than windows: full-context passes and marks.

    It is over when the next piece, if it takes as long as the one before, would exceed the budget. At least one
    piece always fits, so that everything progresses.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._spent = 0.0
        self._last = 0.0

    @property
    def over(self) -> bool:
        """Whether no further piece fits."""
        return self._spent > 0 and self._spent + self._last > self._budget

    def spend(self, seconds: float) -> None:
        """Take note of a piece."""
        self._spent += seconds
        self._last = seconds
