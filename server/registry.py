"""The open sessions of a server: admission, lookup for a resume, and the end of those that nobody resumes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from parastream.server.protocols.native import NativeSession, State
from parastream.server.refusal import RefusalError


class Registry:
    """Sessions by name. One that lost its connection stays for `resume_window` seconds. Every session that is
    removed, whatever the reason, is handed to `on_removed`.
    """

    def __init__(self, *, max_sessions: int, resume_window: float, on_removed: Callable[[NativeSession], None]) -> None:
        self._max_sessions = max_sessions
        self._resume_window = resume_window
        self._on_removed = on_removed
        self._sessions: dict[str, NativeSession] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def waiting(self) -> list[NativeSession]:
        """Sessions whose connection broke and which may be resumed."""
        return [self._sessions[name] for name in self._expiries]

    @property
    def connected(self) -> list[NativeSession]:
        """Sessions that have a connection."""
        return [session for name, session in self._sessions.items() if name not in self._expiries]

    def check_capacity(self) -> None:
        """Raises `RefusalError` when there is no room for another session."""
        working = sum(session.state is not State.ENDED for session in self._sessions.values())
        if working >= self._max_sessions:
            raise RefusalError(
                "capacity", f"all {self._max_sessions} sessions are in use; try again when one has ended"
            )

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
        """Forget a session; what it had not finished is dropped."""
        expiry = self._expiries.pop(session.name, None)
        if expiry is not None:
            expiry.cancel()
        del self._sessions[session.name]
        session.cancel()
        self._on_removed(session)
