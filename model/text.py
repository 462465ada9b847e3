"""Running text: how words and utterances are joined, and which characters are full-width.

A space stands between two pieces of text, with these exceptions:

- none where both sides belong to a script that is written without spaces (Chinese, kana, full-width marks);
- none where such a character meets a number, a sign or a full-width mark: `第3天`, `50%的人`, `你好，hello`;
- but one where a Chinese character meets a word, as typesetters have it: `我用 Python 写`, `5G 手机`;
- and one after a mark that ends an English phrase: `Hello. 你好。`;
- none beside white space that is there already.

Korean is spaced like English. `tests/data/joins.json` has the cases, for other implementations too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Chinese, bopomofo, kana, their punctuation and full-width forms; neither Hangul nor emoji.
_UNSPACED = (
    "\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\uffe0-\uffef\U00020000-\U0003ffff"
)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_UNIT = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}]+")
_PHRASE_ENDS = ".,;:!?"


def join(texts: Iterable[str]) -> str:
    """Join words or utterances, with their marks, into running text; empty ones are left out."""
    joined = ""
    for text in texts:
        if text:
            joined += f" {text}" if joined and is_spaced(joined, text) else text
    return joined


def is_spaced(before: str, after: str) -> bool:
    """Say whether a space belongs between two pieces of text, neither of them empty."""
    left, right = before[-1], after[0]
    if left.isspace() or right.isspace():
        return False
    unspaced = is_unspaced(left), is_unspaced(right)
    if left in _PHRASE_ENDS or not any(unspaced):
        return True
    if all(unspaced):
        return False
    character, run = (left, after) if unspaced[0] else (right, reversed(before))
    return character.isalpha() and _begins_with_word(run)


def is_unspaced(character: str) -> bool:
    """Say whether a character belongs to a script that is written without spaces: Chinese, kana, full-width marks."""
    return _IS_UNSPACED.match(character) is not None


def is_wide(character: str) -> bool:
    """Say whether a character is full-width and takes two columns, as Chinese, Korean and emoji do (UAX 11)."""
    return unicodedata.east_asian_width(character) in "WF"


def units(text: str) -> list[str]:
    """Cut `text` into single characters of scripts without spaces, and the stretches between them."""
    return _UNIT.findall(text)


def _begins_with_word(characters: Iterable[str]) -> bool:
    """Say whether these begin with a run of letters and digits that has a letter."""
    for character in characters:
        if not character.isalnum() or is_unspaced(character):
            return False
        if character.isalpha():
            return True
    return False
