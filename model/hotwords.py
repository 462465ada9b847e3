"""Hotwords: terms that a session expects, as they are written, with weights and, if need be, how they sound."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from parastream.model.errors import HotwordError
from parastream.model.untrusted import shown

logger = logging.getLogger("parastream.hotwords")

MOST = 1000
"""Most hotwords of a session."""
MANY = 200
"""Hotwords from which on they get in each other's way: rare ones are found less often, and others falsely."""
LEAST_WEIGHT, LARGEST_WEIGHT = 0.1, 5.0
_LONGEST = 100
"""Characters of the longest term, and of what it sounds like."""


@dataclass(frozen=True, slots=True)
class Hotword:
    """A term to listen for.

    Raises:
        HotwordError: It is empty, too long, or has a weight that is not allowed.
    """

    term: str
    """As it is to be written, such as `GPT-4o`."""
    weight: float = 1.0
    """How much it is expected, in comparison with others: from 0.1 to 5; 0.5 to 2 are of use."""
    sounds_like: tuple[str, ...] = ()
    """How it may be spoken, such as `g p t four o`; where this is empty, that follows from the term."""

    def __post_init__(self) -> None:
        for name, text in (("hotword", self.term), *(("sounds_like", text) for text in self.sounds_like)):
            if not text.strip() or len(text) > _LONGEST or not text.isprintable():
                raise HotwordError(
                    f"{name} {shown(text)} is empty, longer than {_LONGEST} characters, or has control characters"
                )
        if not LEAST_WEIGHT <= self.weight <= LARGEST_WEIGHT:  # nor is a NaN
            raise HotwordError(
                f"the weight of the hotword {shown(self.term)} is {self.weight:g}; allowed are {LEAST_WEIGHT:g} to"
                f" {LARGEST_WEIGHT:g}, and 1 is usual"
            )


Hotwords = tuple[Hotword, ...]


def checked(hotwords: Iterable[Hotword]) -> Hotwords:
    """Return a list of hotwords without repetitions, the last of which count.

    Raises:
        HotwordError: There are too many.
    """
    by_term = {hotword.term: hotword for hotword in hotwords}
    if len(by_term) > MOST:
        raise HotwordError(f"{len(by_term)} hotwords; allowed are {MOST}, and more than {MANY} are seldom of use")
    return tuple(by_term.values())


def parse(text: str) -> Hotwords:
    """Read a list of hotwords: a term a line, with an optional weight behind it, and what it sounds like behind a `|`.

    Several ways in which it may sound stand behind a `|` each. Empty lines and those that begin with `#` are skipped. A
    number at the end of a line is a weight: where the term itself ends in a number, its weight stands behind that.

    Raises:
        HotwordError: A line is not as it should be; the error has its number.
    """
    return checked(_parsed(text))


def read_hotwords(path: Path) -> Hotwords:
    """Read a file with a list of hotwords; see `parse`. The log says so if there are too many to be of use.

    Raises:
        HotwordError: The file cannot be read, or the list cannot be used.
    """
    try:
        found = parse(path.read_text("utf-8-sig"))
    except (HotwordError, UnicodeDecodeError) as error:
        raise HotwordError(f"{path}: {error}") from error
    except OSError as error:
        raise HotwordError(f"cannot read the hotwords in {path}: {error.strerror or error}") from error
    warn_if_many(found, str(path))
    return found


def warn_if_many(hotwords: Hotwords, whose: str) -> None:
    """Tell the log if a list is too long to be of use."""
    if len(hotwords) > MANY:
        logger.warning(
            "%s: %d hotwords; with more than %d, rare ones are found less often and others falsely",
            whose,
            len(hotwords),
            MANY,
        )


def _parsed(text: str) -> Iterator[Hotword]:
    for number, line in enumerate(text.splitlines(), 1):
        term, *sounds = (part.strip() for part in line.split("|"))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            yield with_weight(term, tuple(sounds))
        except HotwordError as error:
            raise HotwordError(f"line {number}: {error}") from error


def with_weight(text: str, sounds_like: tuple[str, ...] = ()) -> Hotword:
    """Return the hotword of a term with an optional weight behind it.

    Raises:
        HotwordError: It is not as it should be.
    """
    term, _, last = text.rpartition(" ")
    weight = _number(last)
    if not term.strip() or weight is None:
        return Hotword(text.strip(), 1.0, sounds_like)
    try:
        return Hotword(term.strip(), weight, sounds_like)
    except HotwordError as error:
        raise HotwordError(
            f"{error}; if the term itself ends in a number, write its weight behind that: {text} 1"
        ) from error


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
