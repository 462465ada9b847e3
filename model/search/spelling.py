"""Words of a search's tokens, with hotwords spelled as their user wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from parastream.model.search.automaton import Automaton, begins_word
from parastream.model.text import is_unspaced
from parastream.model.tokenizer import Tokenizer, TokenWord


def words(tokenizer: Tokenizer, ids: Sequence[int], hotwords: Automaton | None) -> list[TokenWord]:
    """Return the words of some tokens; where these are exactly those of a hotword, as that is written."""
    if hotwords is None:
        return tokenizer.words(ids)
    found: list[TokenWord] = []
    done = 0
    for first, stop, written in _matches(ids, hotwords):
        found += _moved(tokenizer.words(ids[done:first]), done)
        plain = tokenizer.words(ids[first:stop])
        done = stop
        found += _moved(plain if _is_plain(written) else _spelled(written, plain), first)
    return found + _moved(tokenizer.words(ids[done:]), done)


def open_from(ids: Sequence[int], hotwords: Automaton | None) -> int:
    """Return the first token that further tokens could make part of a hotword; all before are spelled for good."""
    if hotwords is None:
        return len(ids)
    for first, _, _, may_go_on in _places(ids, hotwords):
        if may_go_on:
            return first
    return len(ids)


def _matches(ids: Sequence[int], hotwords: Automaton) -> Iterator[tuple[int, int, str]]:
    """Yield the first and one past the last token of each hotword that is there, and how it is written."""
    return ((first, stop, written) for first, stop, written, _ in _places(ids, hotwords) if stop > first)


def _places(ids: Sequence[int], hotwords: Automaton) -> Iterator[tuple[int, int, str, bool]]:
    """Yield the same for each place where a word begins, also without a hotword; and whether one may go on there."""
    texts = [hotwords.lexicon.texts[token] for token in ids]
    text = "".join(texts)
    ends = list(accumulate(map(len, texts), initial=0))
    tokens = {end: index for index, end in enumerate(ends)}  # the last of those that end in one place
    after = 0
    for first, begin in enumerate(ends[:-1]):
        if (
            first < after
            or not texts[first]
            or not (begin == 0 or begins_word(text[begin - 1]) or is_unspaced(text[begin]))
        ):
            continue
        end, written, may_go_on = hotwords.longest(text, begin)
        stop = tokens[end] if end > begin else first
        yield first, stop, written, may_go_on
        after = stop


def _moved(found: Sequence[TokenWord], by: int) -> list[TokenWord]:
    return [word.moved(by) for word in found]


def _is_plain(written: str) -> bool:
    """Say whether a term looks like other words: then it is marked and gets capitals like them."""
    return all(character.islower() or is_unspaced(character) or character in " '" for character in written)


def _spelled(written: str, plain: Sequence[TokenWord]) -> list[TokenWord]:
    """Write a term word by word, where it has as many as were said, else as one."""
    parts = written.split()
    if len(parts) != len(plain):
        return [TokenWord(" ".join(parts), plain[0].first, plain[-1].stop, kept=True)]
    return [TokenWord(part, word.first, word.stop, kept=True) for part, word in zip(parts, plain, strict=True)]
