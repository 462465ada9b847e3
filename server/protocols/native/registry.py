"""The sessions of the native protocol by name: lookup for a resume, and the end of those that nobody resumes."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable

from parastream.server.protocols.native.session import NativeSession
from parastream.server.sessions.admission import Admission
from parastream.server.wire.messages import Start
from parastream.server.wire.refusals import RefusalError

logger = logging.getLogger("parastream.server")


class Registry:
    """Sessions by name. One that lost its connection stays for `resume_window` seconds."""

    def __init__(
        self,
        admission: Admission,
        clock: Callable[[], float],
        *,
        resume_window: float,
        max_unsent: int,
        instance: str = "",
    ) -> None:
        """Make an empty one; `max_unsent` is that of `NativeSession`, `clock` gives seconds."""
        self.admission = admission
        self.instance = instance
        """Name of the server, with which the names of sessions begin."""
        admission.make_room = self.make_room
        admission.spare = lambda: len(self._expiries)
        self.on_reschedule: Callable[[], None] = lambda: None
        """Called when `tick` is wanted earlier than it said."""
        self._clock = clock
        self._resume_window = resume_window
        self._max_unsent = max_unsent
        self._closed = False
        self._sessions: dict[str, NativeSession] = {}
        self._expiries: dict[str, float] = {}  # in the order in which they come

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, start: Start) -> NativeSession:
        """Begin a session, under a name that nobody can guess. Raises `RefusalError`."""
        secret = secrets.token_urlsafe(24)
        name = f"{self.instance}.{secret}" if self.instance else secret
        session = NativeSession(
            name,
            start,
            self.admission.begin,
            max_unsent=self._max_unsent,
            opened=self._clock(),
            expected=self.admission.expected,
        )
        self._sessions[name] = session
        return session

    def resume(self, name: str, received: int) -> NativeSession:
        """Return a session to go on with on a new connection, the events after `received` waiting to be sent.

        Raises:
            RefusalError: there is no such session, or it cannot go on from there.
        """
        session = self._sessions.get(name)
        if session is None:
            raise RefusalError(
                "unknown_session",
                f"there is no such session; it ended, or its connection broke more than {self._resume_window:g} s ago",
            )
        session.rewind(received)
        self._expiries.pop(name, None)
        self.admission.count_resume()
        return session

    def release(self, session: NativeSession) -> None:
        """Note that a session's connection broke."""
        if self._closed:
            self.remove(session)
            return
        self._expiries[session.name] = self._clock() + self._resume_window
        self.on_reschedule()

    def remove(self, session: NativeSession) -> None:
        """Forget a session: nobody waits for what it has not told yet."""
        self._expiries.pop(session.name, None)
        del self._sessions[session.name]
        session.transcription.leave()

    def make_room(self) -> bool:
        """Forget the session that has been without a connection for longest; False if there is none."""
        for name in self._expiries:
            logger.info("session %.8s: gives way to a new one, its connection being broken", name)
            self.remove(self._sessions[name])
            return True
        return False

    def close(self) -> None:
        """Forget the sessions whose connection broke, and wait for nobody any more."""
        self._closed = True
        for name in list(self._expiries):
            self.remove(self._sessions[name])

    def tick(self, now: float) -> float:
        """Forget the sessions that nobody came back to, and return when to look again."""
        for name, expiry in list(self._expiries.items()):
            if expiry > now:
                return expiry
            self.remove(self._sessions[name])
        return math.inf
