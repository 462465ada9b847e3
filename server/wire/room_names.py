"""What caption rooms may be called. Imports nothing of ours: the messages are built on it."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 64
"""Characters."""
LONGEST_NAME_BYTES = 200
"""In UTF-8: a name is part of names of files, for which most file systems have 255."""
NAMES_OF_ROOMS = f"names of rooms are 1 to {LONGEST_NAME} letters and digits of any script, - and _"

_OTHERS = "-_"


def room_name(given: str) -> str:
    """Return the name of a room in the form by which it is found: Unicode's NFC.

    Letters, the marks on them and digits are safe in a path, in the name of a file and in HTML: there are no spaces,
    dots, slashes, quotes, control or bidirectional characters among them.

    Raises:
        ValueError: it is no such name; says what names may be.
    """
    name = unicodedata.normalize("NFC", given)
    kinds = ["L" if character in _OTHERS else unicodedata.category(character)[0] for character in name]
    fits = 0 < len(name) <= LONGEST_NAME and len(name.encode("utf-8", "replace")) <= LONGEST_NAME_BYTES
    if not fits or kinds[0] == "M" or not set(kinds) <= set("LMN"):
        raise ValueError(NAMES_OF_ROOMS)
    return name
