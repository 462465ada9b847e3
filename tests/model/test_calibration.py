"""Confidences that mean what they say, and where a model notes how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model import catalogue
from parastream.model.calibration import KEY, Calibration
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.final_pass import Hypothesis, TimedWord
from parastream.model.whisper.config import WhisperConfig

from benchmarks.reliability import Words, calibration_error, curve, fit


def test_a_model_that_notes_nothing_says_what_it_says() -> None:
    assert Calibration.of({}) == Calibration.of({KEY: {"streaming": {"slope": 2}}}) == Calibration()
    assert Calibration().apply([0.0, 0.123456, 1.0], ["a", "b", "c"]) == [0.0, 0.123456, 1.0]


def test_each_form_has_an_entry_of_its_own() -> None:
    described = {KEY: {"full": {"slope": 2.0, "offset": 1}, "streaming": {"context": -1.0, "spelled": 0.5}}}
    assert Calibration.of(described) == Calibration(2.0, 1)
    assert Calibration.of(described, "streaming") == Calibration(1.0, 0.0, -1.0, 0.5)


def test_it_is_a_line_through_logits() -> None:
    assert Calibration(2.0).apply([0.5, 0.8], ["yes", "no"]) == pytest.approx([0.5, 16 / 17])
    assert Calibration(offset=np.log(3)).apply([0.5], ["yes"]) == pytest.approx([0.75])
    assert Calibration(2.0).apply([], []) == []


def test_words_are_surer_among_others_that_are_sure() -> None:
    assert Calibration(context=1.0).apply([0.5, 0.9, 1.0], ["so"] * 3)[0] == pytest.approx(0.8)
    assert Calibration(context=1.0).apply([0.5, 0.1, 0.0], ["so"] * 3)[0] == pytest.approx(0.2)


def test_numbers_and_letters_are_surer_than_a_model_that_may_write_them_otherwise() -> None:
    texts = ["39.", "GMEF,", "B", "A", "I", "Mine", "nine", "3rd", "—", "'"]
    meant = Calibration(spelled=np.log(3)).apply([0.5] * len(texts), texts)
    assert meant == pytest.approx([0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.5, 0.75, 0.5, 0.5])


FACTORS = st.floats(-10, 10)


@given(
    st.lists(st.floats(0, 1), min_size=1),
    st.builds(Calibration, st.floats(0, 10, exclude_min=True), FACTORS, FACTORS, FACTORS),
)
def test_words_keep_their_order_and_stay_between_0_and_1(told: list[float], calibration: Calibration) -> None:
    meant = calibration.apply(sorted(told), ["word"] * len(told))
    assert meant == sorted(meant)
    assert all(0 <= value <= 1 for value in meant)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], r"calibration must look like \{\"full\": .*, not \[\]"),
        ({"full": 1.0}, "must look like"),
        ({"full": {"slope": "steep"}}, "must look like"),
        ({"full": {"slope": True}}, "must look like"),
        ({"full": {"temperature": 1.0}}, "must look like"),
        (
            {"full": {"slope": 0}},
            r"Calibration\(slope=0, .*\) cannot be used: slope must be above 0, and all at most 10",
        ),
        ({"full": {"slope": 1e9}}, "cannot be used"),
        ({"full": {"offset": float("nan")}}, "cannot be used"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(section: Any, message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        Calibration.of({KEY: section})


def test_a_whisper_keeps_it_when_it_is_written_anew() -> None:
    config = WhisperConfig.from_directory(catalogue.resolve("whisper-tiny-en"))
    assert config.calibration != Calibration()
    assert WhisperConfig.from_dict(config.described()).calibration == config.calibration


def test_the_embedded_models_have_one() -> None:
    speech = Calibration.of(ModelDirectory(catalogue.resolve("asr-small-en")).configuration, "streaming")
    assert speech
    assert speech.spelled == 0, "there is one way only in which it writes letters and numbers"


def test_a_fit_finds_what_made_confidences_wrong() -> None:
    generator = np.random.default_rng(1)
    said, heard = [], []
    for _ in range(400):
        told = [float(value) for value in generator.uniform(0.05, 0.95, 10)]
        texts = ["39" if spelled else "yes" for spelled in generator.uniform(size=10) < 0.5]
        right = generator.uniform(size=10) < Calibration(0.5, -0.5, 1.0, 2.0).apply(told, texts)
        said.append(" ".join(text if fine else "no" for text, fine in zip(texts, right, strict=True)))
        each = tuple(TimedWord(text, 0.0, 1.0, value) for text, value in zip(texts, told, strict=True))
        heard.append(Hypothesis("whisper", each, marked=True))
    words = Words.of(said, heard)
    found = fit([words])
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.spelled == pytest.approx(2.0, abs=0.3)
    meant = 1 / (1 + np.exp(-words.inputs @ np.array([found.slope, found.offset, found.context, found.spelled])))
    before, after = calibration_error(words.confidence, words.right), calibration_error(meant, words.right)
    assert after < 0.03 < 0.15 < before
    assert curve(words, found).endswith(f"calibrated {before:.3f}, model's {before:.3f}, best fit {after:.3f}")
