"""Viewers of caption rooms, who only read."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from parastream.server.protocols.base import Ending, Handler
from parastream.server.rooms.rooms import Room, Rooms
from parastream.server.sessions.outbox import Outbox
from parastream.server.wire import messages
from parastream.server.wire.refusals import RefusalError


class Viewer(Handler):
    """One viewer of a room. A slow one delays nobody: a line's newest partial takes the place of the one before."""

    def __init__(
        self, rooms: Rooms, room: str, *, name: str, max_unsent: int, refuse: Callable[[str, RefusalError], None]
    ) -> None:
        """Wait for the connection to open.

        Args:
            rooms: where the room is.
            room: its name.
            name: for the log.
            max_unsent: messages that may wait for the viewer.
            refuse: is told of a viewer who is turned away, and why.
        """
        super().__init__(name)
        self._rooms = rooms
        self._room_name = room
        self._room: Room | None = None
        self._refuse = refuse
        self._outbox: Outbox[bytes] = Outbox(max_unsent)

    def start(self) -> None:
        """See `Handler`."""
        try:
            self._room = self._rooms.watch(self._room_name, self)
        except RefusalError as refusal:
            self._refuse(self.name, refusal)
            self.fail(refusal)

    @property
    def listening(self) -> bool:
        """Viewers say nothing."""
        return False

    def put(self, key: Hashable, text: bytes) -> None:
        """See `rooms.Screen`."""
        if self._ending is not None:
            return
        self._outbox.put(text, key=key)
        if self._outbox.overflowing:
            self.abort(RefusalError("slow_client", "too many lines wait for the client to read them"))
        self.on_change()

    def take(self) -> bytes | None:
        """See `Handler`."""
        taken = self._outbox.take()
        return None if taken is None else taken[1]

    def receive(self, data: str | bytes) -> None:
        """See `Handler`."""
        self.fail(RefusalError("unexpected_message", "rooms are read-only: viewers send nothing"))

    def fail(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if self._ending is None:
            self._ending = Ending(refusal.close_code, refusal.close_reason)
            self._outbox.put(messages.encode(refusal.error))
            self.on_change()

    def abort(self, refusal: RefusalError) -> None:
        """See `Handler`."""
        if self._ending is None:
            self._outbox.clear()
            self._aborted = True
            self.fail(refusal)

    def lost(self, *, finished: bool, why: str) -> None:
        """See `Handler`."""
        if self._room is not None:
            self._room.leave(self)
