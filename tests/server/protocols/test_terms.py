"""Hotwords as clients of other servers write them."""

from __future__ import annotations

from typing import Any

import pytest
from parastream.server.protocols.deepgram.options import read_options
from parastream.server.protocols.openai.messages import SessionOptions
from parastream.server.protocols.openai.session import changed, hotwords_of, start_of
from parastream.server.protocols.terms import of_funasr, of_prompt, plain, usable
from parastream.server.routes import parse
from parastream.server.wire.messages import Hotword


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("one two", [("one", 1.0), ("two", 1.0)]),
        ("one,two", [("one", 1.0), ("two", 1.0)]),
        ('{"hello world":"20","x":100,"y":"much"}', [("hello world", 1.0), ("x", 2.0), ("y", 1.0)]),
        ({"one": 1}, [("one", 0.5)]),
        (["one", 2, "three"], [("one", 1.0), ("three", 1.0)]),
        ("hello world 40\nMLX\n", [("hello world", 2.0), ("MLX", 1.0)]),
        ("[" * 100_000, []),
        (7, []),
        (None, []),
    ],
)
def test_those_of_funasr(value: Any, expected: list[tuple[str, float]]) -> None:
    assert [(each.term, each.weight) for each in usable(of_funasr(value))] == expected


def test_those_of_deepgram() -> None:
    keywords = "".join(f"&keywords={each}" for each in ("parastream:1.5", "x:-2", "a:b", "y:9", "plain"))
    options = read_options(parse(f"/v1/listen?keyterm=New%20York&keyterm=MLX{keywords}"))
    assert usable(options.hotwords) == (
        Hotword("New York"),
        Hotword("MLX"),
        Hotword("parastream", 1.5),
        Hotword("a:b"),
        Hotword("y", 2.0),
        Hotword("plain"),
    )


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("Nguyễn, MLX; GPT-4o\nNew York.", ["Nguyễn", "MLX", "GPT-4o", "New York"]),
        ("Keywords: one, two", ["one", "two"]),
        ("The speaker talks about the weather of the day", []),
        ("", []),
    ],
)
def test_those_of_a_prompt(prompt: str, terms: list[str]) -> None:
    assert [each.term for each in of_prompt(prompt)] == terms


def test_those_of_openai() -> None:
    options = {"audio": {"input": {"transcription": {"prompt": "MLX, Nguyễn", "keywords": ["New York"]}}}}
    session = changed(SessionOptions(), options)
    expected = (Hotword("New York"), Hotword("MLX"), Hotword("Nguyễn"))
    assert hotwords_of(session) == expected
    assert start_of(session, expected).hotwords == expected
    assert hotwords_of(SessionOptions()) == ()


def test_what_cannot_be_listened_for_is_left_out() -> None:
    given = [Hotword("fine"), Hotword(""), Hotword("x" * 200), Hotword("y", 9.0), Hotword("fine", 2.0)]
    assert usable(given) == (Hotword("fine", 2.0),)
    assert usable(plain(["a", None, "b", "c"]), 2) == (Hotword("a"), Hotword("b"))
    assert usable(plain(["a"]), -1) == ()
