"""The one exception that becomes an `error` message: what a client may not do, and what it may."""

from __future__ import annotations

from parastream.server.messages import CLOSE_CODES, Error, ErrorCode


class RefusalError(Exception):
    """Something that the server refuses; `allowed` lists the possible values or names if there is a list."""

    def __init__(self, code: ErrorCode, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.allowed = allowed

    @property
    def error(self) -> Error:
        """The message for the client."""
        return Error(self.code, self.message, self.allowed)

    @property
    def close_code(self) -> int:
        """How the connection is closed after it."""
        return CLOSE_CODES[self.code]

    @property
    def close_reason(self) -> str:
        """For the close frame, which holds 123 bytes of UTF-8."""
        return f"{self.code}: {self.message}".encode()[:123].decode(errors="ignore")
