"""docs/settings.md and docs/parastream.toml against the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

from parastream.server.config import FIELDS, ServerConfig, load_config

from docs.make_settings import EXAMPLE, OTHER_VARIABLES, REFERENCE, example, reference, settings

ROOT = Path(__file__).parents[1]


def test_the_documents_say_what_the_code_says() -> None:
    hint = "make them again: ./run python docs/make_settings.py"
    assert REFERENCE.read_text("utf-8") == reference(), hint
    assert EXAMPLE.read_text("utf-8") == example(), hint


def test_every_setting_is_in_the_documents_with_its_default() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| `(PARASTREAM_\w+)` \| `(.*?)` \|", REFERENCE.read_text("utf-8"), re.MULTILINE
    )
    assert [(name, variable) for name, variable, _ in rows] == [(name, f"PARASTREAM_{name.upper()}") for name in FIELDS]
    assert [default for *_, default in rows] == [each.toml for each in settings()]


def test_the_example_with_every_line_uncommented_sets_every_default(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=\w)", "", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    assert list(tomllib.loads(text)) == list(FIELDS)
    file = tmp_path / "parastream.toml"
    file.write_text(text, "utf-8")
    assert load_config(environment={}, file=file) == ServerConfig()


def test_the_example_as_it_is_sets_nothing() -> None:
    assert tomllib.loads(EXAMPLE.read_text("utf-8")) == {}


def test_flags_are_named_after_settings() -> None:
    flags = {each.name: each.flag for each in settings() if each.flag}
    assert flags.pop("origins") == "--origin"
    assert all(flag == f"--{name.replace('_', '-')}" for name, flag in flags.items())


def test_every_environment_variable_is_documented() -> None:
    sources = [
        path
        for package in ("server", "streaming", "model", "media", "client", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
    ]
    sources += [ROOT / "run", ROOT / "tests" / "model" / "test_golden.py"]
    named = {
        name
        for path in sources
        for name in re.findall(r"\b(?:PARASTREAM|HF|MODELSCOPE|ORT)_[A-Z][A-Z0-9_]*\b", path.read_text("utf-8"))
    }
    # what benchmarks tell a peer's library, and a constant of onnxruntime
    named -= {"MODELSCOPE_OFFLINE", "ORT_ARENA_ALLOCATOR"}
    assert named <= {each.variable for each in settings()} | OTHER_VARIABLES.keys()
    assert named >= OTHER_VARIABLES.keys()


def test_every_setting_has_a_meaning_that_is_a_sentence() -> None:
    assert [each.name for each in settings() if not re.match(r"[A-Z].*\.$", each.meaning)] == []
    assert len(settings()) == len(dataclasses.fields(ServerConfig))
