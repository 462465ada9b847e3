"""Messages on their way to one client: in order, bounded, and without those that a newer one has made pointless."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from parastream.server.wire.refusals import RefusalError

M = TypeVar("M")

_MOST_BYTES = 8 << 20
"""Of encoded messages that wait; a single one may be larger."""


class Outbox(Generic[M]):
    """A queue that numbers what is put into it, from 1.

    A message may have a key. It takes the place of the message with the same key before it: so a slow client gets the
    newest partial of an utterance, not all of them. `limit` bounds the messages that wait, and if they are encoded,
    their bytes are bounded, too.

    With `replay`, as many messages are kept after they have been sent, for a client that comes back on another
    connection and says which was the last that arrived.
    """

    def __init__(self, limit: int, *, replay: int = 0) -> None:
        self._limit = limit
        self._replay = replay
        self._waiting: dict[int, tuple[Hashable, M]] = {}  # by number, in order
        self._sent: dict[int, tuple[Hashable, M]] = {}
        self._newest: dict[Hashable, int] = {}  # number of the message that has a key
        self._bytes = 0  # of those that wait
        self._last = 0
        self._forgotten = 0  # messages up to this one cannot be sent again

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: M, *, key: Hashable = None) -> None:
        """Add a message at the end; an earlier one with the same key is dropped, whether it was sent or not."""
        self._last += 1
        if key is not None:
            replaced = self._newest.get(key, 0)
            if replaced in self._waiting:
                self._bytes -= _size(self._waiting.pop(replaced)[1])
            self._sent.pop(replaced, None)
            self._newest[key] = self._last
        self._waiting[self._last] = key, message
        self._bytes += _size(message)

    def take(self) -> tuple[int, M] | None:
        """Remove the next message to send and return it with its number; None when none waits."""
        if not self._waiting:
            return None
        number = next(iter(self._waiting))
        taken = self._sent[number] = self._waiting.pop(number)
        self._bytes -= _size(taken[1])
        if len(self._sent) > self._replay:
            self._forgotten = next(iter(self._sent))
            self._forget(self._forgotten, self._sent)
        return number, taken[1]

    def rewind(self, received: int) -> None:
        """Let everything after message `received`, the last one that arrived, wait to be sent again.

        Raises:
            RefusalError: there is no such message, or the messages after it are no longer kept.
        """
        if not self._forgotten <= received <= self._last:
            raise RefusalError(
                "unknown_session",
                f"cannot go on after event {received}; possible are {self._forgotten} to {self._last}",
            )
        for number in [number for number in self._sent if number <= received]:
            self._forget(number, self._sent)
        self._waiting = self._sent | self._waiting
        for number in [number for number in self._waiting if number <= received]:
            self._forget(number, self._waiting)
        self._sent = {}
        self._bytes = sum(_size(message) for _, message in self._waiting.values())
        self._forgotten = received

    def clear(self) -> None:
        """Drop everything that waits."""
        for number in list(self._waiting):
            self._forget(number, self._waiting)
        self._bytes = 0

    @property
    def overflowing(self) -> bool:
        """Whether more messages wait than the limit allows."""
        return len(self._waiting) > self._limit or (len(self._waiting) > 1 and self._bytes > _MOST_BYTES)

    def _forget(self, number: int, messages: dict[int, tuple[Hashable, M]]) -> None:
        key, _ = messages.pop(number)
        if self._newest.get(key) == number:
            del self._newest[key]


def _size(message: object) -> int:
    return len(message) if isinstance(message, bytes) else 0
