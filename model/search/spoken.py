"""How hotwords are spoken, in the characters that a speech model writes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from parastream.model.hotwords import Hotword
from parastream.model.language.alphabet import normalised
from parastream.model.search.lexicon import Lexicon
from parastream.model.text import is_unspaced

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_CHINESE_DIGITS = "零一二三四五六七八九"
_RUN = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+(?:['’][^\W\d_A-Z]+)*|[A-Z]|[0-9]")
"""Capitals, a word with or without one, a digit."""
_BASES = str.maketrans({"đ": "d", "ð": "d", "ø": "o", "ł": "l", "ı": "i", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"})


def spoken_forms(hotword: Hotword, lexicon: Lexicon) -> list[str]:
    """Return how a hotword may be spoken, in the form of `Lexicon.texts`; nothing if the model cannot write it.

    Capitals are spelled out or read as a word, digits are read one by one, and words that are written together may be
    spoken apart.
    """
    given = hotword.sounds_like or _guessed(hotword.term)
    forms = (_writable(normalised(form), lexicon) for form in given)
    return list(dict.fromkeys(form for form in forms if form))


def _guessed(term: str) -> Iterable[str]:
    plain = unicodedata.normalize("NFKC", term)
    chinese = any(map(is_unspaced, plain))
    runs = [list(_runs(part, chinese)) for part in re.split(r"[^\w'’]+", plain)]
    yield " ".join(" ".join(spelled for spelled, _ in part) for part in runs)
    yield " ".join("".join(read for _, read in part) for part in runs)
    yield " ".join(" ".join(read for _, read in part) for part in runs)
    yield plain


def _runs(part: str, chinese: bool) -> Iterator[tuple[str, str]]:
    """Yield what is written together, piece by piece: with capitals spelled out, and as a word."""
    for run in _RUN.findall(part):
        if run.isdecimal() and run.isascii():
            digit = _CHINESE_DIGITS[int(run)] if chinese else f" {_DIGITS[int(run)]} "
            yield digit, digit
        elif run.isupper() and len(run) > 1:
            yield " ".join(run), run
        else:
            yield run, run


def _writable(form: str, lexicon: Lexicon) -> str:
    """Return a form in the model's characters, without accents where it has none; nothing if that cannot be."""
    written = "".join(_without_accents(c) if c not in lexicon.characters else c for c in form)
    return written if written.strip() and set(written) <= lexicon.characters else ""


def _without_accents(character: str) -> str:
    base = unicodedata.normalize("NFKD", character.translate(_BASES))
    return "".join(letter for letter in base if not unicodedata.combining(letter))
