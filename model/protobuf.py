"""Protocol buffers, as far as files of models need it: the fields of a message, by their numbers.

Source: the wire format that protobuf.dev describes.
"""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_NUMBER = 10
"""Bytes of the largest number, of 64 bits."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number of each field and its value: an integer, or the bytes of a string or of a message.

    Fixed-width numbers are passed over.

    Raises:
        ValueError: It is no message.
    """
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        match key & 7:
            case 0:
                value, place = _number(message, place)
                yield key >> 3, value
            case 1:
                place += 8
            case 2:
                size, place = _number(message, place)
                if size > len(message) - place:
                    raise ValueError(f"a field of {size} bytes where {len(message) - place} are left")
                yield key >> 3, message[place : place + size]
                place += size
            case 5:
                place += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the strings or messages in the fields of one number; errors as in `fields`."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """Read a number of seven bits to the byte; return it and the place behind it."""
    value = 0
    for i, byte in enumerate(message[place : place + _LONGEST_NUMBER]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, place + i + 1
    raise ValueError("a number without an end")
