"""Words as they are shown: written numbers and replaced words, in finals and while an utterance lasts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model.final_pass import TimedWord
from parastream.model.replacements import Replacements
from parastream.streaming import Models, SessionConfig
from parastream.streaming.events import Final, Partial
from parastream.streaming.wording import replaced, replaced_so_far, with_numbers

from .driver import converse

RULES = Replacements.read(["seventy six => 76!", "enter one => come in", "/rub.*/ =>", "three nine four => never"])


def test_a_written_number_lasts_as_long_as_its_words_and_is_as_sure_as_the_least_sure_of_them() -> None:
    words = [TimedWord("at", 0.0, 0.5, 0.9), TimedWord("six", 0.5, 1.0, 0.25), TimedWord("thirty", 1.0, 1.5, 0.75)]
    assert with_numbers(words, "en") == [words[0], TimedWord("6:30", 0.5, 1.5, 0.25)]
    assert with_numbers(words, "fr") == words


def test_what_takes_the_place_of_words_shares_their_time() -> None:
    words = [TimedWord("gonna", 0.0, 0.5, 0.9), TimedWord("new", 0.5, 1.0, 0.25), TimedWord("york", 1.5, 2.0, 0.75)]
    rules = Replacements.read(["gonna => going to", "new york => NYC"])
    shown = [TimedWord("going", 0.0, 0.25, 0.9), TimedWord("to", 0.25, 0.5, 0.9), TimedWord("NYC", 0.5, 2.0, 0.25)]
    assert replaced(words, rules) == shown
    assert replaced_so_far(words, rules, 2) == (shown, 2)
    assert replaced_so_far(words, Replacements(), 2) == (words, 2)
    assert replaced([], rules) == []


@pytest.mark.parametrize("final_pass", [True, False])
def test_rules_act_on_partials_and_finals_alike_and_stable_text_only_grows(
    models: Models, sample: NDArray[np.int16], final_pass: bool
) -> None:
    config = SessionConfig(punctuate=False, itn=False, replacements=RULES, final_pass=final_pass)
    events = converse(models, (sample[first : first + 4800].tobytes() for first in range(0, len(sample), 4800)), config)
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.text for final in finals] == ["come in 76!", "GMEF three nine", "ten twenty seven sixty two"]
    stable, shown = dict[int, str](), dict[int, str]()
    for event in events:
        if isinstance(event, Partial):
            assert event.stable.startswith(stable.get(event.utterance, ""))
            assert "rub" not in event.stable
            stable[event.utterance], shown[event.utterance] = event.stable, event.stable + event.draft
    assert set(stable) == {0, 1, 2}
    assert [final.text.startswith(stable[final.utterance]) for final in finals] == [True, True, True]
    assert shown[0].startswith("come in")
    assert any(stable.values())
