"""What a client is told about a message that cannot be read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct
from parastream.server.wire.explain import Problem, Reader, explain, head_of
from parastream.server.wire.messages import ClientMessage, EndpointOptions, Start
from parastream.server.wire.refusals import RefusalError


class Red(Struct, tag_field="type", tag="red", forbid_unknown_fields=True):
    shade: Literal["dark", "light"] | None = None
    inner: Red | Blue | None = None


class Blue(Struct, tag_field="type", tag="blue", forbid_unknown_fields=True):
    depth: int
    names: tuple[Literal["sky", "sea"], ...] = ()
    pair: tuple[int, bool] = (0, False)
    tables: dict[str, Red] = {}
    first: Literal["all"] | int = 0


Color = Red | Blue


def problem(text: str, kind: Any = Color) -> Problem:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=kind)
    return explain(caught.value, kind, json.loads(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", Problem("wrong_type", (), "", "Expected `object`, got `array`", ("red", "blue"))),
        ("{}", Problem("missing_field", (), "type", "Object missing required field `type`", ("red", "blue"))),
        ('{"type":"green"}', Problem("wrong_value", ("type",), "", "Invalid value 'green'", ("red", "blue"))),
        ('{"type":3}', Problem("wrong_type", ("type",), "", "Expected `str`", ("red", "blue"))),
        (
            '{"type":"red","type":"blue"}',
            Problem("wrong_value", ("type",), "", "Invalid value 'blue'", ("red", "blue")),
        ),
        (
            '{"type":"red","shade":"pale"}',
            Problem("wrong_value", ("shade",), "", "Invalid enum value 'pale'", ("dark", "light")),
        ),
        (
            '{"type":"red","shade":"x - at `$.y`"}',
            Problem("wrong_value", ("shade",), "", "Invalid enum value 'x - at `$.y`'", ("dark", "light")),
        ),
        (
            '{"type":"red","x":1}',
            Problem("unknown_field", (), "x", "Object contains unknown field `x`", ("shade", "inner")),
        ),
        (
            '{"type":"red","inner":{"type":"blue","depth":1,"x":1}}',
            Problem(
                *("unknown_field", ("inner",), "x", "Object contains unknown field `x`"),
                ("depth", "names", "pair", "tables", "first"),
            ),
        ),
        (
            '{"type":"red","inner":{"type":"blue"}}',
            Problem("missing_field", ("inner",), "depth", "Object missing required field `depth`", ()),
        ),
        (
            '{"type":"red","inner":{"type":"green"}}',
            Problem("wrong_value", ("inner", "type"), "", "Invalid value 'green'", ("red", "blue")),
        ),
        (
            '{"type":"blue","depth":1,"names":["sea","land"]}',
            Problem("wrong_value", ("names", "1"), "", "Invalid enum value 'land'", ("sea", "sky")),
        ),
        (
            '{"type":"blue","depth":1,"pair":[1,2]}',
            Problem("wrong_type", ("pair", "1"), "", "Expected `bool`, got `int`", ()),
        ),
        (
            '{"type":"blue","depth":1,"tables":{"a":{"shade":"pale"}}}',
            Problem("wrong_value", ("tables", "...", "shade"), "", "Invalid enum value 'pale'", ("dark", "light")),
        ),
        (
            '{"type":"blue","depth":1,"first":"last"}',
            Problem("wrong_value", ("first",), "", "Invalid enum value 'last'", ("all", "whole numbers")),
        ),
        (
            '{"type":"red","inner":3}',
            Problem("wrong_type", ("inner",), "", "Expected `object | null`, got `int`", ()),
        ),
        ('{"type":"blue","depth":1.5}', Problem("wrong_type", ("depth",), "", "Expected `int`, got `float`", ())),
        ('{"type":"blue","depth":1e999}', Problem("wrong_value", ("depth",), "", "Number out of range", ())),
    ],
)
def test_what_is_wrong_where_and_what_is_allowed(text: str, expected: Problem) -> None:
    assert problem(text) == expected


def test_an_object_without_a_tag_is_one_of_its_fields() -> None:
    found = problem('{"type":"start","endpoint":[]}', ClientMessage)
    assert (found.path, found.allowed) == (("endpoint",), EndpointOptions.__struct_fields__)
    assert problem("[]", EndpointOptions).allowed == EndpointOptions.__struct_fields__


HOSTILE = ["$.x", "$", "`", "a`", "a` - at `$.b", "a.b", "[0]", "[...]", "", "\n", "x` - at `key` in `$.y", ".type"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(("place", "kind"), [("", Start), ("endpoint", EndpointOptions)])
def test_no_name_of_an_unknown_field_confuses_the_explanation(name: str, place: str, kind: type[Struct]) -> None:
    message: dict[str, Any] = {"type": "start"}
    (message.setdefault(place, {}) if place else message)[name] = 1
    found = problem(json.dumps(message), ClientMessage)
    assert (found.wrong, found.field, found.allowed) == ("unknown_field", name, kind.__struct_fields__)
    assert found.path == ((place,) if place else ())


def test_a_place_that_a_client_made_up_is_only_ever_one_that_exists() -> None:
    found = problem('{"type":"start","x` - at `$.endpoint":1}', ClientMessage)
    assert (found.path, found.allowed) == (("endpoint",), EndpointOptions.__struct_fields__)


def test_a_reader_gives_the_message_or_the_one_error() -> None:
    reader = Reader[ClientMessage](ClientMessage, "only JSON")
    assert reader.read('{"type":"start","rate":8000}') == Start(rate=8000)
    for data, code in (("nonsense", "invalid_json"), (b'{"type":"\xff"}', "invalid_json"), ("[]", "invalid_message")):
        with pytest.raises(RefusalError) as caught:
            reader.read(data)
        assert caught.value.code == code
    with pytest.raises(RefusalError, match="only JSON: "):
        reader.read("{")


def test_the_head_of_anything() -> None:
    assert head_of('{"type":"start","rate":"x"}') == {"type": "start"}
    for data in ("", "[]", "[" * 100_000, '{"type":3}', b'{"type":"\xff"}'):
        assert head_of(data) == {}


KEYS = st.sampled_from([*HOSTILE, "type", *Start.__struct_fields__, *EndpointOptions.__struct_fields__, "received"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
TYPED = st.tuples(st.sampled_from(["start", "flush", "stop", "resume", "$"]), st.dictionaries(KEYS, JSON, max_size=4))
MESSAGES = JSON | TYPED.map(lambda each: {"type": each[0]} | each[1])


@given(message=MESSAGES, twice=st.booleans())
@example(message={"type": "stop", "$.x": 1}, twice=False)
def test_any_json_is_a_message_or_refused(message: Any, twice: bool) -> None:
    text = json.dumps(message)
    if twice and isinstance(message, dict) and message:
        text = text[:-1] + ", " + text[1:]  # every key twice
    with suppress(RefusalError):  # and nothing else
        Reader[ClientMessage](ClientMessage).read(text)
