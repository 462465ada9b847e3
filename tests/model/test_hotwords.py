"""Lists of hotwords, as people write them."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from parastream.model.errors import HotwordError
from parastream.model.hotwords import MANY, MOST, Hotword, checked, parse, read_hotwords

LIST = """\ufeff# people
Nguyễn
New York 2.5

GPT-4o 1.5 | g p t four o | g p t 4 oh
Windows 11 1
  MLX|m l x
"""


def test_a_term_a_line_with_a_weight_and_what_it_sounds_like(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text(LIST, "utf-8")
    assert read_hotwords(path) == (
        Hotword("Nguyễn"),
        Hotword("New York", 2.5),
        Hotword("GPT-4o", 1.5, ("g p t four o", "g p t 4 oh")),
        Hotword("Windows 11", 1.0),
        Hotword("MLX", 1.0, ("m l x",)),
    )


def test_a_number_alone_is_a_term() -> None:
    assert parse("42\n") == (Hotword("42"),)
    assert parse("area inf") == (Hotword("area inf"),), "no weight is infinite"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ok\nWindows 11",
            r"line 2: the weight of the hotword 'Windows' is 11; allowed are 0.1 to 5, .*: Windows 11 1",
        ),
        ("x -1", "the weight of the hotword 'x' is -1"),
        ("x" * 101, "longer than 100 characters"),
        ("x | " + "y" * 101, "sounds_like .* longer than 100 characters"),
        ("x |", "sounds_like '' is empty"),
        ("| y", "hotword '' is empty"),
        ("a\x07b", "control characters"),
    ],
)
def test_lines_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(HotwordError, match=message):
        parse(text)


def test_a_weight_must_be_a_number() -> None:
    with pytest.raises(HotwordError, match="is nan; allowed are"):
        Hotword("x", math.nan)


def test_the_last_of_two_counts_and_there_may_not_be_too_many() -> None:
    assert checked([Hotword("x"), Hotword("y"), Hotword("x", 2.0)]) == (Hotword("x", 2.0), Hotword("y"))
    most = [Hotword(f"term {i}.") for i in range(MOST)]
    assert len(checked(most)) == MOST
    with pytest.raises(HotwordError, match=r"1001 hotwords; allowed are 1000, and more than 200 are seldom of use"):
        checked([*most, Hotword("one more")])


def test_the_log_tells_of_long_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"term {i} 1\n" for i in range(MANY + 1)))
    with caplog.at_level(logging.WARNING):
        assert len(read_hotwords(path)) == MANY + 1
    assert caplog.messages == [
        f"{path}: 201 hotwords; with more than 200, rare ones are found less often and others falsely"
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HotwordError, match=r"cannot read the hotwords in .*absent"):
        read_hotwords(tmp_path / "absent")
    (tmp_path / "latin").write_bytes("Müller".encode("latin-1"))
    with pytest.raises(HotwordError, match=r"latin: .*utf-8"):
        read_hotwords(tmp_path / "latin")
    (tmp_path / "bad").write_text("x 99")
    with pytest.raises(HotwordError, match="bad: line 1: "):
        read_hotwords(tmp_path / "bad")
