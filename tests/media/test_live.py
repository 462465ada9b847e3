"""Sound as it comes: the same as that of the whole file, with each piece of it, and errors where it is damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.media.decoding import Recording, SourceError
from parastream.media.live import Live, is_encoded, open_sound
from parastream.media.ogg import _checksum
from parastream.media.samples import check_channels, resampled

from tests.client.recordings import encode, ogg

SPEECH: NDArray[np.int16] = soundfile.read(str(files("parastream.client") / "assets" / "sample.flac"), dtype="int16")[
    0
][16000:64000]
SECONDS = 3.0

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}
KINDS: dict[str, Callable[[Path], Path]] = {
    "webm": lambda path: encode(path / "a.webm", SPEECH, "libopus"),
    # as MediaRecorder writes: clusters of unknown sizes
    "live webm": lambda path: encode(path / "b.webm", SPEECH, "libopus", options={"live": "1"}),
    "pcm webm": lambda path: encode(path / "a.mkv", SPEECH, "pcm_f32le"),
    # as MediaRecorder writes: fragments of 0.1 s, samples told from the beginning of theirs
    "aac mp4": lambda path: encode(path / "a.mp4", SPEECH, "aac", options=FRAGMENTS),
    "opus mp4": lambda path: encode(path / "b.mp4", SPEECH, "libopus", options=FRAGMENTS),
    "opus": lambda path: encode(path / "a.ogg", SPEECH, "libopus"),
    "vorbis": lambda path: ogg(path / "v.ogg", SPEECH),
    "flac": lambda path: encode(path / "a.flac", SPEECH, "flac"),
    "mp3": lambda path: encode(path / "a.mp3", SPEECH, "libmp3lame", options={"write_xing": "0"}),
    "aac": lambda path: encode(path / "a.aac", SPEECH, "aac", container="adts"),
}


class Pieces:
    """Bytes as they come, in pieces of a size."""

    def __init__(self, data: bytes, size: int = 500) -> None:
        self.data = data
        self.size = size
        self.read_bytes = 0

    def read(self, size: int) -> bytes:
        piece = self.data[self.read_bytes : self.read_bytes + min(size, self.size)]
        self.read_bytes += len(piece)
        return piece


def heard(data: bytes, size: int = 500) -> NDArray[Any]:
    sound = open_sound(Pieces(data, size), live=True)
    assert isinstance(sound, Live)
    return np.concatenate(list(sound.blocks()))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("recordings")
    return {name: make(directory) for name, make in KINDS.items()}


@pytest.mark.parametrize("size", [1, 500, 1 << 16])
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_in_pieces_sounds_like_the_whole_file(recordings: dict[str, Path], kind: str, size: int) -> None:
    sound = heard(recordings[kind].read_bytes(), size)
    with Recording(recordings[kind]) as recording:
        whole = np.concatenate(list(recording.blocks()))
    assert len(sound) / recording.rate == pytest.approx(SECONDS, abs=0.15)
    if kind != "mp3":  # the delay of its encoder is known of files only
        np.testing.assert_allclose(sound[: len(whole)], whole, atol=1e-6)


@pytest.mark.parametrize("kind", ["live webm", "aac mp4", "opus mp4", "opus", "flac", "mp3", "aac"])
def test_sound_comes_with_its_bytes(recordings: dict[str, Path], kind: str) -> None:
    data = recordings[kind].read_bytes()
    source = Pieces(data, 200)
    sound = open_sound(source, live=True)
    seconds = late = 0.0
    for block in sound.blocks():
        seconds += len(block) / sound.rate
        late = max(late, source.read_bytes / len(data) * SECONDS - seconds)
    assert late < {"opus": 1.3, "flac": 1.2}.get(kind, 0.25)  # a page of Ogg has a second; FLAC's parser looks ahead


def test_what_is_known_to_be_encoded(recordings: dict[str, Path]) -> None:
    for path in recordings.values():
        head = path.read_bytes()[:8]
        assert is_encoded(head)
        assert {is_encoded(head[:size]) for size in range(8)} <= {None, True}  # None: more of it may tell
    for raw in (b"\0" * 8, b"RIFF\0\0\0\0WAVE", b"\xff" * 8):
        assert is_encoded(raw) is False


def test_files_in_a_row_and_what_is_read_by_ffmpeg_alone(recordings: dict[str, Path], tmp_path: Path) -> None:
    one = recordings["opus"].read_bytes()
    assert len(heard(one + one)) == pytest.approx(2 * len(heard(one)), abs=1000)
    wav = encode(tmp_path / "a.wav", SPEECH, "pcm_s24le")
    sound = open_sound(Pieces(wav.read_bytes()), live=True)
    assert isinstance(sound, Recording)
    assert sum(map(len, sound.blocks())) == len(SPEECH)
    sound.close()


def test_tags_and_headers_longer_than_a_piece(recordings: dict[str, Path]) -> None:
    tag = b"ID3\x04\0\0" + bytes((0, 0, 0x10, 0)) + bytes(0x800)
    assert len(heard(tag + recordings["mp3"].read_bytes())) == len(heard(recordings["mp3"].read_bytes()))
    flac = recordings["flac"].read_bytes()
    assert flac[4] == 0  # not the last block
    padded = flac[:42] + b"\x01" + (5000).to_bytes(3, "big") + bytes(5000) + flac[42:]
    assert len(heard(padded)) == len(SPEECH)


# --- damage


def element(name: int, content: bytes) -> bytes:
    """An element of EBML."""
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + struct.pack(">Q", 1 << 56 | len(content)) + content


def webm(codec: str = "A_OPUS", kind: int = 2, block: bytes = b"\x81\0\0\x80x") -> bytes:
    """A WebM of one track and one block."""
    track = element(0xD7, b"\1") + element(0x83, bytes([kind])) + element(0x86, codec.encode())
    tracks = element(0x1654AE6B, element(0xAE, track))
    return element(0x1A45DFA3, b"") + element(0x18538067, tracks + element(0x1F43B675, element(0xA3, block)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (webm(codec="A_AC3"), "the sound in this WebM is 'A_AC3'; allowed: A_OPUS"),
        (webm(kind=1), "there is no sound in this WebM"),
        (webm(block=b"\x81\0"), "a block without its head"),
        (webm(block=b"\x81\0\0\x06xx"), "several packets in a block"),
        (webm()[:12] + b"\x01" + bytes(20), "no element where one has to begin"),
        (b"\x1a\x45\xdf\xa3\xff" + bytes(20), "without an end"),
        (element(0x1A45DFA3, b"") + b"\xa3" + struct.pack(">Q", 1 << 56 | 1 << 30), "an element of 1073741824 bytes"),
        (element(0x1A45DFA3, b"") + b"\xa3\0" + bytes(20), "a size that is none"),
        (element(0x1A45DFA3, bytes(20)), "there is no sound in it"),
        (element(0x1A45DFA3, b"") + element(0xAE, element(0xB5, b"x")), "a rate that is none"),
        (b"OggS" + bytes(30), "a page with a wrong checksum"),
        (b"fLaC" + bytes(30), "there is no sound in it"),
        (b"ID3" + bytes(3) + b"\x7f\x7f\x7f\x7f" + bytes(30), "there is no sound in it"),
    ],
)
def test_what_cannot_be_read_at_all(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_sound(Pieces(data), live=True)


def pages(data: bytes) -> Iterator[bytes]:
    while data:
        begin = 27 + data[26]
        size = begin + sum(data[27:begin])
        yield data[:size]
        data = data[size:]


def rewritten(page: bytes, **fields: Any) -> bytes:
    """A page with another content and a checksum that is right."""
    page = page[:14] + fields.get("serial", page[14:18]) + page[18:22] + bytes(4) + page[26:]
    return page[:22] + _checksum(page).to_bytes(4, "little") + page[26:]


def test_damage_ends_the_sound_with_the_place_and_the_reason(recordings: dict[str, Path]) -> None:
    data = recordings["opus"].read_bytes()
    head, tags, first, second, *rest = pages(data)
    flipped = bytearray(data)
    flipped[len(head + tags + first) + 500] ^= 0xFF
    for damaged, message in (
        (bytes(flipped), "wrong checksum"),
        (head + tags + first + b"".join(rest), "a page is missing"),
        (head + tags + first + b"rubbish" + second, "no page where one has to begin"),
    ):
        sound = open_sound(Pieces(damaged), live=True)
        blocks: list[NDArray[Any]] = []
        with pytest.raises(SourceError, match=rf"damaged audio at [01]\.\d s \(.*{message}"):
            blocks.extend(sound.blocks())
        assert sum(map(len, blocks)) > 0.5 * sound.rate
    holes = recordings["live webm"].read_bytes()
    with pytest.raises(SourceError, match="damaged audio at"):
        heard(holes[:10_000] + bytes(300) + holes[10_300:])


def test_streams_beside_the_sound_are_left_out(recordings: dict[str, Path]) -> None:
    first, *rest = pages(recordings["opus"].read_bytes())
    other = rewritten(first[:-19] + b"Skeleton" + first[-11:], serial=b"othr")
    more = rewritten(rest[0], serial=b"othr")
    assert len(heard(other + first + more + b"".join(rest))) == len(heard(first + b"".join(rest)))
    with pytest.raises(SourceError, match=r"the sound in this Ogg is .*Skeleton.*; allowed: Opus, Vorbis"):
        heard(other + rest[0])


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("kind", ["live webm", "aac mp4", "opus mp4", "opus", "vorbis", "flac", "mp3", "aac"])
def test_any_damage_is_an_error_of_the_audio(recordings: dict[str, Path], kind: str, data: st.DataObject) -> None:
    damaged = bytearray(recordings[kind].read_bytes()[:12_000])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        sound = open_sound(Pieces(bytes(damaged), data.draw(st.integers(1, 5000))), live=True)
        for _ in sound.blocks():
            pass
    except SourceError:
        pass


# --- channels and rates


def test_channels_are_mixed_or_kept_apart(tmp_path: Path) -> None:
    stereo = np.stack([SPEECH, SPEECH[::-1]], axis=1)
    path = tmp_path / "a.wav"
    soundfile.write(path, stereo, 16000)
    with Recording(path) as recording:
        both = np.concatenate(list(resampled(recording, 2, 16000)))
    np.testing.assert_allclose(both, stereo / 32768, atol=1e-6)
    with Recording(path) as recording:
        mixed = np.concatenate(list(resampled(recording, 1, 16000)))
    assert mixed.shape == (len(SPEECH), 1)
    with Recording(path) as recording:
        assert sum(map(len, resampled(recording, 2, 8000))) == pytest.approx(len(SPEECH) / 2, abs=2)
        check_channels(recording, 2)
        check_channels(recording, 1)
        with pytest.raises(SourceError, match="the audio has 2 channels, not 3; allowed: 2, or 1"):
            check_channels(recording, 3)


def test_a_track_of_stereo_opus(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.webm"), "w") as output:
        stream = output.add_stream("libopus", rate=48000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 48000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 48000
        resampler = av.AudioResampler("flt", "stereo", 48000, frame_size=960)
        for piece in resampler.resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    sound = open_sound(Pieces((tmp_path / "a.webm").read_bytes()), live=True)
    assert (sound.channels, sound.rate) == (2, 48000)
    assert all(block.shape[1] == 2 for block in sound.blocks())
