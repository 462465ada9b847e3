"""What can go wrong for a client.

ClientError
├── ServerError            the server refused something or ended the session
└── ConnectionFailedError  there is no connection: none could be made, or it broke and the session is gone
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of the errors of the client."""


class ServerError(ClientError):
    """The server refused something or ended the session."""

    def __init__(self, code: str, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(code, message, allowed)
        self.code = code
        """One of the error codes of docs/protocol.md."""
        self.message = message
        self.allowed = allowed
        """The possible values or names, where the server can list them."""

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f" (allowed: {', '.join(self.allowed)})" if self.allowed else "")


class ConnectionFailedError(ClientError):
    """There is no connection: none could be made, or it broke and the session could not be resumed."""
