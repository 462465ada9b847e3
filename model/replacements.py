r"""Lists of what is to stand in place of what was heard: "wrong => right", a rule a line.

A rule's left side is one word or several, in any case; `/…/` holds regular expressions, one for each word: a blank in
it is where one word ends and the next begins. The right side is written as it stands; `\1` is the first group of the
expressions, `*` masks the words but for their first letters, and nothing removes them.

Where several rules fit, the longest match wins, then the rule that comes first. Words are read from left to right, so
what is decided about the beginning of a text does not change when the text grows, and `Replacements.apply` says how far
that is. Expressions are RE2's: whatever they are, they take linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby

import re2
from parastream.model.errors import ReplacementError
from parastream.model.text import is_unspaced, units

MAX_RULES = 1000
MAX_EXPRESSIONS = 100
_LONGEST = 500
"""Characters of a rule."""
_MEMORY = 1 << 17
"""Bytes that RE2 may take for an expression."""
_CACHED = 4096
"""Words behind others of which is remembered what fits them: a text that grows is read again and again."""
_MARKS = "\"'“”‘’«»()[]（）「」『』,.;:?!…，。；：？！、"
_SENTENCE_ENDS = ".?!…。？！"
_EDGES = re.compile(rf"([{re.escape(_MARKS)}]*)(.*?)([{re.escape(_MARKS)}]*)", re.DOTALL)
_GROUP = re.compile(r"\\(\d|\\)")


@dataclass(frozen=True, slots=True)
class Expression:
    """A regular expression for a whole word."""

    pattern: str
    compiled: re2._Regexp = field(compare=False, repr=False)

    @classmethod
    def read(cls, pattern: str) -> Expression:
        """Compile an expression, for words in any case.

        Raises:
            ReplacementError: it is none.
        """
        if not pattern:
            raise ReplacementError("an expression is empty; they look like `/colou?r/`")
        options = re2.Options()
        options.case_sensitive, options.log_errors, options.max_mem = False, False, _MEMORY
        try:
            return cls(pattern, re2.compile(pattern, options))
        except re2.error as error:
            reason = error.args[0].decode(errors="replace")
            raise ReplacementError(
                f"/{pattern}/ is no regular expression of RE2: {reason} (a blank ends the expression of a word)"
            ) from error

    def groups_in(self, word: str) -> tuple[str, ...] | None:
        """Return the groups, if it fits a word."""
        match = self.compiled.fullmatch(word) if word else None
        return None if match is None else tuple(group or "" for group in match.groups())


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to stand in place of some words."""

    words: tuple[str | Expression, ...]
    """In lower case; Chinese ones are single characters."""
    right: str
    line: str
    """As it was written."""

    @classmethod
    def read(cls, line: str) -> Rule:
        """Read a line of a list.

        Raises:
            ReplacementError: it is no rule.
        """
        if len(line) > _LONGEST:
            raise ReplacementError(f"a rule has {len(line)} characters; allowed are {_LONGEST}")
        left, arrow, right = (part.strip() for part in line.partition("=>"))
        if not arrow or not left:
            raise ReplacementError(f"{line.strip()!r} is no rule; rules look like `wrong => right`")
        words = tuple(_left(left))
        if not words:
            raise ReplacementError(f"{left!r} holds no word to replace")
        groups = sum(word.compiled.groups for word in words if isinstance(word, Expression))
        for number in _GROUP.findall(right):
            if number != "\\" and not 1 <= int(number) <= groups:
                raise ReplacementError(f"{right!r} names group {number}; {left!r} has {groups}")
        return cls(words, right, line.strip())


def _left(left: str) -> Iterator[str | Expression]:
    """Read the words of a left side."""
    patterns: list[str] = []  # between slashes
    for piece in left.split():
        if not patterns and not piece.startswith("/"):
            yield from units(_parts(piece)[1].casefold())
            continue
        patterns.append(piece if patterns else piece[1:])
        if not piece.endswith("/") or piece.endswith("\\/") or piece == "/":
            continue
        patterns[-1] = patterns[-1][:-1]
        for pattern in patterns:
            if len(patterns) > 1 and _has_alternatives(pattern):
                raise ReplacementError(
                    f"{pattern!r} has alternatives outside of brackets: each word has an expression of its own, so"
                    " alternatives of several words need a rule each"
                )
            yield Expression.read(pattern)
        patterns = []
    if patterns:
        raise ReplacementError(f"{left!r} begins an expression and does not end it; they look like `/colou?r/`")


def _has_alternatives(pattern: str) -> bool:
    """Say whether a pattern has a `|` outside of brackets."""
    depth = 0
    for char in re.sub(r"\\.|\[[^\]]*\]", "", pattern):
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return True
    return False


@dataclass(eq=False, slots=True)
class _Node:
    """What may follow some words that rules begin with."""

    literal: dict[str, _Node] = field(default_factory=dict)
    expressions: dict[Expression, _Node] = field(default_factory=dict)
    rule: int | None = None
    """The first rule that ends here."""

    @property
    def goes_on(self) -> bool:
        return bool(self.literal or self.expressions)

    def after(self, word: str) -> list[tuple[_Node, tuple[str, ...]]]:
        """Return what may follow a word as well, each with the groups of the expression that fits it."""
        exact = self.literal.get(word.casefold())
        found = [(node, expression.groups_in(word)) for expression, node in self.expressions.items()]
        fitting = [(node, groups) for node, groups in found if groups is not None]
        return fitting if exact is None else [(exact, ()), *fitting]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word, or a Chinese character of one, with the marks around it."""

    text: str
    begin: float
    """As in `Replaced`."""
    end: float
    before: str
    after: str

    @property
    def word(self) -> int:
        return int(self.begin)

    @property
    def ends_sentence(self) -> bool:
        return any(mark in _SENTENCE_ENDS for mark in self.after)

    @property
    def marked(self) -> str:
        return self.before + self.text + self.after


@dataclass(frozen=True, slots=True)
class Replaced:
    """A word that stands there now, and what of the words before it takes the place of."""

    text: str
    begin: float
    """Where it begins, counted in words: 2.5 is the middle of the third."""
    end: float


@dataclass(frozen=True, slots=True)
class _Match:
    first: int
    stop: int
    """One past the last unit."""
    rule: Rule
    groups: tuple[str, ...]


class Replacements:
    """A list of rules, ready for use; it does not change."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        """Put rules together; of two for the same words, the first counts."""
        self.rules = tuple(rules)
        self._root = _Node()
        for index, rule in enumerate(rules):
            node = self._root
            for word in rule.words:
                if isinstance(word, Expression):
                    node = node.expressions.setdefault(word, _Node())
                else:
                    node = node.literal.setdefault(word, _Node())
            node.rule = index if node.rule is None else node.rule
        self._after = lru_cache(_CACHED)(_Node.after)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Replacements) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    @classmethod
    def read(cls, lines: Iterable[str], *, where: str = "") -> Replacements:
        """Read the lines of a list; blank ones, and those that begin with `#`, say nothing.

        Raises:
            ReplacementError: a line is no rule, or there are too many. `where` and the line's number begin the message.
        """
        rules = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    rules.append(Rule.read(line))
                except ReplacementError as error:
                    raise ReplacementError(f"{where}line {number}: {error}") from error
        expressions = sum(isinstance(word, Expression) for rule in rules for word in rule.words)
        for count, most, what in (
            (len(rules), MAX_RULES, "rules"),
            (expressions, MAX_EXPRESSIONS, "regular expressions"),
        ):
            if count > most:
                raise ReplacementError(f"{where}there are {count} {what}; allowed are {most}")
        return cls(rules)

    @classmethod
    def of(cls, lines: Iterable[str]) -> Replacements:
        """Make the list anew from its `lines`."""
        return cls([Rule.read(line) for line in lines])

    @property
    def lines(self) -> list[str]:
        """The rules as they were written."""
        return [rule.line for rule in self.rules]

    def __reduce__(self) -> tuple[Callable[[list[str]], Replacements], tuple[list[str]]]:
        """Have it pickled as what was written."""
        return Replacements.of, (self.lines,)

    def before(self, other: Replacements) -> Replacements:
        """Return this list with another behind it."""
        return Replacements(self.rules + other.rules) if self and other else self or other

    def apply(self, words: Sequence[str], settled: int | None = None) -> tuple[list[Replaced], int]:
        """Replace words.

        Args:
            words: Spelled as they are, with marks and capitals or without.
            settled: How many of them cannot change any more; all if left out.

        Returns:
            The words that stand there now, and how many of these cannot change, whatever comes behind the settled ones.
        """
        text = [unit for place, word in enumerate(words) for unit in _units(word, place)]
        known = sum(unit.word < settled for unit in text) if settled is not None else len(text) + 1
        matches: list[_Match] = []
        certain: int | None = None
        place = 0
        while place < len(text):
            match, seen = self._longest(text, place)
            if certain is None and seen > known:
                certain = place
            if match is not None:
                matches.append(match)
            place = match.stop if match is not None else place + 1
        return _put_together(words, text, matches, len(text) if certain is None else certain, marked=settled is None)

    def _longest(self, text: Sequence[_Unit], first: int) -> tuple[_Match | None, int]:
        """Return the match that begins with a unit, and how many units had to be known to find it or none."""
        active: list[tuple[_Node, tuple[str, ...]]] = [(self._root, ())]
        best: _Match | None = None
        place = first
        while True:
            active = [(node, groups) for node, groups in active if node.goes_on]
            if not active or (place > first and text[place - 1].ends_sentence):
                return best, place
            if place == len(text):
                return best, place + 1
            unit = text[place]
            place += 1
            following: dict[_Node, tuple[str, ...]] = {}
            for node, groups in active:
                for after, found in self._after(node, unit.text):
                    following.setdefault(after, groups + found)
            active = list(following.items())
            ended = [(node.rule, groups) for node, groups in active if node.rule is not None]
            if ended:
                rule, groups = min(ended)
                best = _Match(first, place, self.rules[rule], groups)


def _parts(word: str) -> tuple[str, str, str]:
    """Cut the marks at both ends off a word."""
    match = _EDGES.fullmatch(word)
    assert match is not None
    return match[1], match[2], match[3]


def _units(word: str, place: int) -> Iterator[_Unit]:
    before, core, after = _parts(word)
    pieces = units(core) or [""]
    for index, piece in enumerate(pieces):
        first, last = index == 0, index == len(pieces) - 1
        begin, end = place + index / len(pieces), place + (index + 1) / len(pieces)
        yield _Unit(piece, begin, end, before if first else "", after if last else "")


def _put_together(
    words: Sequence[str], text: Sequence[_Unit], matches: Sequence[_Match], certain: int, *, marked: bool
) -> tuple[list[Replaced], int]:
    out: list[Replaced] = []
    counted = place = 0
    capital = False  # the beginning of a sentence was removed
    for match in [*matches, None]:
        stop = len(text) if match is None else match.first
        while place < stop:
            unit = text[place]
            end = next((at for at in range(place, len(text)) if text[at].end == unit.word + 1), len(text) - 1) + 1
            if unit.begin == unit.word and end <= stop:
                kept = Replaced(words[unit.word], float(unit.word), float(unit.word + 1))
            else:
                kept, end = Replaced(unit.marked, unit.begin, unit.end), place + 1
            if capital:
                kept = replace(kept, text=kept.text[:1].upper() + kept.text[1:])
            out.append(kept)
            capital, place = False, end
            counted = len(out) if place <= certain else counted
        if match is not None:
            there = text[match.first : match.stop]
            texts = _right(match, [unit.text for unit in there])
            if texts:
                texts = [there[0].before + texts[0], *texts[1:]]
                texts[-1] += there[-1].after
            elif out and marked and there[-1].ends_sentence:
                out[-1] = replace(out[-1], text=out[-1].text.rstrip(_MARKS) + there[-1].after)
            capital = not texts and (capital or _is_capitalised(there[0].text))
            begin, length = there[0].begin, there[-1].end - there[0].begin
            cuts = [begin + length * index / len(texts) for index in range(len(texts))] + [there[-1].end]
            out += [Replaced(each, cuts[index], cuts[index + 1]) for index, each in enumerate(texts)]
            place = match.stop
            counted = len(out) if place <= certain else counted
    return out, counted


def _is_capitalised(word: str) -> bool:
    return word[:1].isupper() and (len(word) == 1 or not word.isupper()) and word != "I"


def _right(match: _Match, heard: Sequence[str]) -> list[str]:
    """Return the words that take the place of those that were heard."""
    right = match.rule.right
    if right == "*":
        runs = ("".join(run) for _, run in groupby(heard, key=lambda word: is_unspaced(word[0]) or word))
        return [run[0] + "*" * (len(run) - 1) for run in runs]
    text = _GROUP.sub(lambda found: "\\" if found[1] == "\\" else match.groups[int(found[1]) - 1], right)
    if text.islower() and _is_capitalised(heard[0]):
        text = text[:1].upper() + text[1:]
    return text.split()
