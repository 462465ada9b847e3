"""Word errors of text with written numbers."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest

from benchmarks.spoken_forms import errors, right_words


@pytest.mark.parametrize(
    ("reference", "heard", "expected"),
    [
        ("rubout g m e f three nine", "Rub out GMEF 39.", 0),
        ("rubout g m e f thirty nine", "Rubout G M E F 39", 0),
        ("march seven nineteen sixty seven", "March 7, 1967.", 0),
        ("march seventh nineteen oh five", "March 7th, 1905", 0),
        ("three three one oh one eight eight", "331-0188", 0),
        ("five thousand two hundred and six", "5,206", 0),
        ("five thousand two hundred six", "5206", 0),
        ("one thirty seven", "137", 0),
        ("twenty first", "21st", 0),
        ("mister smith said okay", "Mr. Smith said: OK", 0),
        ("it isn't so", "It isn’t so.", 0),
        ("enter eight thirteen", "Enter A13", 1),
        ("thirty nine", "38", 1),
        ("a b c", "", 3),
        ("", "two words", 2),
    ],
)
def test_the_reading_that_fits_best_counts(reference: str, heard: str, expected: int) -> None:
    assert errors(reference, heard)[0] == expected


@pytest.mark.parametrize(
    ("reference", "heard", "right"),
    [
        ("one two three", "one two three", [1, 1, 1]),
        ("one two three", "one too three four", [1, 0, 1, 0]),
        ("rubout g m e f three nine", "Rubout GMEF 39.", [1, 1, 1]),
        ("rubout g m e f three nine", "Rubout GNEF 38.", [1, 0, 0]),
        ("go on", "go go on", [1, 1, 1]),  # one of the two, whichever
        ("yes", "", []),
        ("", "no", [0]),
        ("yes", "yes -", [1, 1]),
    ],
)
def test_words_are_right_that_stay_where_errors_are_fewest(reference: str, heard: str, right: list[int]) -> None:
    assert right_words(reference, heard.split()) == list(map(bool, right))


def test_without_numbers_they_are_the_edits_between_words() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, other = (" ".join(generator.choice(["x", "yes", "no", "go"], generator.integers(1, 9))) for _ in range(2))
        words = jiwer.process_words([one], [other])
        assert errors(one, other) == (words.substitutions + words.deletions + words.insertions, len(one.split()))
