"""The embedded model hears what FunASR hears with the weights that it was made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile
from parastream.model import SpeechModel, load

from ..reference.driver import recognise

DATA = Path(__file__).parents[1] / "data"
FOLDER = Path(os.environ.get("PARASTREAM_AN4", DATA / "an4"))
"""AN4's test recordings; a handful of them are part of the project, all 130 are compared where this names them."""
FLOAT16 = os.environ.get("PARASTREAM_FLOAT16", "")
"""The checkpoint in float16 from which the embedded form, in 8 bits, was made; it is not part of the project."""
GOLDEN = [
    entry
    for entry in json.loads((DATA / "golden_an4.json").read_text(encoding="utf-8"))
    if (FOLDER / Path(entry["file"]).name).exists()
]


def differing(model: SpeechModel) -> list[str]:
    """The recordings of which a model hears other tokens than FunASR, in full context or streaming."""
    return [entry["file"] for entry in GOLDEN if heard(model, entry) != expected(entry)]


def heard(model: SpeechModel, entry: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
    samples, _ = soundfile.read(FOLDER / Path(entry["file"]).name, dtype="float32")
    full_context, calls = recognise(model, samples)
    return full_context, calls


def expected(entry: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
    return entry["full_context"]["ids"], entry["streaming"]["ids_per_call"]


def test_the_embedded_form_gives_the_same_tokens_but_for_one_recording_in_forty(speech: SpeechModel) -> None:
    assert len(GOLDEN) >= 6
    assert len(differing(speech)) <= len(GOLDEN) / 40


@pytest.mark.skipif(not FLOAT16, reason="needs PARASTREAM_FLOAT16, a directory that is not part of the project")
def test_the_weights_in_float16_give_the_same_tokens() -> None:
    assert differing(load(FLOAT16, dtype="float32")) == []
