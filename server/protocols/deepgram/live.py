"""What `/v1/listen` and `/v2/listen` have in common: the query says what is wanted, then audio comes in."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from parastream.server.protocols.base import Adapter, Admits, Request
from parastream.server.protocols.deepgram.messages import BadRequest
from parastream.server.protocols.deepgram.options import found_format, is_known
from parastream.server.protocols.wav import WavInput
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Error
from parastream.server.wire.refusals import RefusalError
from parastream.streaming import AudioFormat


class Live(Adapter):
    """One connection of a Deepgram client that sends audio as it comes."""

    subprotocols: ClassVar[tuple[str, ...]] = ("token", "bearer")

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._request_id = str(uuid.uuid4())
        self._transcription: Transcription | None = None
        self._wav = WavInput()
        self._beginning = b""  # of audio while it is not known what it is
        self._closing = False

    @classmethod
    def headers_of(cls, error: Error) -> Mapping[str, str]:
        """Tell the error in the headers, too: not every client can read the body. See `Adapter.headers_of`."""
        request_id = error.request_id if isinstance(error, BadRequest) else str(uuid.uuid4())
        text = RefusalError(error.code, error.message, error.allowed).explained
        return {"dg-error": text.encode("ascii", "backslashreplace").decode(), "dg-request-id": request_id}

    @property
    @abstractmethod
    def _format(self) -> AudioFormat | None:
        """What the query says the audio is; None: the audio says it itself."""

    @abstractmethod
    def _begin(self, audio: AudioFormat | None) -> Transcription:
        """Begin the transcription of audio, which says itself what it is if that is None."""

    @abstractmethod
    def _end_unheard(self) -> None:
        """End a connection on which no audio could be understood."""

    @property
    def listening(self) -> bool:
        """Whether the client may send more."""
        return super().listening and not self._closing

    def receive_audio(self, data: bytes) -> None:
        """Take audio; an empty message ends it. See `Adapter.receive_audio`."""
        if not data:
            self._close_stream()
            return
        transcription = self._transcription
        if self._format is None:
            data = self._wav.push(data)
            if transcription is None:
                data = self._beginning = self._beginning + data
                if not is_known(self._wav, data):
                    return
                self._beginning = b""
                transcription = self._begin(found_format(self._wav, data))
        if transcription is not None and data:
            transcription.send(data)

    def _close_stream(self) -> None:
        self._closing = True
        if self._transcription is None:
            self._end_unheard()
        else:
            self._transcription.end()
