"""Read a client's JSON, and explain what is wrong with it: where, why, and what is allowed there.

msgspec says what it expected and at which place. `explain` finds the same place in the type that was asked for, and
lists the fields or values that are possible there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import inspect
from parastream.server.wire.refusals import RefusalError, shortened_quotes

T = TypeVar("T")

Wrong = Literal["unknown_field", "missing_field", "wrong_type", "wrong_value"]

_PLACE = re.compile(r" - at (?:`key` in )?`\$([^`]*)`\Z")
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_TYPE = re.compile(r"Expected `[^`]*`(, got `[^`]*`)?")

_NAMES: dict[type[inspect.Type], str] = {
    inspect.IntType: "whole numbers",
    inspect.FloatType: "numbers",
    inspect.StrType: "strings",
}
"""What is possible besides the listed values of a `Literal`."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a message."""

    wrong: Wrong
    path: tuple[str, ...]
    """Fields and indices from the root to the value that is wrong."""
    field: str
    """Name of the unknown or missing field there; else empty."""
    message: str
    """In words, without the place."""
    allowed: tuple[str, ...]
    """Fields or values that are possible instead; empty where there is no list of them."""


class Reader(Generic[T]):
    """Reads the JSON messages of a client."""

    def __init__(self, kind: Any, expected: str = "text messages carry one JSON object each") -> None:
        """Prepare to read one kind of message.

        Args:
            kind: a Struct, or a union of Structs with tags; `T` as a value.
            expected: begins the error about anything that is not JSON.
        """
        self._kind = kind
        self._expected = expected
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, data: str | bytes) -> T:
        """Read a message.

        Raises:
            RefusalError: `invalid_json`, or `invalid_message` with the place and what is allowed there.
        """
        try:
            message: T = self._decoder.decode(data)
        except msgspec.ValidationError as error:
            allowed = explain(error, self._kind, head_of(data)).allowed
            raise RefusalError("invalid_message", shortened_quotes(str(error)), allowed) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusalError("invalid_json", f"{self._expected}: {error}") from error
        return message


class _Head(msgspec.Struct):
    type: str


def head_of(data: str | bytes) -> dict[str, str]:
    """Return the `type` of a message that cannot be read, by which `explain` knows what it was meant to be."""
    try:
        return {"type": msgspec.json.decode(data, type=_Head).type}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def explain(error: msgspec.ValidationError, kind: Any, value: object = None) -> Problem:
    """Explain why a value cannot be read.

    A client that puts msgspec's own phrases into the name of an unknown field can have another place of `kind` named,
    but never one that does not exist.

    Args:
        error: what msgspec raised.
        kind: the type that was asked for.
        value: the value, or as much of it as is known: its tags choose among the types of a union.
    """
    message, path = str(error), tuple[str, ...]()
    places = _alternatives([_inspected(kind)])
    found = _PLACE.search(message)
    there = _follow(places, _path(found[1]), value) if found else None
    if found and there:
        message, path = message[: found.start()], _path(found[1])
        places, value = there
    if field := _FIELD.fullmatch(message):
        structs = _chosen(places, value)
        if field[1] == "contains unknown":
            return Problem("unknown_field", path, field[2], message, _fields(structs))
        return Problem("missing_field", path, field[2], message, _values(_inner(structs, field[2])))
    if _TYPE.fullmatch(message):
        structs = _structs(places)
        tags = tuple(str(struct.tag) for struct in structs if struct.tag is not None)
        if tags:  # which name objects only where the place itself does not
            return Problem("wrong_type", path, "", message, () if path else tags)
        return Problem("wrong_type", path, "", message, _fields(structs) or _values(places))
    return Problem("wrong_value", path, "", message, _values(places))


@cache
def _inspected(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _path(place: str) -> tuple[str, ...]:
    """Split msgspec's `.audio.tracks[3]` into its steps; empty if it is nothing of the kind."""
    steps = list(_STEP.finditer(place))
    return tuple(step[1] or step[2] for step in steps) if "".join(step[0] for step in steps) == place else ()


def _follow(places: list[inspect.Type], path: Sequence[str], value: object) -> tuple[list[inspect.Type], object] | None:
    """Return the types that are possible at a path, and the value there; None if there is no such place."""
    for step in path:
        items = [item for place in places for item in _items(place)]
        if step == "..." or step.isdecimal():
            places = _alternatives(items)
            value = (
                value[int(step)] if isinstance(value, list) and step.isdecimal() and int(step) < len(value) else None
            )
        else:
            structs = _structs(places)
            wrong_tag = any(struct.tag_field == step for struct in structs)
            places = _inner(structs if wrong_tag else _chosen(structs, value), step)
            value = value.get(step) if isinstance(value, dict) else None
        if not places:
            return None
    return (places, value) if path else None


def _items(place: inspect.Type) -> Sequence[inspect.Type]:
    """Return what the elements of an array, or the values of a mapping, may be."""
    match place:
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return [item]
        case inspect.TupleType(item_types=items):
            return items
        case inspect.DictType(value_type=item):
            return [item]
    return []


def _alternatives(places: Iterable[inspect.Type]) -> list[inspect.Type]:
    """Take unions apart."""
    return [each for place in places for each in (place.types if isinstance(place, inspect.UnionType) else (place,))]


def _structs(places: Iterable[inspect.Type]) -> list[inspect.StructType]:
    return [place for place in places if isinstance(place, inspect.StructType)]


def _chosen(places: Iterable[inspect.Type], value: object) -> list[inspect.StructType]:
    """Return the Structs that a value's tag stands for; all of them if it stands for none."""
    structs = _structs(places)
    given = value if isinstance(value, dict) else {}
    chosen = [
        struct for struct in structs if struct.tag_field is not None and given.get(struct.tag_field) == struct.tag
    ]
    return chosen or structs


def _inner(structs: Iterable[inspect.StructType], name: str) -> list[inspect.Type]:
    """Return what a field of Structs may be; a tag is one of those that they have."""
    structs = list(structs)
    found = _alternatives(each.type for struct in structs for each in struct.fields if each.encode_name == name)
    tags = tuple(struct.tag for struct in structs if struct.tag_field == name)
    return [*found, inspect.LiteralType(tags)] if tags else found


def _fields(structs: Iterable[inspect.StructType]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field.encode_name for struct in structs for field in struct.fields))


def _values(places: Sequence[inspect.Type]) -> tuple[str, ...]:
    """Return the values that are possible, if any of them are listed."""
    listed = [value for place in places if isinstance(place, inspect.LiteralType) for value in place.values]
    others = [_NAMES[type(place)] for place in places if type(place) in _NAMES]
    return tuple(str(value) for value in listed if value is not None) + tuple(others) if listed else ()
