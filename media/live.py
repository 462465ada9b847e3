"""What decodes audio of any kind as its bytes come, with as little delay as its packets allow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import av
from av.error import FFmpegError
from numpy.typing import NDArray
from parastream.media import mp4, ogg, webm
from parastream.media.containers import mp3_seconds, tag_length
from parastream.media.decoding import Damage, Recording, Source, SourceError
from parastream.media.frames import FrameShape, is_exact
from parastream.media.mp4 import Mp4Demuxer
from parastream.media.ogg import OggDemuxer
from parastream.media.packets import Codec, Demuxer
from parastream.media.webm import WebmDemuxer

_PIECE = 1 << 16
_MAGIC = 8
"""Bytes by which each kind is known."""


def is_encoded(head: bytes) -> bool | None:
    """Return whether bytes begin as audio does that says itself what it is; None while they are too few to tell."""
    if _demuxer(head) is not None or mp4.begins(head):
        return True
    return None if len(head) < _MAGIC else False


def open_sound(source: Source, *, live: bool) -> Live | Recording:
    """Return what decodes a source, once enough of its bytes have come.

    Args:
        source: gives the bytes.
        live: whether sound is wanted as soon as its bytes have come. Not all kinds can do that.

    Raises:
        SourceError: they cannot be read as audio.
    """
    head = b""
    while len(head) < _MAGIC and (data := source.read(_PIECE)):
        head += data
    demuxer = _demuxer(head) if live else None
    if live and mp4.begins(head):
        while (in_fragments := mp4.comes_in_fragments(head)) is None and (data := source.read(_PIECE)):
            head += data
        demuxer = Mp4Demuxer() if in_fragments else None
    joined = _Joined(head, source)
    return Recording(joined) if demuxer is None else Live(joined, demuxer)


def _demuxer(head: bytes) -> Demuxer | None:
    """Return what takes audio apart that begins with these bytes; None if only FFmpeg can."""
    if head.startswith(webm.MAGIC):
        return WebmDemuxer()
    if head.startswith(ogg.MAGIC):
        return OggDemuxer()
    if head.startswith(b"fLaC"):
        return _Parser("flac")
    if head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] and head[1] & 0xE6 == 0xE2):
        return _Parser("mp3")
    if head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        return _Parser("aac")
    return None


class _Joined:
    """Bytes that were read before, and those that follow."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int) -> bytes:
        """See `Source.read`."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


class _Parser:
    """Cuts audio into packets whose packets follow one another without a container. See `Demuxer`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser: Any = av.CodecContext.create(name, "r")
        self._begun = self._fed = False
        self._held = b""  # at the beginning: a tag, or the header of FLAC

    def push(self, data: bytes) -> Iterator[Codec | bytes]:
        """See `Demuxer.push`; no bytes are the end."""
        ended = not data
        if not self._begun:
            self._held += data
            begin = self._beginning()
            if begin is None:
                return
            self._begun = True
            data, self._held = self._held[begin:], b""
            yield Codec(self._name)
        if data:
            self._fed = True
            for packet in map(bytes, self._parser.parse(data)):
                if self._name != "mp3" or mp3_seconds(packet) is None:  # which comes before the sound
                    yield packet
        if ended and self._fed:  # the parser of FLAC crashes if there was nothing before the end
            while packets := self._parser.parse(b""):
                yield from map(bytes, packets)

    def _beginning(self) -> int | None:
        """Return where the first packet begins; None while that is not known."""
        held = self._held
        if self._name != "flac":
            begin = 0
            while held.startswith(b"ID3", begin):
                begin += tag_length(held[begin : begin + 10]) or 10  # the head of a tag says how long it is
            return begin if begin <= len(held) else None
        place, last = 4, False
        while not last:
            if len(held) < place + 4:
                return None
            last = bool(held[place] & 0x80)
            place += 4 + int.from_bytes(held[place + 1 : place + 4], "big")
        return place if len(held) >= place else None


class Live:
    """Sound as it comes. See `Sound`."""

    def __init__(self, source: Source, demuxer: Demuxer) -> None:
        """Wait for the first sound.

        Raises:
            SourceError: there is none that can be decoded.
        """
        self.damage = Damage()
        self._source = source
        self._demuxer = demuxer
        self._seconds = 0.0
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise SourceError("the audio: there is no sound in it")
        self.rate: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        self._all = itertools.chain([first], frames)
        self._shape = FrameShape(self.rate, self.channels, is_exact(first.format))

    def close(self) -> None:
        """Nothing is open."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """See `Sound.blocks`.

        Raises:
            SourceError: what follows is damaged.
        """
        for frame in self._all:
            try:
                yield self._shape.convert(frame)
            except ValueError as error:
                raise self._damaged(str(error)) from error
        yield self._shape.finish()

    def _frames(self) -> Iterator[av.AudioFrame]:
        codec: Any = None
        for item in self._items():
            if isinstance(item, Codec):
                if codec is not None:
                    yield from self._decode(codec, None)
                codec = _decoder(item)
                continue
            for frame in self._decode(codec, av.Packet(item)):
                self._seconds += frame.samples / frame.sample_rate
                yield frame
        if codec is not None:
            yield from self._decode(codec, None)

    def _items(self) -> Iterator[Codec | bytes]:
        while True:
            data = self._source.read(_PIECE)
            if data or isinstance(self._demuxer, _Parser):
                try:
                    yield from self._demuxer.push(data)
                except SourceError as error:
                    raise self._damaged(str(error)) from error
            if not data:
                return

    def _decode(self, codec: Any, packet: av.Packet[Any] | None) -> Iterator[av.AudioFrame]:
        try:
            yield from codec.decode(packet)
        except (FFmpegError, ValueError) as error:
            if packet is None or not tag_length(bytes(packet)):
                raise self._damaged("it cannot be decoded") from error

    def _damaged(self, what: str) -> SourceError:
        return SourceError(f"damaged audio at {self._seconds:.1f} s ({what})")


def _decoder(codec: Codec) -> Any:
    context: Any = av.CodecContext.create(codec.name, "r")
    if codec.extradata:
        context.extradata = codec.extradata
    if codec.rate:
        context.sample_rate = codec.rate
        context.layout = f"{codec.channels} channels"
    if codec.name == "flac":
        context.options = {"err_detect": "crccheck+explode"}  # otherwise a damaged frame becomes noise
    return context
