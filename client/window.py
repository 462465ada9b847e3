"""The send window: what the server may not have yet, kept until it cannot be needed again."""

from __future__ import annotations

from collections import deque

from parastream.client.errors import ClientError
from parastream.server.wire.messages import Flush, SetHotwords

LARGEST_MESSAGE = 1 << 16
"""Bytes of audio in one message."""

Control = Flush | SetHotwords
"""Messages that take effect in their place between those with audio."""


class SendWindow:
    """What a session has accepted from its caller and the server has not acknowledged, in order. Does no I/O."""

    def __init__(self, limit: int) -> None:
        """Make an empty window.

        Args:
            limit: bytes of unacknowledged audio from which on the window counts as full.
        """
        self._limit = limit
        self._sent: deque[memoryview | Control] = deque()
        self._unsent: deque[memoryview | Control] = deque()
        self._flushes = 0  # that are known to have arrived
        self.accepted = 0
        """Bytes of audio taken so far."""
        self.acknowledged = 0
        """Bytes of audio that the server has for certain."""

    @property
    def full(self) -> bool:
        """Whether the caller should wait before it adds more audio."""
        return self.accepted - self.acknowledged >= self._limit

    def add_audio(self, data: bytes) -> None:
        """Put audio at the end, in messages of at most `LARGEST_MESSAGE` bytes."""
        view = memoryview(data)
        self._unsent.extend(view[first : first + LARGEST_MESSAGE] for first in range(0, len(view), LARGEST_MESSAGE))
        self.accepted += len(view)

    def add(self, message: Control) -> None:
        """Put another message at the end."""
        self._unsent.append(message)

    def take(self) -> memoryview | Control | None:
        """Return the next message to send, or None. It stays in the window as sent."""
        if not self._unsent:
            return None
        self._sent.append(self._unsent.popleft())
        return self._sent[-1]

    def acknowledge(self, total: int) -> None:
        """Forget sent messages that the server has: those within the first `total` bytes of the session."""
        while self._sent:
            first = self._sent[0]
            if isinstance(first, Control):
                if self.acknowledged >= total:
                    return  # it has arrived for certain when audio behind it has
                self._flushes += isinstance(first, Flush)
            elif self.acknowledged + len(first) > total:
                return
            else:
                self.acknowledged += len(first)
            self._sent.popleft()

    def rewind(self, total: int, flushes: int) -> int:
        """Begin to send again behind what the server has, and return how many sent bytes that repeats.

        Args:
            total: bytes of audio that the server has.
            flushes: flushes that the server has.

        Raises:
            ClientError: the server has less than it had acknowledged, or more than was sent.
        """
        sent = self.acknowledged + sum(len(piece) for piece in self._sent if not isinstance(piece, Control))
        if not self.acknowledged <= total <= sent:
            raise ClientError(
                f"the server has {total} bytes of audio; {sent} were sent, and it had acknowledged {self.acknowledged}"
            )
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        while self._unsent:
            first = self._unsent[0]
            missing = total - self.acknowledged
            if isinstance(first, Control):
                if not missing and self._flushes >= flushes:
                    break  # hotwords may be sent twice: the second time changes nothing
                self._flushes += isinstance(first, Flush)
            elif missing < len(first):
                self._unsent[0] = first[missing:]
                self.acknowledged = total
                break
            else:
                self.acknowledged += len(first)
            self._unsent.popleft()
        return sent - total
