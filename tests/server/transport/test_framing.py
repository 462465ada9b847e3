"""The rules of RFC 6455 for frames, kept over a socket: what a well-behaved client may do, and how others end."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import pytest

from ..fakes import FakeEngine, asynchronous, serving
from .raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, close_frame, frame, raw

START = b'{"type": "start"}'
PATH = "/v1/stream"
LARGEST = 1000


async def answers(client: RawClient) -> list[tuple[int, bytes]]:
    """Return all frames until one closes."""
    frames = [await client.read_frame()]
    while frames[-1][0] != CLOSE:
        frames.append(await client.read_frame())
    return frames


def pieces(payload: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """Return the frames of a fragmented message."""
    parts = [payload[first : first + size] for first in range(0, len(payload), size)]
    return [
        frame(CONTINUATION if index else opcode, part, last=index == len(parts) - 1) for index, part in enumerate(parts)
    ]


LONG_START = b'{"type": "start"' + b" " * 200 + b"}"
GOOD: dict[str, Sequence[bytes]] = {
    "one frame": [frame(TEXT, START)],
    "length in 16 bits": [frame(TEXT, LONG_START)],
    "fragments of a byte": pieces(START, 1),
    "fragments of five bytes": pieces(START, 5),
    "an empty first fragment": [frame(TEXT, last=False), *pieces(START, 5, CONTINUATION)],
    "an empty last fragment": [frame(TEXT, START, last=False), frame(CONTINUATION)],
    "empty fragments in between": [
        frame(TEXT, START, last=False), *[frame(CONTINUATION, last=False)] * 100, frame(CONTINUATION),
    ],
    "a ping between fragments": [
        frame(TEXT, START[:3], last=False), frame(PING, b"?"), frame(CONTINUATION, START[3:]),
    ],
    "a pong nobody asked for": [frame(PONG, b"hello"), frame(TEXT, START)],
    "an empty pong": [frame(PONG), frame(TEXT, START)],
    "a UTF-8 character cut in two": [
        frame(TEXT, '{"type": "start", "labels": ["é'.encode()[:-1], last=False),
        frame(CONTINUATION, '{"type": "start", "labels": ["é"]}'.encode()[31:]),
    ],
    "the largest message": [frame(TEXT, START[:-1] + b" " * (LARGEST - len(START)) + b"}")],
    "the largest message in fragments": pieces(START[:-1] + b" " * (LARGEST - len(START)) + b"}", 100),
}  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("sent", GOOD.values(), ids=GOOD)
@asynchronous
async def test_a_message_is_understood_however_it_is_framed(sent: Sequence[bytes], bytewise: bool) -> None:
    async with serving(FakeEngine(), max_message=LARGEST) as server, raw(server.port, PATH) as client:
        data = b"".join(sent)
        for part in [data[index : index + 1] for index in range(len(data))] if bytewise else [data]:
            client.writer.write(part)
            await client.writer.drain()
        opcode, payload = await client.read_frame()
        if opcode == PONG:
            assert payload == b"?"
            opcode, payload = await client.read_frame()
        assert (opcode, json.loads(payload)["type"]) == (TEXT, "ready")


BAD: dict[str, tuple[int, Sequence[bytes]]] = {
    **{f"reserved bits {bits}": (1002, [frame(TEXT, START, reserved=bits)]) for bits in range(1, 8)},
    **{f"opcode {opcode}": (1002, [frame(opcode)]) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "no mask": (1002, [frame(TEXT, START, masked=False)]),
    "a fragmented ping": (1002, [frame(PING, b"?", last=False), frame(CONTINUATION, b"!")]),
    "a fragmented close": (1002, [frame(CLOSE, last=False)]),
    "a long ping": (1002, [frame(PING, bytes(126))]),
    "a long close": (1002, [close_frame(1000, bytes(124))]),
    "a continuation of nothing": (1002, [frame(CONTINUATION, START)]),
    "an unfinished continuation of nothing": (1002, [frame(CONTINUATION, START, last=False)]),
    "a message within a message": (1002, [frame(TEXT, START, last=False), frame(TEXT, START)]),
    "audio within a message": (1002, [frame(TEXT, START, last=False), frame(BINARY, b"\0\0")]),
    "reserved bits after a good frame": (1002, [frame(PING), frame(PING, reserved=4)]),
    "a close of one byte": (1002, [frame(CLOSE, b"\3")]),
    **{
        f"close code {code}": (1002, [close_frame(code)])
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a reason that is no UTF-8": (1007, [close_frame(1000, b"\xff")]),
    "text that is no UTF-8": (1007, [frame(TEXT, b"\xff")]),
    "text with a surrogate": (1007, [frame(TEXT, b"\xed\xa0\x80")]),
    "text with an overlong form": (1007, [frame(TEXT, b"\xc0\xaf")]),
    "text beyond Unicode": (1007, [frame(TEXT, b"\xf4\x90\x80\x80")]),
    "text with half a character": (1007, [frame(TEXT, b"\xc3")]),
    "a second fragment that is no UTF-8": (1007, [frame(TEXT, b"a", last=False), frame(CONTINUATION, b"\xff")]),
    "a message too large": (1009, [frame(TEXT, bytes(LARGEST + 1))]),
    "a message too large by its head": (1009, [bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 40) + bytes(4)]),
    "fragments too large together": (1009, [frame(BINARY, bytes(LARGEST), last=False), frame(CONTINUATION, b"\0")]),
    "a length with the highest bit": (1009, [bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 63) + bytes(4)]),
}  # fmt: skip


@pytest.mark.parametrize(("code", "sent"), BAD.values(), ids=BAD)
@asynchronous
async def test_a_frame_against_the_rules_closes_the_connection(
    caplog: pytest.LogCaptureFixture, code: int, sent: Sequence[bytes]
) -> None:
    async with serving(FakeEngine(), max_message=LARGEST) as server, raw(server.port, PATH) as client:
        client.writer.write(b"".join(sent))
        opcode, payload = (await answers(client))[-1]
        assert (opcode, *struct.unpack("!H", payload[:2])) == (CLOSE, code)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
@asynchronous
async def test_a_close_is_answered_with_its_own_code(code: int) -> None:
    async with serving(FakeEngine()) as server, raw(server.port, PATH) as client:
        client.writer.write(close_frame(code, "bye ✓".encode()) + frame(TEXT, START))
        assert await answers(client) == [(CLOSE, struct.pack("!H", code) + "bye ✓".encode())]
        assert await client.reader.read() == b"", "what follows a close is nobody's"


@asynchronous
async def test_a_close_without_a_code_is_answered_without_one() -> None:
    async with serving(FakeEngine()) as server, raw(server.port, PATH) as client:
        client.writer.write(frame(CLOSE))
        assert await answers(client) == [(CLOSE, b"")]


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))], ids=["empty", "text", "125 bytes"])
@asynchronous
async def test_a_ping_is_answered_with_its_own_payload(payload: bytes) -> None:
    async with serving(FakeEngine()) as server, raw(server.port, PATH) as client:
        client.writer.write(frame(PING, payload) * 10)
        assert [await client.read_frame() for _ in range(10)] == [(PONG, payload)] * 10
