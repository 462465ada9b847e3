"""Mandarin numbers as people write them: runs of numerals, and what stands around them."""

from __future__ import annotations

import re
from collections.abc import Callable

from parastream.model.spans import Written

_DIGITS = {"零": 0, "〇": 0, "幺": 1, "两": 2, "兩": 2, **{digit: i for i, digit in enumerate("一二三四五六七八九", 1)}}
_POWERS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_POINT = "点點"

_D = "零〇幺一二三四五六七八九两兩"
_N = f"{_D}十百千万萬亿億"
_RUN = re.compile(f"(?<![{_N}])[{_D}十][{_N}]*")

_IDIOMS = re.compile(
    """
    十分(?![钟鐘之零一二三四五六七八九]) | 十(?:字|足|佳|恶不赦|全十美|里|堰|有八九|拿九稳|万火急|年树木|面埋伏)
    | 十一(?=黄金周|假期|长假|小长假|期间|放假) | (?<=双)十一 | (?<=国庆节)十一 | (?<=国庆)十一
    | 一五一十 | 二百五(?!十) | 三七二十一 | 七七八八 | 三三两两 | 三三五五 | 三六九等 | 一二九运动 | 九一八事变
    | 一二三(?![零一二三四五六七八九]) | 一千零一夜 | 三十而立 | 四十不惑
    | (?:(?<=初)|(?<=正月)|(?<=腊月))[一二三四五六七八九十]+
    """,
    re.VERBOSE,
)
"""What holds numerals and is no number."""
_ABOUT = ("一二", "二三", "三四", "四五", "五六", "六七", "七八", "八九", "三五")
"""Two digits that mean "about"."""
_LABEL = re.compile("(?:号码|密码|尾号|编号|代码|电话|房间|房间号|教室|航班|车次|单元|频道|[Nn][Oo])(?:是|为)?$")
_NOON = re.compile("(?:上午|下午|中午|早上|早晨|晚上|凌晨|傍晚|半夜|深夜|夜里|清晨|[今明昨][晚早])$")
_AFTER_HOUR = re.compile(
    "半(?!点)|整|[钟鐘]|[一三]刻|左右|[之以][前后]|前|开始|出发|见|集合|开会|[开关]门|到(?:[一二三四五六七八九十两]|$)"
)
_SCORE = re.compile("(?:比分|以|战胜|击败|领先|落后|战平|大胜|赢|输)[^，。]{0,4}$")
_LITTLE = re.compile("[有这那早快慢多少大小晚好差近远高低]$")
"""Before `一点`: a little."""
_ONE_AND = re.compile("一[直定样起般切下些共旦向次个条种]")
_DECIMAL = re.compile("(?:[点點][零〇一二三四五六七八九]+)+(?![十百千零〇一二三四五六七八九]|分(?!钟|之)|刻)")


def value(numeral: str) -> int | None:
    """Return what a numeral with powers of ten is worth: `三千五` is 3500; None if it is no such numeral."""
    large = middle = section = digit = 0  # what 亿 and 万 have closed, and what is open
    last_power, unit = 10**4, 10
    waiting = False  # a digit for its power
    for char in numeral:
        if char in _DIGITS:
            if waiting and digit:
                return None
            digit, waiting = _DIGITS[char], True
            continue
        if char in _POWERS:
            unit = _POWERS[char]
            if unit >= last_power or (unit > 10 and not digit):
                return None
            section += (digit or 1) * unit
            last_power = unit
        elif _MYRIADS[char] == 10**4:
            section, unit = section + digit, 10**4
            if middle or not section:
                return None
            middle, section, last_power = section * unit, 0, 10**4
        else:
            section, unit = section + digit, 10**8
            if large or not middle + section:
                return None
            large, middle, section, last_power = (middle + section) * unit, 0, 0, 10**4
        digit, waiting = 0, False
    short = numeral[-2:-1] in ("百", "千", *_MYRIADS)  # `一万二`
    return large + middle + section + digit * (unit // 10 if short else 1)


def _is_spelled(numeral: str) -> bool:
    """Say whether digits are read one by one."""
    return all(char in _DIGITS and char not in "两兩" for char in numeral)


def _digits(numeral: str) -> str:
    return "".join(str(_DIGITS[char]) for char in numeral)


def _plain(numeral: str) -> str | None:
    """Write a number, whose last 万 or 亿 stays; None if it is none: `七八十` means "about"."""
    if len(numeral) > 1 and all(char in _DIGITS for char in numeral):
        return None
    myriad = numeral[-1] if numeral[-1] in _MYRIADS and len(numeral) > 1 else ""
    number = value(numeral)
    if number is None:
        return None
    if not myriad:
        return f"{number}"
    head = numeral[:-1]
    if "亿" in head or "億" in head:  # `一亿两千万`
        return f"{number / 10**8:.4f}".rstrip("0").rstrip(".") + ("亿" if "亿" in head else "億")
    return f"{_plain(head)}{myriad}"


class _Place:
    """A run of numerals in its text."""

    def __init__(self, text: str, match: re.Match[str]) -> None:
        self.first, self.stop = match.span()
        if (
            match[0][-1] == "千"
            and value(match[0]) is None
            and text[self.stop : self.stop + 1] in ("米", "克", "瓦", "卡")
        ):
            self.stop -= 1  # of a unit
        self.numeral = text[self.first : self.stop]
        self.before, self.after = text[: self.first], text[self.stop :]
        self.spelled = _is_spelled(self.numeral)
        self.value = None if self.spelled and len(self.numeral) > 1 else value(self.numeral)

    @property
    def text(self) -> str | None:
        """The run, written: its digits, or the number."""
        return _digits(self.numeral) if self.spelled else _plain(self.numeral)

    def written(self, text: str | None = None, *, before: int = 0, after: int = 0) -> Written | None:
        """Return the written form, which may take characters on both sides."""
        text = self.text if text is None else text
        return None if text is None else Written(text, self.first - before, self.stop + after)


def find(text: str) -> list[Written]:
    """Find the numbers in Mandarin text.

    Returns:
        Their written forms, with ranges of characters, in order.
    """
    kept = [match.span() for match in _IDIOMS.finditer(text)]
    found: list[Written] = []
    place = 0
    while match := _RUN.search(text, place):
        idiom = next((stop for first, stop in kept if first <= match.start() < stop), None)
        written = None if idiom else _write(_Place(text, match))
        if written is not None:
            found.append(written)
        place = max(match.end(), written.stop if written is not None else 0)
    return found


def _write(run: _Place) -> Written | None:
    if run.before[-1:] in ("几", "幾", "数", "數", "好") or run.after[:1] in ("几", "幾"):
        return None
    for rule in _RULES:
        written = rule(run)
        if written is not None:
            return written
    return None


def _share(run: _Place) -> Written | None:
    """Write `百分之三点五`, and `三分之二`."""
    for words, sign in (("百分之", "%"), ("千分之", "‰")):
        if run.before.endswith(words):
            number = _decimal(run) or run.written()
            return number and Written(number.text + sign, number.first - len(words), number.stop)
    match = re.match(f"分之([{_N}]+)", run.after)
    if match is None or run.value is None:
        return None
    above = value(match[1])
    return run.written(f"{above}/{run.value}", after=match.end()) if above is not None and run.value > 1 else None


def _decimal(run: _Place) -> Written | None:
    """Write `三点一四`, `三点二点一`; `三点半` and `一点一直` are others."""
    match = _DECIMAL.match(run.after)
    if match is None or run.value is None or _NOON.search(run.before):
        return None
    if match[0][1:] == "一" and (_ONE_AND.match(run.after[1:]) or _LITTLE.search(run.before)):
        return None
    behind = "".join("." if char in _POINT else str(_DIGITS[char]) for char in match[0])
    return run.written(f"{run.value}{behind}", after=match.end())


def _date(run: _Place) -> Written | None:
    """Write years, months and days."""
    follows, number = run.after[:1], run.value
    if follows == "年" and run.spelled and len(run.numeral) in (2, 4):
        return run.written() if run.numeral not in _ABOUT else None
    if follows == "月" and number is not None and 1 <= number <= 12:
        return run.written()
    if follows in ("日", "号", "號") and number is not None and (follows != "日" or run.before.endswith("月")):
        return run.written()
    return None


def _time(run: _Place) -> Written | None:
    """Write the hours before `点`, and minutes below ten before `分`."""
    if run.before[-1:] in (*_POINT,) and run.after[:1] == "分" and not run.after.startswith("分之"):
        return run.written()
    if run.after[:1] not in (*_POINT,) or run.value is None or run.value > 24:
        return None
    after = run.after[1:]
    minutes = re.match("[零一二三四五六七八九]?十|零?[一二三四五六七八九]分(?!之)", after)
    if _NOON.search(run.before) or minutes or (_AFTER_HOUR.match(after) and not _LITTLE.search(run.before)):
        return run.written()
    return None


def _temperature(run: _Place) -> Written | None:
    """Write `三十七度二` and `零下五度`."""
    if run.after[:1] != "度" or run.value is None:
        return None
    match = re.match("度([一二三四五六七八九])(?![十百千个位次分])", run.after)
    if match is not None and run.value >= 10:
        return run.written(f"{run.value}.{_DIGITS[match[1]]}度", after=match.end())
    return run.written() if run.before.endswith("零下") else None


def _negative(run: _Place) -> Written | None:
    if not run.before.endswith("负") or run.before.endswith("胜负"):
        return None
    number = _decimal(run) or run.written()
    return number and Written(f"-{number.text}", number.first - 1, number.stop)


def _score(run: _Place) -> Written | None:
    """Write `比分是三比二`."""
    match = re.match(f"比([{_N}]+)", run.after)
    if match is None or run.value is None or not _SCORE.search(run.before):
        return None
    other = value(match[1])
    return run.written(f"{run.value}:{other}", after=match.end()) if other is not None else None


def _named(run: _Place) -> Written | None:
    """Write digits that are read one by one: telephone numbers, rooms; `八零后`, `八五折`; `五G`."""
    if len(run.numeral) == 1:
        return run.written() if re.match("[GgDdKk](?![A-Za-z])", run.after) and run.spelled else None
    if not run.spelled:
        return None
    known = re.match("后|後|折", run.after) or _LABEL.search(run.before)
    return run.written() if len(run.numeral) >= 3 or (known and run.numeral not in _ABOUT) else None


def _number(run: _Place) -> Written | None:
    """Write any number from ten on."""
    return run.written() if run.value is not None and run.value >= 10 else None


_RULES: tuple[Callable[[_Place], Written | None], ...] = (
    _share,
    _negative,
    _temperature,
    _decimal,
    _date,
    _time,
    _score,
    _named,
    _number,
)
"""In the order in which they are tried."""
