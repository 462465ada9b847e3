"""The sessions of the native protocol by name: lookup for a resume, and the end of those that nobody resumes."""

from __future__ import annotations

import asyncio
import secrets

from parastream.server.protocols.native.handler import NativeSession
from parastream.server.wire.refusals import RefusalError


class Registry:
    """Sessions by name. One that lost its connection stays for `resume_window` seconds."""

    def __init__(self, *, resume_window: float) -> None:
        self._resume_window = resume_window
        self._sessions: dict[str, NativeSession] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def waiting(self) -> list[NativeSession]:
        """Sessions whose connection broke and which may be resumed."""
        return [self._sessions[name] for name in self._expiries]

    @staticmethod
    def new_name() -> str:
        """A name that nobody can guess."""
        return secrets.token_urlsafe(24)

    def add(self, session: NativeSession) -> None:
        """Take in a session that has a connection."""
        self._sessions[session.name] = session

    def resume(self, name: str, received: int) -> NativeSession:
        """Give a session to a new connection, with the events after `received` waiting in its outbox.

        Raises:
            RefusalError: there is no such session, or it cannot go on from there.
        """
        session = self._sessions.get(name)
        if session is None:
            raise RefusalError(
                "unknown_session",
                f"there is no such session; it ended, or its connection broke more than {self._resume_window:g} s ago",
            )
        session.outbox.rewind(received)
        expiry = self._expiries.pop(name, None)
        if expiry is not None:
            expiry.cancel()
        return session

    def release(self, session: NativeSession) -> None:
        """Note that a session's connection broke."""
        self._expiries[session.name] = asyncio.get_running_loop().call_later(self._resume_window, self.remove, session)

    def remove(self, session: NativeSession) -> None:
        """Forget a session: nobody waits for what it has not told yet."""
        expiry = self._expiries.pop(session.name, None)
        if expiry is not None:
            expiry.cancel()
        del self._sessions[session.name]
        session.transcription.leave()
