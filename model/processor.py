"""What the CPU can do, as far as it decides how networks are computed on it."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Linux's names of x86's instructions that add up products of 8 bits in 32 bits."""
_X86 = ("x86_64", "amd64", "i386", "i686")
_CPUINFO = Path("/proc/cpuinfo")


@cache
def sums_bytes_exactly() -> bool:
    """Say whether the fast products of unsigned and signed bytes give exact sums on this CPU.

    x86 without VNNI adds up pairs of them in 16 bits, which saturate. Other processors do not; an x86 whose
    instructions cannot be found out is taken for one that does.
    """
    return platform.machine().lower() not in _X86 or bool(_DOT_PRODUCTS & _flags())


def _flags() -> frozenset[str]:
    """Return the instruction sets that Linux lists; none elsewhere."""
    try:
        text = _CPUINFO.read_text("ascii", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
