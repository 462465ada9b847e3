"""What the process holds lies in large pages, where it is in use, and is what it was."""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from parastream.model import allocator

_LINUX = sys.platform.startswith("linux")
_KERNEL = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) if _LINUX else (0, 0)
_LARGE = 2 << 20


def kilobytes(address: int, what: str) -> int:
    """What Linux says about the piece of memory with an address."""
    for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        place = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", part)
        if place is not None and int(place[1], 16) <= address < int(place[2], 16):
            found = re.search(rf"(?m)^{what}: +(\d+) kB", part)
            assert found is not None
            return int(found[1])
    raise AssertionError(f"nothing is at {address:x}")


@pytest.mark.skipif(_KERNEL < (6, 1) or mmap.PAGESIZE != 4096, reason="Linux joins pages at once from 6.1 on")
def test_pages_that_are_in_use_become_large_ones() -> None:
    size = 16 * _LARGE
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    values = np.frombuffer(memory, np.uint32)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    values[: size // 8] = np.arange(size // 8)  # half of it
    memory.madvise(mmap.MADV_HUGEPAGE)
    before = kilobytes(address, "Rss")
    allocator.join_pages()
    if not kilobytes(address, "AnonHugePages"):
        pytest.skip("this Linux has no large pages")
    assert kilobytes(address, "Rss") <= before + (2 * _LARGE >> 10)
    np.testing.assert_array_equal(values[: size // 8], np.arange(size // 8))
    assert not values[size // 8 :].any()
