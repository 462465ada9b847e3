"""The search: what it makes of a lattice, with and without a language model and hotwords."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parastream.model import SpeechModel, load_search
from parastream.model.errors import LanguageModelError
from parastream.model.hotwords import Hotword
from parastream.model.language.training import train
from parastream.model.lattice import Lattice, Wanted
from parastream.model.search.beam import SearchState
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.loading import LanguageModelChoice
from parastream.model.search.scorer import Scorer
from parastream.model.search.search import WordSearch, as_pieces, as_tokens
from parastream.model.tokenizer import Tokenizer
from parastream.model.tokens import Tokens

Float32 = NDArray[np.float32]

PIECES = [
    "<blank>",
    "</s>",
    "the",
    "sea",
    "see",
    "she@@",
    "ll",
    "lls",
    "sells",
    "s@@",
    "m",
    "l",
    "x",
    "one",
    "two",
    "阿",
    "里",
]
TOKENIZER = Tokenizer(PIECES)
TEXT = ["she sells sea shells", "the sea shells she sells", "shells by the sea"] * 5
MODEL = train(lambda: TEXT, order=6)


def heard(search: WordSearch, positions: Sequence[str], *terms: str) -> tuple[Tokens, tuple[Hotword, ...]]:
    """Tokens and lattice of positions such as `sea:0.6 see:0.4`; what is not named has a probability of 0.0001."""
    hotwords = tuple(map(Hotword, terms))
    probabilities = np.full((len(positions), len(PIECES)), 1e-4, np.float32)
    for row, position in zip(probabilities, positions, strict=True):
        for choice in position.split():
            name, _, value = choice.rpartition(":")
            row[PIECES.index(name)] = float(value)
    return tokens_of(np.log(probabilities), search.wanted(hotwords)), hotwords


def tokens_of(values: Float32, wanted: Wanted | None) -> Tokens:
    order = np.argsort(-values, axis=-1, kind="stable").astype(np.int32)
    rows = np.arange(0, 5 * len(values), 5)
    lattice = None
    if wanted is not None:
        lattice = Lattice(order, np.take_along_axis(values, order, -1), wanted, values[:, wanted], rows)
    return Tokens(order[:, 0], np.exp(values.max(-1)) if len(values) else np.zeros(0, np.float32), rows, lattice)


def text(search: WordSearch, positions: Sequence[str], *terms: str) -> str:
    tokens, hotwords = heard(search, positions, *terms)
    found = search.whole(tokens, hotwords)
    return " ".join(word.text for word in search.words(found.ids.tolist(), hotwords))


PLAIN = WordSearch(TOKENIZER)
MODELLED = WordSearch(TOKENIZER, MODEL)


def test_without_language_model_and_hotwords_there_is_no_search() -> None:
    tokens, _ = heard(PLAIN, ["the:0.5 sea:0.4", "sea:0.9"])
    assert tokens.lattice is None
    assert PLAIN.whole(tokens, ()) is tokens


def test_a_language_model_chooses_between_what_sounds_alike() -> None:
    unsure = ["the:0.9", "see:0.55 sea:0.44", "</s>:0.99"]
    assert text(PLAIN, unsure) == "the see"
    assert text(MODELLED, unsure) == "the sea"
    assert text(MODELLED, ["the:0.9", "see:0.99 sea:0.002", "</s>:0.99"]) == "the see", "unless the ear is sure"


def test_a_piece_that_fired_twice_is_said_once() -> None:
    twice = ["the:0.9", "sea:0.9", "sea:0.8", "she@@:0.9", "she@@:0.9", "lls:0.9", "</s>:0.99"]
    assert text(PLAIN, twice) == "the sea sea sheshells"
    tokens, _ = heard(MODELLED, twice)
    found = MODELLED.whole(tokens, ())
    assert [PIECES[token] for token in found.ids] == ["the", "sea", "she@@", "lls", "</s>"]
    assert found.rows.tolist() == [0, 5, 15, 25, 30], "where each fired first"
    np.testing.assert_allclose(found.confidences, [0.9, 0.9, 0.9, 0.9, 0.99], rtol=1e-5)


def test_a_position_may_say_nothing() -> None:
    assert text(MODELLED, ["the:0.9", "sea:0.9", "see:0.02 sells:0.01", "she@@:0.9", "lls:0.9"]) == "the sea shells"


@pytest.mark.parametrize(
    "positions", [["m:0.9", "l:0.9", "l:0.9", "x:0.6 sea:0.3"], ["one:0.9", "two:0.5 the:0.4", "two:0.9"]]
)
def test_where_letters_and_numbers_prevail_the_language_model_has_no_say(positions: list[str]) -> None:
    assert text(MODELLED, positions) == text(PLAIN, positions)


def test_letters_and_numbers_are_never_left_out() -> None:
    for spoken in ("two", "x"):
        positions = ["the:0.9", "sea:0.9", f"{spoken}:0.02", "she@@:0.9", "lls:0.9"]
        assert text(MODELLED, positions) == f"the sea {spoken} shells"


def test_hotwords_win_where_they_may_have_been_said() -> None:
    unsure = ["the:0.9", "see:0.7 sea:0.05", "sells:0.7 s@@:0.2", "lls:0.9"]
    assert text(PLAIN, unsure) == "the see sells lls"
    assert text(PLAIN, unsure, "slls") == "the see slls"
    assert text(MODELLED, unsure, "slls") == "the sea slls"
    assert text(PLAIN, ["the:0.9", "see:0.9", "sells:0.99", "lls:0.9"], "slls") == "the see sells lls"


def test_hotwords_are_spelled_as_their_user_wrote_them() -> None:
    assert text(PLAIN, ["the:0.9", "m:0.9", "l:0.9", "x:0.9", "sea:0.9"], "MLX") == "the MLX sea"
    assert text(PLAIN, ["m:0.9", "m:0.9", "l:0.9", "x:0.9"], "MLX") == "m MLX", "apart from other letters"
    assert text(PLAIN, ["the:0.9", "sea:0.9"], "The Sea") == "The Sea"
    assert text(PLAIN, ["the:0.9", "sea:0.9", "see:0.9"], "the sea") == "the sea see"
    assert text(PLAIN, ["阿:0.9", "里:0.9", "the:0.9"], "阿里") == "阿 里 the"


def test_words_of_a_hotword_have_their_places() -> None:
    search = WordSearch(TOKENIZER)
    hotwords = (Hotword("The Sea"), Hotword("M-L-X", 1.0, ("m l x",)))
    ids = [PIECES.index(piece) for piece in ("she@@", "lls", "the", "sea", "m", "l", "x", "</s>")]
    found = [(word.text, word.first, word.stop, word.kept) for word in search.words(ids, hotwords)]
    assert found == [
        ("shells", 0, 2, False),
        ("The", 2, 3, True),
        ("Sea", 3, 4, True),
        ("M-L-X", 4, 7, True),
    ]


def test_nothing_was_said() -> None:
    for search, terms in ((MODELLED, ()), (PLAIN, ("MLX",)), (MODELLED, ("MLX",))):
        tokens, hotwords = heard(search, [], *terms)
        assert len(search.whole(tokens, hotwords)) == 0


positions = st.lists(
    st.lists(st.floats(-12, 0, width=32), min_size=len(PIECES), max_size=len(PIECES)), min_size=1, max_size=8
)


def normalised(values: list[list[float]]) -> Float32:
    array = np.array(values, np.float32)
    scores: Float32 = array - np.log(np.exp(array).sum(-1, keepdims=True))
    return scores


@settings(max_examples=40)
@given(positions)
def test_hotwords_that_nobody_says_change_nothing(values: list[list[float]]) -> None:
    hotwords = (Hotword("qqq"),)  # which these pieces cannot write
    tokens = tokens_of(normalised(values), PLAIN.wanted(hotwords))
    assert PLAIN.whole(tokens, hotwords).ids.tolist() == tokens.ids.tolist()


@settings(max_examples=40)
@given(positions, st.lists(st.booleans(), min_size=8, max_size=8), st.booleans(), st.booleans())
def test_it_does_not_matter_how_positions_come(
    values: list[list[float]], cuts: list[bool], modelled: bool, hot: bool
) -> None:
    search = MODELLED if modelled else PLAIN
    hotwords = (Hotword("the sea"), Hotword("MLX")) if hot else ()
    tokens = tokens_of(normalised(values), search.wanted(hotwords))
    if tokens.lattice is None:
        return
    whole, pieces = search.begin(hotwords), search.begin(hotwords)
    whole.advance(tokens.lattice)
    start = 0
    for stop, cut in enumerate([*cuts[: len(values) - 1], True], 1):
        if cut:
            pieces.advance(part(tokens.lattice, start, stop))
            start = stop
    assert whole.best(last=True) == pieces.best(last=True)
    assert whole.best(last=False) == pieces.best(last=False)


def part(lattice: Lattice, start: int, stop: int) -> Lattice:
    return Lattice(
        lattice.ids[start:stop],
        lattice.log_probabilities[start:stop],
        lattice.wanted,
        lattice.wanted_log_probabilities[start:stop],
        lattice.rows[start:stop],
    )


@settings(max_examples=40)
@given(positions, st.booleans())
def test_what_is_settled_stays(values: list[list[float]], hot: bool) -> None:
    hotwords = (Hotword("the sea"),) if hot else ()
    lattice = tokens_of(normalised(values), MODELLED.wanted(hotwords)).lattice
    assert lattice is not None
    state, before = MODELLED.begin(hotwords), list[int]()
    for place in range(len(lattice)):
        state.advance(part(lattice, place, place + 1))
        state.settle()
        settled = [token for token, _, _ in state.settled]
        assert settled[: len(before)] == before
        assert [token for token, _, _ in state.best(last=False)][: len(settled)] == settled
        before = settled


def test_a_search_can_go_on_without_the_language_model() -> None:
    tokens, _ = heard(MODELLED, ["the:0.9", "see:0.55 sea:0.44", "sells:0.9"])
    assert tokens.lattice is not None
    state = MODELLED.begin(())
    state.advance(part(tokens.lattice, 0, 1))
    state.leave_model()
    state.leave_model()
    state.advance(part(tokens.lattice, 1, 3))
    assert [PIECES[token] for token, _, _ in state.best(last=True)] == ["the", "see", "sells"]
    again, _ = heard(MODELLED, ["sells:0.9"])
    assert again.lattice is not None
    state.advance(again.lattice)
    assert [PIECES[token] for token, _, _ in state.best(last=True)] == ["the", "see", "sells"], "twice is once"


def test_a_search_can_go_on_with_other_hotwords() -> None:
    search = WordSearch(TOKENIZER)
    new = (Hotword("slls"),)
    tokens, _ = heard(search, ["the:0.9", "sells:0.7 s@@:0.2", "lls:0.9"], "slls", "the seven")
    assert tokens.lattice is not None

    def found(state: SearchState) -> list[str]:
        return [PIECES[token] for token, _, _ in state.best(last=True)]

    state = search.begin((Hotword("the seven"),))
    state.advance(part(tokens.lattice, 0, 1))
    state.expect(search.automaton(new))
    state.advance(part(tokens.lattice, 1, 3))
    assert found(state) == ["the", "s@@", "lls"]
    assert next(iter(state.alive.values()))[0] < 5, "what was owed for the old ones is given back"
    state.expect(None)
    state.advance(part(tokens.lattice, 1, 3))
    assert found(state)[3:] == ["sells", "lls"]
    begun = search.begin(())
    begun.settled = as_pieces(
        tokens_of(np.log(np.array([[0.9 if p == "s@@" else 0.1 for p in PIECES]], np.float32)), None)
    )
    begun.expect(search.automaton((Hotword("the"),)))
    begun.advance(part(tokens.lattice, 0, 1))
    assert begun.best(last=True)[1][2] == pytest.approx(math.log(0.9)), "within a word no hotword begins"


def test_what_the_scorer_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parastream.model.search.scorer._MOST", 10)
    scorer = Scorer(MODEL, Lexicon(PIECES))
    expected = Scorer(MODEL, Lexicon(PIECES)).extensions([(MODEL.start, [2, 3])])[0]
    for token in range(2, len(PIECES)):
        (found,) = scorer.extensions([(MODEL.start, [token])])
        scorer.end(found[token][1])
        assert scorer._size <= 12
    again = scorer.extensions([(MODEL.start, [2, 3, 0])])[0]
    assert (again[2], again[3]) == (expected[2], expected[3])
    assert again[0] == (0.0, MODEL.start), "special tokens say nothing"


def test_tokens_and_pieces_are_the_same() -> None:
    tokens = Tokens(np.array([3, 2], np.int32), np.array([0.5, 0.25], np.float32), np.array([4, 9]))
    back = as_tokens(as_pieces(tokens))
    assert (back.ids.tolist(), back.rows.tolist()) == ([3, 2], [4, 9])
    np.testing.assert_allclose(back.confidences, tokens.confidences, rtol=1e-6)
    assert len(as_tokens([])) == 0


def test_the_general_language_model_is_for_the_embedded_speech_model(speech: SpeechModel) -> None:
    assert load_search(speech).wanted(()) is not None
    assert load_search(speech, LanguageModelChoice("none")).wanted(()) is None
    assert load_search(replace(speech, name="another")).wanted(()) is None
    with pytest.raises(LanguageModelError, match="the weight of the language model is 0; allowed are numbers above 0"):
        load_search(speech, LanguageModelChoice(weight=0))
    with pytest.raises(LanguageModelError, match="cannot read the language model absent"):
        load_search(speech, LanguageModelChoice("absent"))
