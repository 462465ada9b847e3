"""What the bytes of a recording say about its length and its end, where FFmpeg does not tell how it knows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

_MPEG1_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MPEG2_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_LONGEST_PADDING = 4096  # bytes of rubbish at the end of a file
_UNKNOWN_SIZE = 0x7FFFF000  # a writer that does not know the size gives 0, or one from here on


def declared_seconds(container: Any, stream: Any, head: bytes, size: int | None) -> float | None:
    """Return the length that a recording's header promises; None if there is none, or FFmpeg has only guessed it.

    Args:
        container: of PyAV.
        stream: its stream of sound.
        head: the first bytes of the file.
        size: bytes of the file; None for a pipe.
    """
    by_stream = float(stream.duration * stream.time_base) if stream.duration else None
    match container.format.name:
        case "mp3":
            return mp3_seconds(head)
        case "wav":
            return _wav_seconds(head)
        case "caf" if stream.frames and stream.codec_context.name.startswith("pcm"):
            return float(stream.frames / stream.codec_context.sample_rate)
        case "matroska,webm" if len(container.streams) == 1:
            return by_stream or (container.duration / 1e6 if container.duration else None)
        case "flac":
            return by_stream if _flac_samples(head) else None
        case "aiff" | "au" | "mov,mp4,m4a,3gp,3g2,mj2":
            return by_stream
    return None


def tag_length(data: bytes) -> int:
    """Return the bytes of the tag that `data` begins with: ID3, APE or Lyrics3; 0 if it begins with something else."""
    if data.startswith(b"ID3") and len(data) >= 10:
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 0x7F
        return size + 10
    if data.startswith(b"APETAGEX") and len(data) >= 16:
        return int.from_bytes(data[12:16], "little") + 32
    if data.startswith(b"TAG"):
        return 128
    return len(data) if data.startswith(b"LYRICSBEGIN") else 0


def mp3_seconds(head: bytes) -> float | None:
    """Return the length of an MP3 file by its Xing, Info or VBRI header; None if it has none.

    Args:
        head: the first bytes of the file, tags included.
    """
    start = tag_length(head)
    frame = head[start : start + 200]
    header = _mp3_header(frame)
    if header is None:
        return None
    samples, rate, _ = header
    for name, place in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        found = frame.find(name, 4, 48)
        if found >= 0 and (name == b"VBRI" or frame[found + 7] & 1):
            return int.from_bytes(frame[found + place : found + place + 4], "big") * samples / rate or None
    return None


def mp3_frame_bytes(frame: bytes) -> int:
    """Return the length that an MP3 frame (layer 3) has by its header; 0 if it does not say."""
    header = _mp3_header(frame)
    return header[2] if header else 0


def _mp3_header(frame: bytes) -> tuple[int, int, int] | None:
    """Return samples, sampling rate in Hz and bytes of a frame; None if it is not one of layer 3."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        return None
    version, rate_index = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    if rate_index == 3 or version == 1:
        return None
    rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    samples = 1152 if version == 3 else 576
    kilobits = (_MPEG1_KILOBITS if version == 3 else _MPEG2_KILOBITS)[frame[2] >> 4]
    size = samples // 8 * kilobits * 1000 // rate + (frame[2] >> 1 & 1) if kilobits else 0
    return samples, rate, size


def _wav_seconds(head: bytes) -> float | None:
    """Return the length of a WAV file by the size of its samples; None if its writer did not know."""
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return None
    place = 12
    bytes_per_second = long_size = 0
    while place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        if name == b"fmt " and place + 20 <= len(head):
            (bytes_per_second,) = struct.unpack_from("<I", head, place + 16)
        if name == b"ds64" and place + 24 <= len(head):
            (long_size,) = struct.unpack_from("<Q", head, place + 16)
        if name == b"data":
            known = long_size if size >= _UNKNOWN_SIZE else size
            return known / bytes_per_second if known and bytes_per_second else None
        place += 8 + size + size % 2
    return None


def wav_repairs(head: bytes, size: int, read_at: Callable[[int, int], bytes]) -> list[tuple[int, bytes]]:
    """Return what to write over a WAV header whose sizes are not true, so that all of the file is read.

    A recorder that crashes leaves the sizes of another moment, and a file may have been joined to this one: the samples
    go on where the header says that they end.

    Args:
        head: the first bytes of the file.
        size: bytes of the file.
        read_at: reads bytes of the file, given their place and number.

    Returns:
        Places in the file, and the bytes to be found there.
    """
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RF64", b"BW64"):
        return []
    place, long_size, form = 12, None, b""
    while place + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, place)
        if name == b"fmt ":
            form = head[place : place + 8 + length]
        if name == b"ds64" and place + 24 <= len(head):
            (long_size,) = struct.unpack_from("<Q", head, place + 16)
        if name == b"data":
            known = long_size if long_size is not None and length >= _UNKNOWN_SIZE else length
            end = place + 8 + (known or 0)
            if long_size == known == 0 or (known and _goes_on(read_at(end, 4096), size - end, form)):
                return [(0, b"RIFF"), (place + 4, b"\xff\xff\xff\xff")]
            return []
        place += 8 + length + length % 2
    return []


def _goes_on(behind: bytes, left: int, form: bytes) -> bool:
    """Return whether samples follow where a chunk might, or another file of the same form."""
    for start in (0, 1):  # chunks begin at even places, but not every writer knows that
        name, length = behind[start : start + 4], int.from_bytes(behind[start + 4 : start + 8], "little")
        if name in (b"RIFF", b"RF64") and form in behind:
            return True
        if len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name) and length <= left:
            return False
    return left > _LONGEST_PADDING


def _flac_samples(head: bytes) -> int:
    """Return the number of samples that a FLAC header promises; 0 if it does not know."""
    start = tag_length(head)
    return int.from_bytes(head[start + 21 : start + 26], "big") & ((1 << 36) - 1) if len(head) > start + 26 else 0


def ends_within_page(tail: bytes) -> bool:
    """Return whether an Ogg file is cut within a page. `tail` has its last 64 KiB or more."""
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return True
    segments = tail[page + 27 : page + 27 + tail[page + 26]]
    return len(segments) < tail[page + 26] or page + 27 + len(segments) + sum(segments) > len(tail)
