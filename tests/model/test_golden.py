"""The embedded model hears, token for token, what FunASR hears with the same weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from parastream.model import SpeechModel

from ..reference.driver import SHORTEST_FINAL, pieces

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
    (whole,) = speech.network.transcribe([speech.frontend(samples)])
    assert [i for i in whole.ids.tolist() if i > 2] == entry["full_context"]["ids"]

    state, features = speech.network.new_state(), speech.frontend.new_state()
    heard: list[int] = []
    for piece, last in pieces(samples, 9600, speech.window_samples):
        dropped = last and len(piece) < SHORTEST_FINAL  # FunASR does not look at so short a rest
        rows = np.zeros((0, 560), np.float32) if dropped else speech.frontend.step(piece, features, final=last)
        (tokens,) = speech.network.step([rows], [state], [last])
        heard += [i for i in tokens.ids.tolist() if i > 2]
    assert heard == [i for call in entry["streaming"]["ids_per_call"] for i in call]
