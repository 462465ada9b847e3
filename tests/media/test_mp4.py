"""MP4 in fragments, in all the forms in which its indexes may be written, and what is wrong with others."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.media.decoding import Recording, SourceError
from parastream.media.live import Live, open_sound
from parastream.media.mp4 import Mp4Demuxer, comes_in_fragments
from parastream.media.packets import Codec

from tests.client.recordings import encode

from .test_live import FRAGMENTS, SPEECH, Pieces, heard

SAMPLES = [b"one", b"two!", b"three"]


def box(kind: bytes, *content: bytes, wide: bool = False) -> bytes:
    """A box; its size is written in 64 bits if it is `wide`."""
    inner = b"".join(content)
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(inner)) + inner
    return struct.pack(">I4s", 8 + len(inner), kind) + inner


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


OPUS = box(b"Opus", bytes(28), box(b"btrt", bytes(12)), box(b"dOps", struct.pack(">BBHIhB", 0, 1, 312, 48000, 0, 0)))
SPECIFIC = bytes((0x05, 2)) + b"\x12\x10"


def mp4a(specific: bytes = SPECIFIC, kind: int = 0x40, flags: int = 0, extra: bytes = b"") -> bytes:
    """What describes AAC; sizes of descriptors take up to four bytes."""
    configuration = bytes((0x04, 0x80, 0x80, 0x80, 13 + len(specific), kind)) + bytes(12) + specific
    return box(b"mp4a", bytes(28), box(b"esds", bytes(4), bytes((0x03, 25, 0, 1, flags)) + extra + configuration))


def index(
    entry: bytes = OPUS, *, version: int = 0, fragments: bool = True, size: int = 0, handler: bytes = b"soun"
) -> bytes:
    """A `moov` with a track of pictures and one of sound, which is number 2."""
    times = bytes(16 if version else 8)

    def track(number: int, kind: bytes) -> bytes:
        description = box(b"minf", box(b"stbl", box(b"stsd", numbers(0, 1), entry)))
        head = box(b"tkhd", bytes((version, 0, 0, 0)) + times + numbers(number))
        return box(b"trak", head, box(b"mdia", box(b"hdlr", bytes(8), kind), description))

    defaults = [box(b"trex", numbers(0, number, 1, 0, size, 0)) for number in (1, 2)]
    return box(b"moov", track(1, b"vide"), track(2, handler), *([box(b"mvex", *defaults)] if fragments else []))


def fragment(run: bytes, *, flags: int = 0x020000, header: bytes = b"", track: int = 2) -> bytes:
    return box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", box(b"tfhd", numbers(flags, track), header), run))


def sizes(offset: int, samples: list[bytes] = SAMPLES) -> bytes:
    """A `trun` with an offset and sizes."""
    return box(b"trun", numbers(0x201, len(samples), offset, *map(len, samples)))


def taken(data: bytes, size: int = 7) -> list[Codec | bytes]:
    """What the demuxer takes out of bytes that come in pieces."""
    demuxer = Mp4Demuxer()
    return [item for first in range(0, len(data), size) for item in demuxer.push(data[first : first + size])]


FTYP = box(b"ftyp", b"iso5", bytes(4))
DATA = b"".join(SAMPLES)
LENGTH = len(fragment(sizes(0)))
"""Bytes of a fragment's index."""


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (index(), fragment(sizes(LENGTH + 8)) + box(b"mdat", DATA)),
        (index(version=1), fragment(sizes(LENGTH + 8)) + box(b"mdat", DATA)),
        (index(), fragment(sizes(LENGTH + 66)) + box(b"free", b"x" * 50) + box(b"mdat", DATA)),
        (index(), fragment(sizes(LENGTH + 16)) + box(b"mdat", DATA, wide=True)),
        (index(), fragment(sizes(LENGTH + 8)) + numbers(0) + b"mdat" + DATA),  # up to the end
        (index(), fragment(sizes(LENGTH + 13)) + box(b"mdat", b"other" + DATA + b"other")),
        (
            index(),  # times and flags of each sample, too
            fragment(
                box(
                    b"trun",
                    numbers(0xF05, 3, LENGTH + 8 + 4 + 9 * 4, 0),
                    *(numbers(1, len(sample), 2, 3) for sample in SAMPLES),
                )
            )
            + box(b"mdat", DATA),
        ),
    ],
)
def test_every_form_of_a_fragment(first: bytes, rest: bytes) -> None:
    codec, *samples = taken(FTYP + first + rest)
    assert codec == Codec("opus", b"OpusHead\x01\x01" + struct.pack("<HIhB", 312, 48000, 0, 0))
    assert samples == SAMPLES
    assert comes_in_fragments(FTYP + first)
    assert comes_in_fragments((FTYP + first)[:-1]) is None


def test_samples_of_a_usual_size() -> None:
    """Of the index, of the fragment, and told from the beginning of the file, or from the end of the samples before."""
    run = box(b"trun", numbers(0, 2))
    first = FTYP + index(size=3)
    place = len(first) + len(fragment(run, flags=0x01, header=bytes(8))) + 8
    absolute = fragment(run, flags=0x01, header=struct.pack(">Q", place)) + box(b"mdat", b"onetwo")
    assert taken(first + absolute)[1:] == [b"one", b"two"]
    own = fragment(box(b"trun", numbers(1, 2, 0)), flags=0x02003A, header=numbers(1, 960, 4, 0))
    own = fragment(box(b"trun", numbers(1, 2, len(own) + 8)), flags=0x02003A, header=numbers(1, 960, 4, 0))
    assert taken(first + own + box(b"mdat", b"fourfive"))[1:] == [b"four", b"five"]
    mine = box(b"traf", box(b"tfhd", numbers(0, 2)), box(b"trun", numbers(0, 1)))

    def both(offset: int) -> bytes:
        pictures = box(b"traf", box(b"tfhd", numbers(0, 1)), box(b"trun", numbers(1, 1, offset)))
        return box(b"moof", box(b"mfhd", bytes(8)), pictures, mine)

    assert taken(first + both(len(both(0)) + 8) + box(b"mdat", b"picone"))[1:] == [b"one"]


def test_two_recordings_in_a_row() -> None:
    one = FTYP + index() + fragment(sizes(LENGTH + 8)) + box(b"mdat", DATA)
    found = taken(one + one)
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    assert len(found) == 8


@pytest.mark.parametrize("entry", [mp4a(), mp4a(flags=0xE0, extra=bytes(2) + b"\x02ab" + bytes(2))])
def test_how_aac_is_described(entry: bytes) -> None:
    assert taken(FTYP + index(entry)) == [Codec("aac", b"\x12\x10")]


@pytest.mark.parametrize(
    "first",
    [
        index(fragments=False),
        index(handler=b"text"),
        index(mp4a(kind=0x6B)),  # MP3
        index(mp4a(specific=b"\x06\x01x")),
        index(box(b"alac", bytes(36))),
        index(mp4a()[:40] + bytes(4)),
        box(b"mdat", b"x"),
        box(b"free", bytes(1 << 20)),
        20 * box(b"free"),
        numbers(0) + b"free",
        b"nonsense" * 4,
        index()[:4] + b"moov" + bytes(16),
    ],
)
def test_other_files_are_left_to_ffmpeg(first: bytes) -> None:
    assert comes_in_fragments(FTYP + first + bytes(1 << 21)) is False


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (index() + index(fragments=False), "does not go on in fragments"),
        (index() + numbers(2 << 20) + b"moof", "an index that is too large"),
        (index() + numbers(0) + b"moof", "an index that is too large"),
        (index() + numbers(9) + b"????", "no box where one has to begin"),
        (index() + numbers(4) + b"moof", "no box where one has to begin"),
        (index() + box(b"moof", numbers(99) + b"traf"), "a box that is larger than the one around it"),
        (index() + fragment(box(b"trun", numbers(0x201, 3, 0))), "a box that is too short"),
        (index() + fragment(3 * box(b"trun", numbers(0, 1 << 15))), "a fragment of 98304 samples"),
        (index() + fragment(box(b"trun", numbers(0x200, 1, 1 << 30))), "a sample of 1073741824 bytes"),
        (index() + fragment(sizes(LENGTH)) + box(b"mdat", DATA), "samples that are not in their box"),
        (index() + fragment(sizes(LENGTH + 9)) + box(b"mdat", DATA), "samples that are not in their box"),
    ],
)
def test_damage(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=rf"MP4 .*{message}|this MP4 {message}"):
        taken(FTYP + data)


# --- real sound


@pytest.mark.parametrize(
    ("codec", "options", "video"),
    [
        ("aac", {"movflags": "frag_every_frame+empty_moov"}, False),  # places in the file
        ("aac", {"movflags": "frag_keyframe+delay_moov", "frag_duration": "300000"}, False),
        ("aac", FRAGMENTS, True),
        ("libopus", {"movflags": "frag_keyframe+empty_moov+dash"}, False),
    ],
)
def test_what_ffmpeg_writes(tmp_path: Path, codec: str, options: dict[str, str], video: bool) -> None:
    path = encode(tmp_path / "a.mp4", SPEECH, codec, options=options, video=video)
    with Recording(path) as recording:
        whole = np.concatenate(list(recording.blocks()))
    sound = heard(path.read_bytes())
    np.testing.assert_allclose(sound[: len(whole)], whole, atol=1e-6)
    assert len(sound) == pytest.approx(len(whole), abs=1100)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_files_with_one_index_are_heard_once_all_has_come(tmp_path: Path, options: dict[str, str]) -> None:
    path = encode(tmp_path / "a.mp4", SPEECH, "aac", options=options)
    sound = open_sound(Pieces(path.read_bytes()), live=True)
    assert isinstance(sound, Recording)
    assert sum(map(len, sound.blocks())) == pytest.approx(len(SPEECH), abs=2100)
    sound.close()


def test_what_is_cut_is_heard_up_to_there(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mp4", SPEECH, "aac", options=FRAGMENTS).read_bytes()
    half = heard(data[: len(data) // 2])
    assert 1.2 * 16000 < len(half) < 1.8 * 16000


def test_damage_says_where(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "a.mp4", SPEECH, "aac", options=FRAGMENTS).read_bytes())
    place = data.index(b"moof", len(data) // 2)
    data[place : place + 4] = b"\0\0\0\0"
    sound = open_sound(Pieces(bytes(data)), live=True)
    assert isinstance(sound, Live)
    blocks: list[NDArray[np.float32]] = []
    with pytest.raises(
        SourceError, match=r"damaged audio at 1\.\d s \(damaged MP4 \(no box where one has to begin\)\)"
    ):
        blocks.extend(sound.blocks())
    assert sum(map(len, blocks)) > 16000


def test_stereo(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", container_options=dict(FRAGMENTS)) as output:
        stream = output.add_stream("aac", rate=48000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 48000), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        for piece in av.AudioResampler("fltp", "stereo", 48000, frame_size=1024).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    sound = open_sound(Pieces(path.read_bytes()), live=True)
    assert (sound.channels, sound.rate) == (2, 48000)
