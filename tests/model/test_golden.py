"""The embedded model hears, token for token, what FunASR hears with the same weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile
from parastream.model import SpeechModel

from ..reference.driver import recognise

DATA = Path(__file__).parents[1] / "data"
FOLDER = Path(os.environ.get("PARASTREAM_AN4", DATA / "an4"))
"""AN4's test recordings; a handful of them are part of the project, all 130 are compared where this names them."""
GOLDEN = [
    entry
    for entry in json.loads((DATA / "golden_an4.json").read_text(encoding="utf-8"))
    if (FOLDER / Path(entry["file"]).name).exists()
]


def test_there_are_recordings() -> None:
    assert len(GOLDEN) >= 6


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: Path(entry["file"]).stem)
def test_tokens_equal_those_of_funasr(speech: SpeechModel, entry: dict[str, Any]) -> None:
    samples, _ = soundfile.read(FOLDER / Path(entry["file"]).name, dtype="float32")
    full_context, calls = recognise(speech, samples)
    assert full_context == entry["full_context"]["ids"]
    assert calls == entry["streaming"]["ids_per_call"]
