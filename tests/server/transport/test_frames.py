"""Cutting what comes in at the ends of frames."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from parastream.server.transport.frames import Frames

from .raw import BINARY, frame

SIZES = st.lists(st.sampled_from([0, 1, 13, 125, 126, 127, 1000, (1 << 16) - 1, 1 << 16]), min_size=1, max_size=6)


def take(frames: Frames, unread: bytearray) -> bytes:
    size = frames.next(unread)
    taken = bytes(unread[:size])
    del unread[:size]
    return taken


@given(SIZES, st.lists(st.integers(1, 400), min_size=1), st.booleans())
@example([126, 1 << 16, 0], [1], True)
@example([0, 0, 65535, 0], [1, 2, 3], False)
def test_each_piece_is_of_one_frame(sizes: Sequence[int], reads: Sequence[int], masked: bool) -> None:
    sent = [frame(BINARY, bytes(size), masked=masked) for size in sizes]
    data, cut, unread, taken, place = b"".join(sent), Frames(), bytearray(), [b""], 0
    while place < len(data):
        for read in reads:
            unread += data[place : place + read]
            place += read
            while unread:
                if len(taken[-1]) == len(sent[len(taken) - 1]):
                    taken.append(b"")
                taken[-1] += take(cut, unread)
    assert taken == sent


@given(st.lists(st.integers(0, 200), min_size=1))
def test_what_has_come_whole_is_taken_frame_by_frame(sizes: Sequence[int]) -> None:
    sent = [frame(BINARY, bytes(size)) for size in sizes]
    cut, unread = Frames(), bytearray(b"".join(sent))
    assert [take(cut, unread) for _ in sent] == sent
    assert not unread
