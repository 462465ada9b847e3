"""Words of Whisper's tokens: spelling, times and confidences."""

from __future__ import annotations

import numpy as np
import pytest
from parastream.model.final_pass import TimedWord
from parastream.model.text import join
from parastream.model.whisper.words import timed_words


def words(text: str) -> list[str]:
    """Words of a text with a token for each character."""
    tokens = [character.encode() for character in text]
    found = timed_words(tokens, [0.5] * len(tokens), np.arange(len(tokens)) * 0.1, 60)
    return [word.text for word in found]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (" Rub out G-M-E-F-39.", "Rub out GMEF 39."),
        (" Erase CQQF7", "Erase CQQF 7"),
        (" B-A-O-Z, 5-3", "BAOZ, 5-3"),
        (" P-L-E-A-S-A-N-T H-I-L-L-S", "PLEASANT HILLS"),
        (" B-O, N-D", "BOND"),
        (" C, I, N, D, Y.", "CINDY."),
        (" M E L V I N", "MELVIN"),
        (" U.S.A. today", "USA. today"),
        (" ku8", "KU 8"),
        (" Enter A13.", "Enter A 13."),
        (" 1, 3, 7", "137"),
        (" 1-3-7.", "137."),
        (" 9 39 46 0 40", "9 39 46 0 40"),
        (" Call 331-0188", "Call 331-0188"),
        (" March 7, 1967.", "March 7, 1967."),
        (" 10-27-62", "10-27-62"),
        (" 1, 3, 7.5", "1, 3, 7.5"),
        (" COVID-19 and the 4th of May", "COVID-19 and the 4th of May"),
        (" So am I. A sailor", "So am I. A sailor"),
        (" I, A and B", "I, A and B"),
        (" T-shirt, don't X-ray", "T-shirt, don't X-ray"),
        (" I think so.", "I think so."),
        (" well – yes", "well– yes"),
        ("你好，世界。", "你好，世界。"),
        ("我用 Python 写《书》。", "我用 Python 写《书》。"),
        (" ¿Qué?", "¿Qué?"),
        (" “Yes,” she said", "“Yes,” she said"),
        ("", ""),
        (" ...", ""),
    ],
)
def test_what_is_written(said: str, expected: str) -> None:
    assert join(words(said)) == expected


def test_a_character_of_scripts_without_spaces_is_a_word_and_marks_go_with_one() -> None:
    assert words("你好，《书》 ok!") == ["你", "好，", "《书》", "ok!"]


def test_times_and_confidences_are_those_of_the_tokens_without_marks() -> None:
    tokens = [b" Oh", b",", b" hel", b"lo", b".", b" Bye"]
    confidences = [0.9, 0.1, 0.8, 0.6, 0.2, 0.7]
    starts = np.array([0.3, 0.7, 1.5, 1.7, 2.1, 2.2, 2.5])
    found = timed_words(tokens, confidences, starts, 3.0)
    assert found == (
        TimedWord("Oh,", 0.3, 0.7, 0.9),
        TimedWord("hello.", 1.5, 2.1, 0.6),
        TimedWord("Bye", 2.2, 2.5, 0.7),
    )


def test_a_token_lasts_a_second_at_most_and_all_words_end_with_the_utterance() -> None:
    found = timed_words([b" one", b" two"], [1.0, 1.0], np.array([0.1, 3.0]), 3.5)
    assert [(word.start, word.end) for word in found] == [(0.1, 1.1), (3.0, 3.5)]
    (late,) = timed_words([b" late"], [1.0], np.array([3.08, 3.2]), 3.0)
    assert (late.start, late.end) == (3.0, 3.0)


def test_joined_letters_have_the_time_of_all_of_them() -> None:
    tokens = [b" A", b"-", b"B", b"-", b"7"]
    found = timed_words(tokens, [0.9, 0.1, 0.8, 0.1, 0.7], np.array([0.0, 0.4, 0.5, 0.9, 1.0, 1.4]), 2)
    assert found == (TimedWord("AB", 0.0, 0.9, 0.8), TimedWord("7", 1.0, 1.4, 0.7))


def test_a_character_may_be_spread_over_tokens_and_broken_ones_are_shown_as_such() -> None:
    character = "é".encode()
    found = timed_words([b" caf", character[:1], character[1:], b" \xff"], [0.9, 0.8, 0.3, 1.0], np.arange(5) * 0.2, 2)
    assert [word.text for word in found] == ["café\N{REPLACEMENT CHARACTER}"]
    assert found[0].confidence == 0.3
