"""Make server/web/wide.js from Python's Unicode tables: `./run python docs/make_wide.py`.

JavaScript knows the script of a character, but not its width. A test compares the file with what this makes of the
characters that the running Python knows.
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

from parastream.model.text import is_wide

FILE = Path(__file__).parents[1] / "server" / "web" / "wide.js"

_HEAD = """\
// @ts-check
// Made by docs/make_wide.py.

/** Full-width characters (UAX 11: W and F) as ranges: first, one after the last, and so on. */
// prettier-ignore
export const WIDE_RANGES = [
"""


def ranges() -> list[int]:
    """Return the ends of the ranges; characters that are not assigned count as those before them."""
    found: list[int] = []
    wide = False
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) != "Cn" and is_wide(character) != wide:
            wide = not wide
            found.append(code)
    return found


def module() -> str:
    """Return the text of wide.js."""
    numbers = [f"{number:#x}," for number in ranges()]
    lines = [" ".join(numbers[first : first + 12]) for first in range(0, len(numbers), 12)]
    return _HEAD + "".join(f"  {line}\n" for line in lines) + "];\n"


if __name__ == "__main__":
    FILE.write_text(module(), "utf-8")
