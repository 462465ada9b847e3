"""English numbers as people write them: rules over words, tried one after the other at each word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parastream.model.itn.numerals import (
    DECADES,
    DIGITS,
    NUMBER_WORDS,
    ORDINALS,
    REPEATS,
    SCALES,
    TEENS,
    TENS,
    UNITS,
    at,
    below_hundred,
    cardinal,
    ordinal,
    spelled_digits,
)
from parastream.model.spans import Written

_MARKS = "\"'“”‘’«»()[],;:?!…"
_WORD = re.compile(rf"([{re.escape(_MARKS)}.]*)(.*?)([{re.escape(_MARKS)}.]*)", re.DOTALL)
_LITERAL = re.compile(r"\d{1,3}(,\d{3})*(\.\d+)?|\d+(\.\d+)?")
_COMPOUND = re.compile(rf"({'|'.join(TENS)})-(\w+)|(half)-(past)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MONTHS = _words("january february march april may june july august september october november december")
_VERBS_TOO = ("march", "may")
_CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
_LABELS = _words("""
    number code room zip apartment pin extension flight line channel gate page chapter version highway route suite unit
    platform bus train terminal enter call phone dial
    """)
"""What numbers are the names of; "room two oh four" is digits."""
_NUMBERED = _words("apartment room gate flight platform chapter page version channel terminal suite extension")
"""Those of them whose numbers are written as digits even below ten."""
_BEFORE_TIME = _words("at by until till before after around since from between is it's")
_AFTER_TIME = _words("tonight tomorrow today yesterday sharp train bus flight")
_BEFORE_DAY = _words("on by until till before after since from to in of and is this next last noon")
_BEFORE_ADDRESS = _words("to is at email mail address contact write")
_NEVER_A_NAME = _words("look looks me us it them go visit see find here there available out now back")
_DOMAINS = _words("com org net edu gov io ai dev app info uk de fr eu ca au cn jp ch")
_NOONS = ("am", "pm", "a.m", "p.m")
_BEGINNINGS = frozenset(
    [*NUMBER_WORDS, *ORDINALS, *REPEATS, *_MONTHS, "a", "half", "quarter", "minus", "negative", "oh", "o", "point"]
)
"""Words with which all that is written in another way begins, but for addresses."""
_VAGUE = ("something", "odd", "tens", "hundreds")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Words from `first` to `stop`, written as `text`; None where they stay as they are."""

    text: str | None
    first: int
    stop: int


_Rule = Callable[[Sequence[str], int], list[_Piece] | None]


def normalise(words: Sequence[str]) -> list[Written]:
    """Write the numbers among English words; see `parastream.model.itn.normalise`."""
    written: list[Written] = []
    begin = 0
    for place, word in enumerate(words):
        before, core, after = _parts(word)
        if before and place > begin:
            written += _phrase(words, begin, place)
            begin = place
        if after or not core:
            written += _phrase(words, begin, place + 1)
            begin = place + 1
    return written + _phrase(words, begin, len(words))


def _parts(word: str) -> tuple[str, str, str]:
    """Cut the marks at both ends off a word; a full stop within `p.m.` is one, too."""
    match = _WORD.fullmatch(word)
    assert match is not None
    return match[1], match[2], match[3]


def _phrase(words: Sequence[str], begin: int, end: int) -> list[Written]:
    """Write the words between two marks."""
    tokens: list[str] = []
    of: list[int] = []  # the word that each token belongs to
    for place in range(begin, end):
        core = _parts(words[place])[1].lower()
        compound = _COMPOUND.fullmatch(core)
        parts = [part for part in compound.groups() if part] if compound else [core]
        tokens += parts
        of += [place] * len(parts)
    written: list[Written] = []
    for piece in _pieces(tokens):
        first, stop = of[piece.first], of[piece.stop - 1] + 1
        cut = (piece.first > 0 and of[piece.first - 1] == first) or (
            piece.stop < len(of) and of[piece.stop] == stop - 1
        )
        if piece.text is None or cut:
            done = written[-1].stop if written else begin
            written += [Written(words[place], place, place + 1) for place in range(max(first, done), stop)]
        else:
            text = _parts(words[first])[0] + piece.text + _parts(words[stop - 1])[2]
            written.append(Written(text, first, stop))
    return written


def _pieces(words: Sequence[str]) -> Iterator[_Piece]:
    place = 0
    addressed = "dot" in words
    while place < len(words):
        found: list[_Piece] | None = None
        if addressed or words[place] in _BEGINNINGS or words[place][:1].isdigit():
            found = next((pieces for rule in _RULES if (pieces := rule(words, place))), None)
        found = found or _kept(place, place + 1)
        yield from found
        place = found[-1].stop


def _kept(first: int, stop: int) -> list[_Piece]:
    return [_Piece(None, place, place + 1) for place in range(first, stop)]


def _is_number(word: str) -> bool:
    return word in NUMBER_WORDS or bool(_LITERAL.fullmatch(word))


# --- addresses ---------------------------------------------------------------------------------------


def _dotted(words: Sequence[str], place: int) -> tuple[str, int]:
    """Read "john dot smith": a name, and further ones behind dots, dashes and underscores."""
    signs = {"dot": ".", "dash": "-", "hyphen": "-", "underscore": "_"}
    text, place = at(words, place), place + 1
    while at(words, place) in signs and at(words, place + 1):
        text, place = text + signs[words[place]] + words[place + 1], place + 2
    return text, place


def _address(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "info at example dot com", or the name of a site."""
    name, stop = _dotted(words, place)
    if at(words, stop) == "at" and name not in _NEVER_A_NAME:
        host, end = _dotted(words, stop + 1)
        certain = (
            stop > place + 1 or at(words, place - 1) in _BEFORE_ADDRESS or at(words, place - 2) in ("email", "mail")
        )
        if certain and host.rpartition(".")[2] in _DOMAINS and "." in host:
            return [_Piece(f"{name}@{host}", place, end)]
    if stop > place + 1 and name.rpartition(".")[2] in _DOMAINS:
        return [_Piece(name, place, stop)]
    return None


# --- dates and times ---------------------------------------------------------------------------------


def _year(words: Sequence[str], place: int) -> tuple[int, int] | None:
    """Read a year: two pairs of digits, or a number of thousands."""
    pair = _pair(words, place)
    if pair is not None and 10 <= pair.first <= 21:
        return pair.value, pair.stop
    number = cardinal(words, place)
    return number if number is not None and 1000 <= number[0] <= 2999 else None


def _date(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "march fifth twenty twenty four", or the year behind a month."""
    if words[place] not in _MONTHS:
        return None
    begin = place + 1
    day = ordinal(words, begin + (at(words, begin) == "the"))
    certain = words[place] not in _VERBS_TOO or at(words, place - 1) in ("", *_BEFORE_DAY)
    if day is None and _pair(words, begin) is None:
        day = below_hundred(words, begin)
    elif day is None:
        day = _day_before_year(words, begin)
    if day is not None and day[0] <= 31:
        year = _year(words, day[1])
        if year is not None:
            return [
                _Piece(None, place, begin),
                _Piece(f"{day[0]},", begin, day[1]),
                _Piece(f"{year[0]}", day[1], year[1]),
            ]
        if certain and at(words, day[1]) not in ("hundred", *SCALES):
            return [_Piece(None, place, begin), _Piece(f"{day[0]}", begin, day[1])]
        return None
    year = _year(words, begin)
    return [_Piece(None, place, begin), _Piece(f"{year[0]}", begin, year[1])] if year is not None else None


def _day_before_year(words: Sequence[str], place: int) -> tuple[int, int] | None:
    """Read "fourteen" in "fourteen nineteen sixty seven"."""
    day = below_hundred(words, place)
    if day is not None and day[0] <= 31 and _year(words, day[1]) is not None:
        return day
    return None


def _day_of_month(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "third" in "the third of june"."""
    day = ordinal(words, place)
    if day is None or day[0] > 31 or at(words, day[1]) != "of" or at(words, day[1] + 1) not in _MONTHS:
        return None
    return [_Piece(_suffixed(day[0]), place, day[1])] if at(words, place - 1) in ("the", "on", "") else None


def _clock(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "half past six", "a quarter to nine", "twenty past four"."""
    begin = place + (words[place] == "a" and at(words, place + 1) == "quarter")
    if at(words, begin) in ("half", "quarter"):
        minutes, stop = (30 if words[begin] == "half" else 15), begin + 1
    else:
        number = below_hundred(words, begin)
        if number is None or number[0] not in (5, 10, 20, 25):
            return None
        minutes, stop = number
        stop += at(words, stop) == "minutes"
    way, hour = at(words, stop), below_hundred(words, stop + 1)
    if way not in ("past", "to") or hour is None or hour[0] > 12 or _is_number(at(words, hour[1])):
        return None
    if way == "to" and (minutes == 30 or (minutes != 15 and at(words, place - 1) not in ("at", "is", "it's"))):
        return None
    text = f"{hour[0]}:{minutes:02d}" if way == "past" else f"{(hour[0] - 2) % 12 + 1}:{60 - minutes}"
    return [_Piece(text, place, hour[1]), *_noon(words, hour[1])]


def _noon(words: Sequence[str], place: int) -> list[_Piece]:
    """Read what says whether a time is before noon."""
    if at(words, place) in ("a", "p") and at(words, place + 1) == "m":
        return [_Piece(f"{words[place]}m", place, place + 2)]
    return _kept(place, place + 1) if at(words, place) in _NOONS else []


def _hour(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "seven p m", "eleven o'clock"."""
    hour = below_hundred(words, place)
    if hour is None or hour[0] > 12:
        return None
    rest = _noon(words, hour[1])
    if at(words, hour[1]) == "o'clock":
        rest = [*_kept(hour[1], hour[1] + 1), *_noon(words, hour[1] + 1)]
    return [_Piece(f"{hour[0]}", place, hour[1]), *rest] if rest else None


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two numbers that are said one behind the other: "nineteen eighty four", "six thirty", "one oh five"."""

    first: int
    second: int
    stop: int

    @property
    def value(self) -> int:
        return self.first * 100 + self.second

    @property
    def digits(self) -> str:
        return f"{self.first}{self.second:02d}"

    @property
    def time(self) -> str:
        return f"{self.first}:{self.second:02d}"


def _pair(words: Sequence[str], place: int) -> _Pair | None:
    first = below_hundred(words, place)
    if first is None:
        return None
    if at(words, first[1]) in ("oh", "o"):
        unit = UNITS.get(at(words, first[1] + 1))
        second = (unit, first[1] + 2) if unit else None
    else:
        second = below_hundred(words, first[1])
        second = second if second is not None and second[0] >= 10 else None
    if second is None or at(words, second[1]) in ("hundred", "point", *SCALES) or at(words, second[1]) in DIGITS:
        return None
    return _Pair(first[0], second[0], second[1])


def _two_numbers(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Decide whether two numbers in a row are a time, a year, digits or none of these."""
    pair = _pair(words, place)
    if pair is None:
        return None
    before, after = at(words, place - 1), at(words, pair.stop)
    noon = _noon(words, pair.stop)
    named = before in _LABELS or (before in ("is", "was") and at(words, place - 2) in _LABELS)
    ends = after in _CURRENCIES or after in ("percent", "cents")
    is_time = pair.second < 60 and not ends
    if noon and pair.first <= 12 and is_time:
        return [_Piece(pair.time, place, pair.stop), *noon]
    if named or (after == "degrees" and pair.first <= 9):
        return [_Piece(pair.digits, place, pair.stop)]
    if before in ("cost", "costs") and not ends:
        return [_Piece(f"{pair.first}.{pair.second:02d}", place, pair.stop)]
    is_hour = pair.first <= 12 and before not in ("in", "year", *_MONTHS)
    cued = before in _BEFORE_TIME or after in _AFTER_TIME or (after == "in" and at(words, pair.stop + 1) == "the")
    cued = cued or (before == "and" and pair.second % 5 == 0 and "between" in words[max(0, place - 5) : place])
    if is_time and ((is_hour and (cued or (pair.first >= 10 and pair.second % 5 == 0))) or _is_afternoon(before, pair)):
        return [_Piece(pair.time, place, pair.stop)]
    if 10 <= pair.first <= 21 and not ends:
        return [_Piece(f"{pair.value}", place, pair.stop)]
    middle = place + (2 if pair.first % 10 else 1)
    if pair.first > 21 and pair.second >= 10 and pair.first + pair.second != 100:  # but "fifty fifty", "eighty twenty"
        return [_Piece(f"{pair.first}", place, middle), _Piece(f"{pair.second}", middle, pair.stop)]
    return None if pair.second < 10 else _kept(place, pair.stop)  # "one oh one" is spelled


def _row(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read three numbers or more in a row, "ten twenty seven sixty two": each one is written."""
    row: list[_Piece] = []
    while (number := below_hundred(words, place)) is not None and at(words, number[1]) not in ("hundred", *SCALES):
        row.append(_Piece(f"{number[0]}", place, number[1]))
        place = number[1]
    if len(row) < 3 or all(each.text is not None and len(each.text) == 1 for each in row):
        return None
    if len(row) == 3 and _year(words, row[1].first) is not None:  # "fourteen nineteen sixty seven"
        return None
    if at(words, row[0].first - 1) in ("in", "since"):
        return None
    if at(words, row[0].first - 1) in _LABELS:
        return [_Piece("".join(each.text or "" for each in row), row[0].first, place)]
    return row


def _is_afternoon(before: str, pair: _Pair) -> bool:
    return before == "at" and 13 <= pair.first <= 23


# --- numbers -----------------------------------------------------------------------------------------


def _digits(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read digits that are said one by one; seven, ten and eleven are a telephone's."""
    begin = place + (words[place] in ("oh", "o"))  # "oh two oh seven …"
    digits, stop = spelled_digits(words, begin)
    if begin > place:
        if len(digits) < 6:
            return None
        digits = f"0{digits}"
    for longer, end in _with_pairs(words, digits, stop):
        if len(longer) in (7, 10, 11):
            digits, stop = longer, end
    grouped = "hundred" in words[place:stop]
    before = at(words, place - 1)
    letter = len(before) == 1 and before not in "aio"
    if len(digits) == 3 and words[begin + 1] in ("oh", "o") and (before in _BEFORE_TIME or _noon(words, stop)):
        return None  # "at seven oh five"
    if len(digits) < (2 if before in _LABELS or letter else 3) or (grouped and len(digits) not in (7, 10, 11)):
        return None
    if len(digits) == 7 and digits[0] != "0":
        digits = f"{digits[:3]}-{digits[3:]}"
    elif (len(digits) == 10 and digits[0] != "0") or (len(digits) == 11 and digits[0] == "1"):
        digits = "-".join(part for part in (digits[:-10], digits[-10:-7], digits[-7:-4], digits[-4:]) if part)
    return [_Piece(digits, place, stop)]


def _with_pairs(words: Sequence[str], digits: str, place: int) -> Iterator[tuple[str, int]]:
    """Yield the digits with each of the numbers behind them: "five five five, twelve thirty four"."""
    while len(digits) >= 3 and (number := below_hundred(words, place)) is not None:
        digits, place = f"{digits}{number[0]}", number[1]
        yield digits, place


def _suffixed(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return f"{number:,}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _ordinal(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read an ordinal from the tenth on; a "twenty second break" lasts for seconds."""
    found = ordinal(words, place)
    if found is None:
        return None
    value, stop = found
    before = at(words, place - 1)
    if words[stop - 1] == "second" and stop - place > 1 and before in ("a", "each", "every", "another", "per"):
        return [_Piece(f"{value - 2}", place, stop - 1), *_kept(stop - 1, stop)]
    fraction = before in ("a", "one") and words[place] not in TENS
    return [_Piece(_suffixed(value), place, stop)] if value >= 10 and not fraction else _kept(place, stop)


def _decade(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "nineteen sixties"."""
    century = TEENS.get(words[place]) or TENS.get(words[place])
    decade = DECADES.get(at(words, place + 1))
    return [_Piece(f"{century}{decade}s", place, place + 2)] if century and decade else None


def _grouped(number: int, least: int = 10_000) -> str:
    return f"{number:,}" if number >= least else f"{number}"


@dataclass(frozen=True, slots=True)
class _Amount:
    """A number with its sign and decimals, and a scale that stays a word."""

    text: str
    value: int
    first: int
    stop: int
    """Where the words of the number stop."""
    scale: str = ""
    """ "million" where it follows and is not part of the number."""

    @property
    def end(self) -> int:
        return self.stop + bool(self.scale)

    def pieces(self, before: str = "", behind: str = "", taken: int = 0) -> list[_Piece]:
        """Write it with a sign before it, and one behind it; words behind it are taken by the signs."""
        text, end = before + self.text, self.end + taken
        if self.text.startswith("-"):
            text = f"-{before}{self.text[1:]}"
        if not self.scale:
            return [_Piece(text + behind, self.first, end)]
        return [_Piece(text, self.first, self.stop), _Piece(self.scale + behind, self.stop, end)]


def _amount(words: Sequence[str], place: int) -> _Amount | None:
    first = place
    signed = words[place] in ("minus", "negative") and not _is_number(at(words, place - 1))
    place += signed
    sign = "-" if signed else ""
    word = at(words, place)
    if _LITERAL.fullmatch(word):
        scale = at(words, place + 1) if at(words, place + 1) in SCALES else ""
        return _Amount(sign + word, 0, first, place + 1, scale)
    if word == "zero" or (word == "point" and at(words, place - 1) in ("is", "of", "by", "to", "about", "")):
        number: tuple[int, int] | None = (0, place + (word == "zero"))
    else:
        number = cardinal(words, place, across_and=_takes_and(words, place))
    if number is None:
        return None
    value, stop = number
    decimals, end = _decimals(words, stop)
    if decimals:
        scale = at(words, end) if at(words, end) in SCALES else ""
        return _Amount(f"{sign}{value}{decimals}", value, first, end, scale)
    if word in ("zero", "point") and (word == "point" or at(words, stop) not in ("percent", "degrees")) and not signed:
        return None
    if _has_half(words, value, stop):
        end = stop + 3
        return _Amount(
            f"{sign}{_grouped(value)}.5", value, first, end, at(words, end) if at(words, end) in SCALES else ""
        )
    scale = at(words, stop - 1)
    head = cardinal(words[: stop - 1], place) if scale in SCALES and scale != "thousand" else None
    if word == "a" and scale in SCALES and stop - place == 2:
        head = (1, stop - 1) if scale != "thousand" else None
    if head is not None and head[1] == stop - 1:
        return _Amount(f"{sign}{_grouped(head[0])}", value, first, stop - 1, scale)
    return _Amount(f"{sign}{_grouped(value)}", value, first, stop)


def _takes_and(words: Sequence[str], place: int) -> bool:
    """Say whether "and" may be part of a number: not if it separates two, as in "between a hundred and ninety"."""
    if at(words, place - 1) != "between":
        return True
    whole = cardinal(words, place)
    return whole is not None and at(words, whole[1]) == "and"


def _decimals(words: Sequence[str], place: int) -> tuple[str, int]:
    """Read "point two five", and "point twenty five" behind a number; versions have several."""
    text = ""
    while at(words, place) == "point":
        tens = below_hundred(words, place + 1) if _is_number(at(words, place - 1)) else None
        if at(words, place + 1) in DIGITS:
            text, place = f"{text}.", place + 1
            while at(words, place) in DIGITS and at(words, place + 1) not in ("hundred", "thousand"):
                text, place = text + DIGITS[words[place]], place + 1
        elif tens is not None and at(words, tens[1]) not in ("hundred", *SCALES):
            text, place = f"{text}.{tens[0]}", tens[1]
        else:
            break
    return text, place


def _has_half(words: Sequence[str], value: int, place: int) -> bool:
    """Say whether "and a half" follows a number that is written in digits with it."""
    if [at(words, place), at(words, place + 1), at(words, place + 2)] != ["and", "a", "half"]:
        return False
    return value >= 10 or at(words, place + 3) in ("percent", *SCALES)


def _unit(words: Sequence[str], amount: _Amount) -> list[_Piece] | None:
    """Write an amount with the sign of what it is an amount of."""
    unit, following = at(words, amount.end), at(words, amount.end + 1)
    if unit == "percent":
        return amount.pieces(behind="%", taken=1)
    if unit == "per" and following == "cent":
        return amount.pieces(behind="%", taken=2)
    if unit in _CURRENCIES:
        sign, place = _CURRENCIES[unit], amount.end + 1
        cents = below_hundred(words, place + (at(words, place) == "and"))
        counted = cents is not None and at(words, cents[1]) in ("cents", "cent")
        whole = amount.value > 0 and "." not in amount.text and not amount.scale
        text = _grouped(amount.value, 1000) if whole else amount.text
        if cents is not None and counted and whole:
            return [_Piece(f"{sign}{text}.{cents[0]:02d}", amount.first, cents[1] + 1)]
        if whole and not amount.text.startswith("-"):
            return [_Piece(f"{sign}{text}", amount.first, place)]
        return amount.pieces(before=sign, taken=1)
    return None


def _range(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "five to ten percent", "fourteen to seven", "ten or fifteen thousand": both ends in the same form."""
    low = _amount(words, place)
    if low is None or words[place] == "a" or at(words, low.end) not in ("to", "or"):
        return None
    middle = low.end
    high = _amount(words, middle + 1) if middle + 1 < len(words) else None
    if high is None or words[middle + 1] == "a" or _pair(words, middle + 1) is not None:
        return None
    if low.first + 1 == middle and low.value < 100 and at(words, high.stop - 1) in ("hundred", "thousand"):
        tail = words[high.stop - 1]
        if tail == "hundred" or high.value < 10_000:
            return _kept(place, high.stop)
        head = _Piece(f"{high.value // 1000}", middle + 1, high.stop - 1)
        return [*low.pieces(), *_kept(middle, middle + 1), head, *_kept(high.stop - 1, high.stop)]
    end = _unit(words, high) or high.pieces()
    money = at(words, high.end) in _CURRENCIES
    if max(low.value, high.value) < 10 and len(end) == 1 and not money and not (end[0].text or "").endswith("%"):
        return None
    return [*low.pieces(before=_CURRENCIES[words[high.end]] if money else ""), *_kept(middle, middle + 1), *end]


def _number(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read a number with its unit; a lone one below ten stays a word, except where it is the name of something."""
    amount = _amount(words, place)
    if amount is None:
        return None
    if at(words, amount.end) in _VAGUE or _is_tail(words, place):
        return _kept(place, amount.end)
    with_unit = _unit(words, amount)
    if with_unit is not None:
        return with_unit
    if words[place] == "a" and amount.end - place == 2:  # "a hundred times"
        return _kept(place, amount.end)
    if _LITERAL.fullmatch(words[place]):
        return _kept(place, amount.end)
    numbered = at(words, place - 1) in _NUMBERED and words[place] != "one"
    if amount.text.isdecimal() and amount.value < 10 and not numbered and not amount.scale:
        return _kept(place, amount.end)
    return amount.pieces()


def _is_tail(words: Sequence[str], place: int) -> bool:
    """Say whether a number goes on with one that says no number: "some hundred and fifty"."""
    place -= 1 + (at(words, place - 1) == "and")
    head = at(words, place - 1)
    return at(words, place) in ("hundred", *SCALES) and head != "a" and not _is_number(head)


def _all_day(words: Sequence[str], place: int) -> list[_Piece] | None:
    """Read "twenty four seven"."""
    if list(words[place : place + 3]) != ["twenty", "four", "seven"] or _is_number(at(words, place + 3)):
        return None
    return [_Piece("247" if at(words, place - 1) in _LABELS else "24/7", place, place + 3)]


_RULES: tuple[_Rule, ...] = (
    _address,
    _date,
    _day_of_month,
    _clock,
    _all_day,
    _hour,
    _digits,
    _row,
    _two_numbers,
    _ordinal,
    _decade,
    _range,
    _number,
)
"""In the order in which they are tried."""
