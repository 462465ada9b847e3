"""Hotwords as clients of other servers write them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from parastream.model import hotwords
from parastream.model.errors import HotwordError
from parastream.server.wire.messages import Hotword

_FUNASR_WEIGHT = 20.0
"""The usual weight of FunASR's hotwords."""
_LEAST, _LARGEST = 0.5, 2.0
"""Weights that are of use: others' scales are steeper."""
_LONGEST_TERM = 4
"""Words of a term in a prompt; more are a sentence."""
_SEPARATORS = re.compile(r"[,;\n，；、]+")


def usable(given: Iterable[Hotword], room: int = hotwords.MOST) -> tuple[Hotword, ...]:
    """Return the hotwords that can be listened for, at most `room` of them: others' clients expect no refusal."""
    found: dict[str, Hotword] = {}
    for each in given:
        with contextlib.suppress(HotwordError):
            hotwords.Hotword(each.term, each.weight, each.sounds_like)
            found[each.term] = each
    return tuple(found.values())[: max(0, room)]


def plain(terms: Iterable[Any]) -> Iterator[Hotword]:
    """Yield terms without weights; what is no string is left out."""
    return (Hotword(term.strip()) for term in terms if isinstance(term, str))


def of_funasr(value: Any) -> Iterator[Hotword]:
    """Yield FunASR's hotwords: an object of weights (20 is usual), also as JSON in a string; lines; or words."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        yield from (_weighted(str(term), weight, _FUNASR_WEIGHT) for term, weight in value.items())
    elif isinstance(value, list | tuple):
        yield from plain(value)
    elif isinstance(value, str):
        for line in value.splitlines() if "\n" in value else re.split(r"[\s,，]+", value):
            term, _, weight = line.strip().rpartition(" ")
            yield _weighted(term, weight, _FUNASR_WEIGHT) if term and _number(weight) else Hotword(line.strip())


def of_deepgram(keyterms: Iterable[str], keywords: Iterable[str]) -> Iterator[Hotword]:
    """Yield Deepgram's key terms, and its keywords, which have an intensifier behind a colon: `parastream:2`."""
    yield from plain(keyterms)
    for keyword in keywords:
        term, colon, intensifier = keyword.rpartition(":")
        if not colon or _number(intensifier) is None:
            yield Hotword(keyword)
        elif (_number(intensifier) or 0) > 0:  # others are to be heard less often
            yield _weighted(term, intensifier, 1.0)


def of_prompt(prompt: str) -> Iterator[Hotword]:
    """Yield the terms of OpenAI's `prompt`, if it is a list: `Names: Nguyễn, MLX`. Sentences have none."""
    listed = prompt.partition(":")[2] or prompt
    for item in _SEPARATORS.split(listed):
        term = item.strip(" .\"'")
        if term and len(term.split()) <= _LONGEST_TERM:
            yield Hotword(term)


def _weighted(term: str, weight: Any, usual: float) -> Hotword:
    value = _number(weight)
    return Hotword(term.strip(), 1.0 if value is None else min(max(value / usual, _LEAST), _LARGEST))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
