"""The streaming protocol of sherpa-onnx (`sherpa-onnx-online-websocket-server`, port 6006; here also at `/sherpa`).

A client sends binary float32 little-endian samples at 16 kHz and then the text `Done`. It gets JSON for each change of
a segment, and then `Done!`, after which the server closes the connection (as the Python server does; the C++ one leaves
that to the client).

Segments are utterances. `text` is all of a segment so far: unpunctuated while it lasts (`is_final` false), then its
final text, once. `segment` counts up from 0 without gaps, and a segment is sent only after the one before it is final.
The other fields are those of the C++ server: `tokens` are words, with the spaces that join them, `timestamps` their
beginnings in seconds after `start_time`, and `ys_probs` the logarithms of their confidences; `lm_probs`,
`context_scores` and `words` are empty. `is_eof` is left out, as `Done!` says the same.

The server refuses any other text than `Done`, and audio after it: the segments so far become final, then `{"error":…}`
with an empty `text` comes in the place of `Done!`. Then the connection is closed with the code of the native protocol.
"""

from __future__ import annotations

import math
from typing import ClassVar

from msgspec import Struct
from parastream.server.protocols.base import Adapter, Admits, OneByOne, Request, spelled
from parastream.server.sessions.transcription import Transcription
from parastream.server.wire.messages import Done, ErrorCode, Event, Final, Start, Word
from parastream.server.wire.refusals import RefusalError, quoted

DONE = "Done"
"""What the client says at the end."""
GOODBYE = "Done!"
"""What the server answers."""
_START = Start(format="f32le")


class Segment(Struct, frozen=True, kw_only=True):
    """A segment so far, or finally."""

    text: str
    tokens: tuple[str, ...]
    timestamps: tuple[float, ...]
    ys_probs: tuple[float, ...]
    lm_probs: tuple[float, ...] = ()
    context_scores: tuple[float, ...] = ()
    segment: int
    words: tuple[int, ...] = ()
    start_time: float
    is_final: bool


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was refused, and what is allowed, in the form of a last segment."""

    text: str
    segment: int
    is_final: bool
    error: str
    code: ErrorCode
    allowed: tuple[str, ...] = ()


ServerMessage = Segment | Failure


class Sherpa(Adapter):
    """One connection of a client of sherpa-onnx."""

    patience: ClassVar[float] = 10.0

    def __init__(self, admission: Admits, request: Request, *, name: str = "", max_unsent: int = 256) -> None:
        super().__init__(admission, request, name=name, max_unsent=max_unsent)
        self._transcription: Transcription | None = None
        self._order = OneByOne()
        self._segment = 0  # the one that is not final yet
        self._said = False  # whether the client knows of any segment
        self._done = False  # whether the client is

    def receive_text(self, text: str) -> None:
        """Take the end. See `Adapter.receive_text`."""
        if text.strip() != DONE:
            raise RefusalError("unexpected_message", f"text {quoted(text)}", (DONE,))
        if self._done:
            return
        self._done = True
        if self._transcription is None:
            self._finish_segments()
        else:
            self._transcription.end()

    def receive_audio(self, data: bytes) -> None:
        """See `Adapter.receive_audio`."""
        if self._done:
            raise RefusalError("unexpected_message", f"audio after `{DONE}`")
        if self._transcription is None:
            self._transcription = self.begin(_START)
        self._transcription.send(data)

    def apply(self, transcription: Transcription, event: Event) -> None:
        """See `Adapter.apply`."""
        for told in self._order.order(event):
            text = told.text if isinstance(told, Final) else told.stable + told.draft
            self._tell(text, told.words, told.start, final=isinstance(told, Final))
        if isinstance(event, Done):
            self._finish_segments()

    def _tell(self, text: str, words: tuple[Word, ...], start: float, *, final: bool) -> None:
        self._said = True
        segment = Segment(
            text=text,
            tokens=tuple(spelled(text, words)),
            timestamps=tuple(round(max(word.start - start, 0.0), 3) for word in words),
            ys_probs=tuple(round(math.log(max(word.confidence, 1e-4)), 4) for word in words),
            segment=self._segment,
            start_time=start,
            is_final=final,
        )
        self.send(segment, replaces=self._segment)
        if final:
            self._segment += 1

    def _finish_segments(self) -> None:
        if not self._said:
            self._tell("", (), 0.0, final=True)
        self.send(GOODBYE)
        self.close()

    def report(self, refusal: RefusalError) -> None:
        """See `Adapter.report`."""
        self.send(
            Failure(
                text="",
                segment=self._segment,
                is_final=True,
                error=refusal.message,
                code=refusal.code,
                allowed=refusal.allowed,
            )
        )
