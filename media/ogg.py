"""Take the sound out of Ogg as it comes (RFC 3533): Opus (RFC 7845) and Vorbis, also several files in a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from parastream.media.decoding import SourceError
from parastream.media.packets import Codec, opus, vorbis

MAGIC = b"OggS"
_HEAD = 27
_LARGEST = 1 << 20
"""Bytes of a packet."""
_CONTINUED, _FIRST, _LAST = 1, 2, 4  # flags of a page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggDemuxer:
    """Yields the packets of the first stream with sound. See `Demuxer`."""

    def __init__(self) -> None:
        self._held = b""
        self._serial: bytes | None = None  # of the stream
        self._over = True  # it has ended, or none has begun
        self._sequence = 0  # number of its next page
        self._packet = b""  # the beginning of one that goes on
        self._headers: list[bytes] = []
        self._wanted = 0  # headers
        self._others = ""  # what streams were that cannot be decoded

    def push(self, data: bytes) -> Iterator[Codec | bytes]:
        """See `Demuxer.push`."""
        self._held += data
        while (page := self._next()) is not None:
            yield from self._read(page)

    def _next(self) -> bytes | None:
        """Take a page; None while more bytes are needed."""
        if self._held[:4] != MAGIC[: len(self._held)]:
            raise SourceError("damaged Ogg (no page where one has to begin)")
        if len(self._held) < _HEAD:
            return None
        begin = _HEAD + self._held[26]
        size = begin + sum(self._held[_HEAD:begin])
        if len(self._held) < size or len(self._held) < begin:
            return None
        page, self._held = self._held[:size], self._held[size:]
        if _checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            raise SourceError("damaged Ogg (a page with a wrong checksum)")
        return page

    def _read(self, page: bytes) -> Iterator[Codec | bytes]:
        flags, serial, sequence = page[5], page[14:18], int.from_bytes(page[18:22], "little")
        begin = _HEAD + page[26]
        if flags & _FIRST and (self._over or serial == self._serial):
            self._choose(serial, page[begin:])
        if serial != self._serial:
            if self._serial is None and not flags & _FIRST:
                raise SourceError(f"the sound in this Ogg is {self._others or 'unknown'}; allowed: Opus, Vorbis")
            return
        if flags & _FIRST:
            self._sequence = sequence
        if sequence != self._sequence:
            raise SourceError("damaged Ogg (a page is missing)")
        self._sequence += 1
        self._over = bool(flags & _LAST)
        for packet in self._packets(page, begin, continued=bool(flags & _CONTINUED)):
            if self._wanted:
                self._headers.append(packet)
                self._wanted -= 1
                if not self._wanted:
                    yield vorbis(self._headers) if len(self._headers) == 3 else opus(self._headers[0])
            elif packet:
                yield packet

    def _choose(self, serial: bytes, packet: bytes) -> None:
        """Take the stream that begins with a packet, if it can be decoded."""
        headers = 2 if packet.startswith(b"OpusHead") else 3 if packet.startswith(b"\x01vorbis") else 0
        if not headers:
            self._others = repr(bytes(packet[:8]))
            return
        self._serial, self._wanted, self._headers, self._packet = serial, headers, [], b""

    def _packets(self, page: bytes, begin: int, *, continued: bool) -> Iterator[bytes]:
        if not continued:
            self._packet = b""
        place = begin
        for size in page[_HEAD:begin]:
            self._packet += page[place : place + size]
            place += size
            if len(self._packet) > _LARGEST:
                raise SourceError("damaged Ogg (a packet without an end)")
            if size < 255:
                packet, self._packet = self._packet, b""
                yield packet


def _checksum(page: bytes) -> int:
    """Return Ogg's checksum: a CRC-32 like zlib's, but with the bits in the other order, and without inversions."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
