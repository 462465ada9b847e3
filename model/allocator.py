"""Have the C library keep memory that MLX frees, and return what only loading needed.

On a CPU each operation of MLX takes the memory of its result from malloc and frees it soon after. glibc requests blocks
of this size one by one from the kernel, which clears each page, and returns them at once. That costs more than many of
the operations themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_BLOCK = 32 << 20  # more is not allowed
_MOST_KEPT = 512 << 20


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
