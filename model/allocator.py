"""How this process gets its memory: what the C library keeps of what MLX frees, and the size of pages.

On a CPU each operation of MLX takes the memory of its result from malloc and frees it soon after. glibc requests blocks
of this size one by one from the kernel, which clears each page, and returns them at once. That costs more than many of
the operations themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_BLOCK = 32 << 20  # more is not allowed
_MOST_KEPT = 512 << 20

_PAGE, _LARGE_PAGE = 4 << 10, 2 << 20
_MADV_COLLAPSE = 25
_RESERVED = 64 << 30
"""Bytes of a piece of memory that nobody can mean to fill."""
_FILLED = 0.9
"""Share of a large page that has to be in use: what is not is memory that the process would have besides."""


def keep_freed_memory() -> None:
    """Set glibc's malloc up for this process, preferably before it starts threads; do nothing without glibc."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
        # Other threads than the main one would use arenas of their own, which are returned to the kernel regardless.
        mallopt(_M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return to the kernel what glibc's malloc has kept so far; do nothing without glibc."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def join_pages() -> None:
    """Have Linux put what this process holds into pages of 2 MB, where it has filled them; elsewhere do nothing.

    Every window reads all weights from one end to the other. At the end of each page of 4 kB the processor stops
    fetching ahead, and looks up where the next one is.
    """
    if not sys.platform.startswith("linux") or os.sysconf("SC_PAGE_SIZE") != _PAGE:
        return
    libc = ctypes.CDLL(None)
    for start, end in _own_memory():
        resident = np.zeros((end - start) // _PAGE, np.uint8)
        if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_void_p(resident.ctypes.data)):
            continue  # it is gone by now
        filled = (resident & 1).reshape(-1, _LARGE_PAGE // _PAGE).mean(axis=1) > _FILLED
        for block in np.flatnonzero(filled).tolist():
            # Fails where Linux is older than 6.1, or has no such page left.
            libc.madvise(ctypes.c_void_p(start + block * _LARGE_PAGE), ctypes.c_size_t(_LARGE_PAGE), _MADV_COLLAPSE)


def _own_memory() -> Iterator[tuple[int, int]]:
    """Yield the whole large pages of each piece of memory that belongs to no file."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        place, rights, _, _, inode, *_ = line.split()
        start, end = (int(address, 16) for address in place.split("-"))
        start, end = -(-start // _LARGE_PAGE) * _LARGE_PAGE, end // _LARGE_PAGE * _LARGE_PAGE
        if rights == "rw-p" and inode == "0" and 0 < end - start < _RESERVED:
            yield start, end
