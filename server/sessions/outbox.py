"""Events of one session on their way to its client: numbered, in order, replayable, and bounded."""

from __future__ import annotations

import msgspec
from parastream.server.wire.messages import Event, Final, Partial
from parastream.server.wire.refusals import RefusalError


class Outbox:
    """Numbers events from 1 and keeps them until a client that resumes cannot ask for them any more.

    A partial gives way to a newer partial or the final of its utterance, sent or not, so a slow or resuming
    client gets only the newest; every other event is kept in order. `limit` bounds the events that wait, and
    apart from those the ones that are kept after they were sent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[int, Event] = {}  # by seq, in order
        self._sent: dict[int, Event] = {}
        self._partials: dict[int, int] = {}  # utterance -> seq of its one partial
        self._last = 0
        self._forgotten = 0  # events up to this one cannot be replayed any more

    def add(self, event: Event) -> None:
        """Number an event and put it at the end."""
        if isinstance(event, Partial | Final):
            outdated = self._partials.pop(event.utterance, 0)
            self._waiting.pop(outdated, None)
            self._sent.pop(outdated, None)
        self._last += 1
        self._waiting[self._last] = msgspec.structs.replace(event, seq=self._last)
        if isinstance(event, Partial):
            self._partials[event.utterance] = self._last

    def take(self) -> Event | None:
        """The next event to send, or None. It is kept for a replay."""
        if not self._waiting:
            return None
        seq = next(iter(self._waiting))
        event = self._sent[seq] = self._waiting.pop(seq)
        if len(self._sent) > self._limit:
            self._forgotten = next(iter(self._sent))
            del self._sent[self._forgotten]
        return event

    def rewind(self, received: int) -> None:
        """Take up after event `received` of a client that lost its connection: what follows it waits again.

        Raises:
            RefusalError: there is no such event, or events after it are not kept any more.
        """
        if not self._forgotten <= received <= self._last:
            raise RefusalError(
                "unknown_session",
                f"cannot go on after event {received}; possible are {self._forgotten} to {self._last}",
            )
        self._waiting = {seq: event for seq, event in (self._sent | self._waiting).items() if seq > received}
        self._sent = {}
        self._forgotten = received

    def clear(self) -> None:
        """Drop everything that waits."""
        self._waiting = {}

    @property
    def overflowing(self) -> bool:
        """Whether more events wait than the limit allows."""
        return len(self._waiting) > self._limit
