"""How text is joined, against the table of cases that every implementation shares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.text import is_wide, join, units

CASES = json.loads((Path(__file__).parents[1] / "data" / "joins.json").read_text(encoding="utf-8"))
PIECES = st.text(st.sampled_from("ab1.?，。你好カ한😀% "), max_size=4)


@pytest.mark.parametrize("case", CASES["joins"], ids=lambda case: case["joined"])
def test_texts_are_joined_as_the_table_says(case: dict[str, object]) -> None:
    assert join(case["texts"]) == case["joined"]  # type: ignore[arg-type]


def test_the_table_tells_wide_characters_from_narrow_ones() -> None:
    assert [character for character in CASES["wide"] if not is_wide(character)] == []
    assert [character for character in CASES["narrow"] if is_wide(character)] == []


def test_it_is_light_to_import() -> None:
    """The client joins texts too, and works without what computing needs."""
    program = "import sys, parastream.model.text; print(*{'mlx', 'numpy', 'onnxruntime', 'yaml'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60).strip() == ""


@given(st.lists(PIECES))
def test_joining_adds_nothing_but_spaces(texts: list[str]) -> None:
    assert join(texts).replace(" ", "") == "".join(texts).replace(" ", "")


@given(st.lists(PIECES))
def test_what_has_been_joined_never_changes_as_more_follows(texts: list[str]) -> None:
    """Deltas rely on this: each is what the longer text has beyond the shorter."""
    assert join(texts).startswith(join(texts[:-1]))
    assert join([join(texts[:-1]), *texts[-1:]]) == join(texts)


@given(PIECES)
def test_units_are_the_text_cut_up(text: str) -> None:
    assert "".join(units(text)) == text
