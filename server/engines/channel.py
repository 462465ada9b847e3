"""What a front and an engine's process say to each other, and how it crosses the socket between them.

A frame is its length (4 bytes, little-endian, itself not included), a kind (1 byte) and a body. Audio has a kind of
its own: the number of the stream (4 bytes) and the bytes as they came. All else is a message in MessagePack.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

import msgspec
from parastream.model.hotwords import Hotwords
from parastream.model.replacements import Replacements
from parastream.server.config import ServerConfig
from parastream.streaming import EngineStats, SessionConfig
from parastream.streaming.events import Event
from parastream.streaming.observer import FinalTiming, PartialTiming, Turn
from parastream.streaming.replay import Replay
from parastream.streaming.runner import Listener

_HEAD = struct.Struct("<IB")
_STREAM = struct.Struct("<I")
_AUDIO, _MESSAGE = 0, 1

Observation = Turn | PartialTiming | FinalTiming
"""What an engine tells its observers."""


class Setup(msgspec.Struct, tag=True, array_like=True):
    """The first message to an engine: what it is."""

    config: ServerConfig
    offline: bool
    place: int
    """Its number among the engines, from 0."""


class Open(msgspec.Struct, tag=True, array_like=True):
    """Begin a session, or go on with one of another engine."""

    stream: int
    config: SessionConfig
    name: str
    replay: Replay


class Flush(msgspec.Struct, tag=True, array_like=True):
    """End the open utterance of a stream."""

    stream: int


class Expect(msgspec.Struct, tag=True, array_like=True):
    """Listen for other hotwords in a stream."""

    stream: int
    hotwords: Hotwords


class End(msgspec.Struct, tag=True, array_like=True):
    """End the input of a stream."""

    stream: int


class Cancel(msgspec.Struct, tag=True, array_like=True):
    """Drop a stream."""

    stream: int


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The engine's models are warm."""

    model: str
    languages: tuple[str, ...]
    listeners: tuple[Listener, ...]
    device: str
    blas: str
    stats: EngineStats


class Failed(msgspec.Struct, tag=True, array_like=True):
    """The engine could not begin, or has failed; its process ends."""

    reason: str


class Stats(msgspec.Struct, tag=True, array_like=True):
    """How the engine is."""

    stats: EngineStats


class Refused(msgspec.Struct, tag=True, array_like=True):
    """A stream could not be opened."""

    stream: int
    code: str
    reason: str


class Told(msgspec.Struct, tag=True, array_like=True):
    """Events of a stream, each with its place in `_TOLD`."""

    stream: int
    events: list[tuple[int, msgspec.Raw]]


class Observed(msgspec.Struct, tag=True, array_like=True):
    """Something for observers, with its place in `_TOLD`."""

    kind: int
    what: msgspec.Raw


ToEngine = Setup | Open | Flush | Expect | End | Cancel
FromEngine = Ready | Failed | Stats | Refused | Told | Observed

_TOLD: tuple[type[Any], ...] = (*get_args(Event), *get_args(Observation))
_PLACES = {kind: place for place, kind in enumerate(_TOLD)}


def _plain(value: Any) -> list[str]:
    """Return how rules cross, all that is said here and that MessagePack does not know."""
    assert isinstance(value, Replacements)
    return value.lines


def _read(kind: type[Any], plain: list[str]) -> Replacements:
    """Undo `_plain`."""
    assert kind is Replacements
    return Replacements.of(plain)


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoders = [msgspec.msgpack.Decoder(kind) for kind in _TOLD]


def told(stream: int, events: Sequence[Event]) -> Told:
    """Return the message that tells of a stream's events."""
    return Told(stream, [_packed(event) for event in events])


def events_of(message: Told) -> list[Event]:
    """Return the events that a message tells of."""
    return [_decoders[kind].decode(packed) for kind, packed in message.events]


def observed(what: Observation) -> Observed:
    """Return the message for observers."""
    return Observed(*_packed(what))


def observation(message: Observed) -> Observation:
    """Return what a message tells observers."""
    return cast(Observation, _decoders[message.kind].decode(message.what))


def _packed(value: Event | Observation) -> tuple[int, msgspec.Raw]:
    return _PLACES[type(value)], msgspec.Raw(_encoder.encode(value))


class Channel(asyncio.Protocol):
    """One end of the socket. Whoever sends bounds what waits: audio by its sessions' backlogs, events by the audio."""

    def __init__(
        self,
        receives: Any,
        on_message: Callable[[Any], None],
        on_audio: Callable[[int, bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Make the protocol of a connection.

        Args:
            receives: `ToEngine` or `FromEngine`: the messages that come.
            on_message: Called with each.
            on_audio: Called with the number of a stream and bytes of audio.
            on_lost: Called when the other end is gone; everything that it sent has been told before.
        """
        self._decoder = msgspec.msgpack.Decoder(receives, dec_hook=_read)
        self._on_message = on_message
        self._on_audio = on_audio
        self._on_lost = on_lost
        self._unread = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the other end is gone."""
        self._transport = None
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Hand out the frames that are complete."""
        unread = self._unread
        unread += data
        at = 0
        while len(unread) - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(unread, at)
            end = at + _HEAD.size + length
            if len(unread) < end:
                break
            body = bytes(memoryview(unread)[at + _HEAD.size : end])
            at = end
            if kind == _AUDIO:
                self._on_audio(_STREAM.unpack_from(body)[0], body[_STREAM.size :])
            else:
                self._on_message(self._decoder.decode(body))
        del unread[:at]

    def send(self, message: ToEngine | FromEngine) -> None:
        """Send a message; to an end that is gone, nothing is sent."""
        body = _encoder.encode(message)
        self._write(_HEAD.pack(len(body), _MESSAGE) + body)

    def send_audio(self, stream: int, data: bytes) -> None:
        """Send bytes of a stream's audio."""
        self._write(b"".join((_HEAD.pack(_STREAM.size + len(data), _AUDIO), _STREAM.pack(stream), data)))

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        """Close the socket once everything has been sent."""
        if self._transport is not None:
            self._transport.close()
