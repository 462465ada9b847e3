"""What the streaming pass has heard, with a search: text that is stable only grows, whatever the session expects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model.hotwords import Hotword, Hotwords
from parastream.model.language.training import train
from parastream.model.lattice import Lattice
from parastream.model.search.search import WordSearch
from parastream.model.tokenizer import Tokenizer
from parastream.model.tokens import Tokens
from parastream.streaming import Models, SessionConfig
from parastream.streaming.events import Event, Final, Partial
from parastream.streaming.heard import Heard
from parastream.streaming.rendering import Rendering, render
from parastream.streaming.runner import Runner
from parastream.streaming.work import VadWork, WindowWork

from .driver import converse, drive

PIECES = ["<blank>", "new", "york", "yo@@", "rk", "times", "m", "l", "x", "a", "two", "你", "好"]
PLAIN = WordSearch(Tokenizer(PIECES))
MODELLED = WordSearch(Tokenizer(PIECES), train(lambda: ["a new york times", "two new times a", "你好"] * 3, order=5))
LISTS: list[Hotwords] = [
    (),
    (Hotword("New York"), Hotword("MLX")),
    (Hotword("New York Times", 2.0), Hotword("Yo"), Hotword("你好")),
]


def window(hearing: Heard, values: Sequence[Sequence[float]]) -> Tokens:
    """What a window adds whose positions have these scores."""
    if not values:
        return Tokens.none()
    scores = np.array(values, np.float32)
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
    order, rows = np.argsort(-scores, axis=-1, kind="stable").astype(np.int32), np.arange(len(scores))
    wanted, lattice = hearing.wanted, None
    if wanted is not None:
        lattice = Lattice(order, np.take_along_axis(scores, order, -1), wanted, scores[:, wanted], rows)
    return Tokens(order[:, 0], np.exp(scores.max(-1)), rows, lattice)


def said(*pieces: str) -> list[list[float]]:
    """Scores of positions at which the ear is sure."""
    return [[12.0 if name == piece else 0.0 for name in PIECES] for piece in pieces]


def shown(hearing: Heard) -> Rendering:
    return render(*hearing.shown(60.0), 0)


scores = st.lists(st.floats(-8, 0, width=32), min_size=len(PIECES), max_size=len(PIECES))
steps = st.lists(st.one_of(st.lists(scores, max_size=3), st.sampled_from([0, 1, 2]), st.just("hurry")), max_size=12)


@settings(max_examples=60)
@given(steps, st.booleans(), st.sampled_from([0, 1, 2]))
def test_stable_text_only_grows(steps: list[list[list[float]] | int | str], modelled: bool, first: int) -> None:
    hearing = Heard(MODELLED if modelled else PLAIN, LISTS[first])
    stable = ""
    for step in steps:
        match step:
            case list():
                hearing.take(window(hearing, step))
            case int():
                hearing.expect(LISTS[step])
            case _:
                hearing.leave_model()
        now = shown(hearing)
        assert now.stable.startswith(stable)
        stable = now.stable
    assert render(hearing.words(60.0), 0, 0).text.startswith(stable)


def test_a_hotword_is_not_stable_before_it_is_complete() -> None:
    hearing = Heard(PLAIN, (Hotword("New York"),))
    for pieces, stable, draft in [
        (["a", "new"], "", "a new"),
        (["yo@@"], "a", " new yo"),
        (["rk"], "a", " New York"),
        (["times"], "a New", " York times"),
        (["two", "times"], "a New York times", " two times"),
    ]:
        hearing.take(window(hearing, said(*pieces)))
        assert (shown(hearing).stable, shown(hearing).draft) == (stable, draft)


def test_words_that_are_stable_keep_their_spelling_when_hotwords_change() -> None:
    hearing = Heard(PLAIN, ())
    hearing.take(window(hearing, said("new", "york", "times")))
    assert shown(hearing).stable == "new york"
    hearing.expect((Hotword("New"), Hotword("York"), Hotword("Times")))
    hearing.take(window(hearing, said("new", "york")))
    assert shown(hearing).text == "new york Times New York"
    hearing.expect(())
    hearing.take(window(hearing, said("a", "new", "york")))
    assert shown(hearing).text.startswith("new york Times")
    assert shown(hearing).text.endswith("a new york")


def test_without_a_search_nothing_is_wanted_of_the_network() -> None:
    assert Heard(PLAIN, ()).wanted is None
    modelled = Heard(MODELLED, ())
    assert modelled.wanted is not None
    assert modelled.wanted.tolist() == []
    hot = Heard(PLAIN, (Hotword("MLX"),))
    assert hot.wanted is not None
    assert [PIECES[token] for token in hot.wanted] == ["m", "l", "x"]
    hot.expect(())
    assert hot.wanted is not None, "the search that has begun goes on"


EXPECTED = (Hotword("RubOut"), Hotword("Seventy-Six", 1.0, ("seventy six",)))


def test_hotwords_are_in_partials_and_finals(models: Models, sample: NDArray[np.int16]) -> None:
    events = converse(models, [sample.tobytes()], SessionConfig(hotwords=EXPECTED))
    texts = [event.text for event in events if isinstance(event, Final)]
    assert texts == ["Enter one Seventy-Six.", "RubOut GMEF three nine.", "Ten, twenty seven sixty two."]
    partials = [event.stable + event.draft for event in events if isinstance(event, Partial)]
    assert any("RubOut" in text for text in partials)


@pytest.mark.parametrize("final_pass", [False, True])
def test_hotwords_may_change_while_somebody_speaks(models: Models, sample: NDArray[np.int16], final_pass: bool) -> None:
    runner = Runner(models)
    session = runner.new_session(SessionConfig(punctuate=False, final_pass=final_pass))
    events: list[Event] = []
    for second in range(12):
        if second == 5:  # in the second utterance
            session.receive_hotwords((Hotword("GmEf", 1.0, ("g m e f",)),))
        session.receive_audio(sample[16000 * second : 16000 * (second + 1)].tobytes())
        drive(runner, session)
        events += session.events()
    session.receive_end()
    drive(runner, session)
    session.receive_hotwords(EXPECTED)
    events += session.events()
    texts = [event.text for event in events if isinstance(event, Final)]
    assert texts == ["enter one seventy six", "rubout GmEf three nine", "ten twenty seven sixty two"]


def test_partials_do_without_the_language_model_in_a_hurry(models: Models, sample: NDArray[np.int16]) -> None:
    """But not where the finals are made of them."""
    for final_pass in (True, False):
        runner = Runner(models)
        session = runner.new_session(SessionConfig(final_pass=final_pass))
        session.receive_audio(sample[: 3 * 16000].tobytes())
        hearings = []
        while work := session.work():
            for item in work:
                if isinstance(item, WindowWork):
                    runner.run_windows([item], hurry=True)
                    hearings.append(item.heard)
                elif isinstance(item, VadWork):
                    runner.run_vad([item])
        (hearing,) = set(hearings)
        assert hearing._state is not None
        assert (hearing._state.scorer is None) == final_pass
        assert any(isinstance(event, Partial) for event in session.events())
