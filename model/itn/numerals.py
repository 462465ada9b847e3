"""English number words: what they are worth, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence

_SMALL = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth"
_TEEN_ORDINALS = "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"

UNITS = {word: value for value, word in enumerate(_SMALL.split(), 1)}
"""One to nine."""
TEENS = {word: value for value, word in enumerate(_TEENS.split(), 10)}
TENS = {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
DIGITS = {"zero": "0", "oh": "0", "o": "0", **{word: str(value) for word, value in UNITS.items()}}
"""As they are spelled one by one."""
DECADES = {f"{word[:-1]}ies": value for word, value in TENS.items()}
_UNIT_ORDINALS = {word: value for value, word in enumerate(_SMALL_ORDINALS.split(), 1)}
ORDINALS = {
    **_UNIT_ORDINALS,
    **{word: value for value, word in enumerate(_TEEN_ORDINALS.split(), 10)},
    **{f"{word[:-1]}ieth": value for word, value in TENS.items()},
}
REPEATS = {"double": 2, "triple": 3}

NUMBER_WORDS = frozenset([*UNITS, *TEENS, *TENS, *SCALES, "hundred", "zero"])

Found = tuple[int, int]
"""A value, and where the words of it stop."""


def at(words: Sequence[str], place: int) -> str:
    """Return the word at a place; an empty one outside."""
    return words[place] if 0 <= place < len(words) else ""


def below_hundred(words: Sequence[str], place: int) -> Found | None:
    """Read a number from 1 to 99."""
    word = at(words, place)
    if word in TENS:
        unit = UNITS.get(at(words, place + 1), 0)
        return TENS[word] + unit, place + (2 if unit else 1)
    value = UNITS.get(word) or TEENS.get(word)
    return (value, place + 1) if value else None


def _below_thousand(words: Sequence[str], place: int, *, across_and: bool) -> Found | None:
    """Read a number of hundreds, up to ninety-nine of them ("fifteen hundred"), or one below a hundred."""
    if at(words, place) == "a" and at(words, place + 1) in ("hundred", *SCALES):
        head: Found | None = (1, place + 1)
    else:
        head = below_hundred(words, place)
    if head is None or at(words, head[1]) != "hundred":
        return head
    value, place = head[0] * 100, head[1] + 1
    joined = across_and and at(words, place) == "and"
    rest = below_hundred(words, place + joined)
    if rest is None or at(words, rest[1]) == "hundred":  # "between one hundred and two hundred"
        return value, place
    return value + rest[0], rest[1]


def cardinal(words: Sequence[str], place: int, *, across_and: bool = True) -> Found | None:
    """Read the longest cardinal number: "two thousand and five", "a hundred", "twelve hundred".

    Args:
        words: In lower case.
        place: Where it begins.
        across_and: Whether "and" may be part of it.
    """
    total, reached, limit = 0, place, 10**15
    while True:
        joined = across_and and reached > place and at(words, reached) == "and"
        group = _below_thousand(words, reached + joined, across_and=across_and)
        if group is None:
            break
        value, stop = group
        scale = SCALES.get(at(words, stop))
        if scale is None:
            return total + value, stop
        if scale >= limit:
            break
        total, limit, reached = total + value * scale, scale, stop + 1
    return (total, reached) if reached > place else None


def ordinal(words: Sequence[str], place: int) -> Found | None:
    """Read an ordinal number: "third", "twenty first", "two hundredth", "hundred and fiftieth"."""
    word, following = at(words, place), at(words, place + 1)
    if word in ORDINALS:
        return ORDINALS[word], place + 1
    if word in TENS and following in _UNIT_ORDINALS:
        return TENS[word] + _UNIT_ORDINALS[following], place + 2
    if word in UNITS and following in ("hundredth", "thousandth"):
        return UNITS[word] * (100 if following == "hundredth" else 1000), place + 2
    if word in UNITS and following == "hundred":
        rest = ordinal(words, place + 2 + (at(words, place + 2) == "and"))
        if rest is not None and rest[0] < 100:
            return UNITS[word] * 100 + rest[0], rest[1]
    return None


def spelled_digits(words: Sequence[str], place: int) -> tuple[str, int]:
    """Read digits that are said one by one: "five five oh one", "double four", "eight hundred five five"."""
    digits = ""
    while True:
        word, following = at(words, place), at(words, place + 1)
        if word in REPEATS and following in DIGITS:
            digits, place = digits + DIGITS[following] * REPEATS[word], place + 2
        elif word in DIGITS and following == "hundred":
            if at(words, place + 2) not in DIGITS or digits not in ("", "1"):
                return digits, place
            digits, place = f"{digits}{DIGITS[word]}00", place + 2
        elif word in DIGITS and (digits or word not in ("oh", "o")) and following not in ("point", *SCALES):
            digits, place = digits + DIGITS[word], place + 1
        else:
            return digits, place
