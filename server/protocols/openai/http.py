"""What OpenAI's clients ask for over plain HTTP: models, errors, and secrets of short life."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from parastream.server.protocols.base import Admits, Request
from parastream.server.protocols.openai.messages import SessionOptions
from parastream.server.protocols.openai.session import ClientError, changed, shown
from parastream.server.protocols.upload import Posted
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Error, Event
from parastream.server.wire.refusals import RefusalError, quoted

MODELS_PATH = "/v1/models"
DEFAULT_MODELS = ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
"""Names of OpenAI's that stand for the server's model."""

_TYPES = {
    "unauthorized": "authentication_error",
    "capacity": "server_error",
    "not_ready": "server_error",
    "shutting_down": "server_error",
    "internal": "server_error",
}
_LARGEST_BODY = 1 << 16
_LIFE, _LONGEST_LIFE = 600, 7200


def openai_error(error: Error, param: str | None = None) -> dict[str, dict[str, str | None]]:
    """Return the body of a response to a request that is refused; `param` is the field that was read when it was."""
    kind = _TYPES.get(error.code, "invalid_request_error")
    code = "model_not_found" if error.code == "unknown_model" else error.code
    message = RefusalError(error.code, error.message, error.allowed).explained
    blamed = None if kind == "server_error" else param
    return {"error": {"message": message, "type": kind, "param": blamed, "code": code}}


def model_names(model: str) -> tuple[str, ...]:
    """Return the names by which the server's model can be asked for."""
    return (model, *DEFAULT_MODELS)


def model_object(name: str) -> dict[str, object]:
    """Return what a list of models says of one."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "parastream"}


class ClientSecrets(Posted):
    """`POST /v1/realtime/client_secrets`: a secret with which a page may connect to `/v1/realtime`.

    The session that comes with it is checked and shown; the page has to ask for it again by `session.update`.
    """

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._body = b""

    @property
    def largest(self) -> int:
        """See `Posted.largest`."""
        return _LARGEST_BODY

    def receive_audio(self, data: bytes) -> None:
        """Take the body. See `Adapter`."""
        self._body += data

    def complete(self) -> None:
        """See `Posted.complete`."""
        asked = self._read()
        life = asked.expires_after.seconds
        if not 10 <= life <= _LONGEST_LIFE:
            raise RefusalError("invalid_message", f"`expires_after.seconds` is {life}; allowed: 10 to {_LONGEST_LIFE}")
        try:
            session = changed(SessionOptions(), {**asked.session, "type": "transcription"})
        except ClientError as error:
            raise RefusalError("invalid_message", error.message) from error
        expires = int(time.time()) + life
        secret = self.admission.make_secret(expires)
        self.reply({"value": secret, "expires_at": expires, "session": shown(f"sess_{secret[-16:]}", session)})

    def _read(self) -> _Asked:
        try:
            return msgspec.json.decode(self._body or b"{}", type=_Asked)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RefusalError("invalid_json", f"the body is no such request: {quoted(str(error))}") from error

    def apply(self, transcription: Transcription, event: Event) -> None:
        """Nothing is transcribed. See `Adapter`."""

    @classmethod
    def describe(cls, error: Error) -> object:
        """See `Posted.describe`."""
        return openai_error(error)


class _Expiry(msgspec.Struct, frozen=True):
    seconds: int = _LIFE


class _Asked(msgspec.Struct, frozen=True):
    expires_after: _Expiry = _Expiry()
    session: dict[str, Any] = {}
