"""Character n-grams: against the definition of Witten and Bell, pruned, stored and damaged."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.errors import LanguageModelError
from parastream.model.language.alphabet import MOST, Alphabet, normalised
from parastream.model.language.files import load_own, save
from parastream.model.language.model import Mixed
from parastream.model.language.ngram import UNSEEN, CharacterModel
from parastream.model.language.training import train

TEXT = ["she sells sea shells", "by the sea shore", "the shells she sells", "are sea shells", "for sure", "aa"]
ROUNDING = 0.08
"""How far sums of logarithms in eight bits may be from what they should be, for each character."""


def trained(text: list[str] = TEXT, **options: Any) -> CharacterModel:
    return train(lambda: text, **options)


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    return trained(order=4, largest=10_000)


def score(model: CharacterModel, text: str) -> float:
    values, states = model.advance([model.start], [text])
    return float(values.sum() + model.end(states)[0])


class WittenBell:
    """The definition, with dictionaries and recursion; `^` begins and `$` ends a sentence."""

    def __init__(self, text: list[str], order: int, kinds: int) -> None:
        self.order, self.kinds, self.counts = order, kinds, Counter[str]()
        for sentence in map(normalised, text):
            line = f"^{sentence}$"
            for end in range(2, len(line) + 1):
                self.counts.update(line[begin:end] for begin in range(max(0, end - order), end))

    def probability(self, context: str, character: str) -> float:
        followers = {gram[-1]: n for gram, n in self.counts.items() if gram[:-1] == context}
        seen, kinds = sum(followers.values()), len(followers)
        if not context:
            return (followers.get(character, 0) + kinds / self.kinds) / (seen + kinds)
        lower = self.probability(context[1:], character)
        return (followers.get(character, 0) + kinds * lower) / (seen + kinds) if seen else lower

    def score(self, text: str) -> float:
        line = f"^{text}$"
        cuts = ((line[max(0, end - self.order + 1) : end], line[end]) for end in range(1, len(line)))
        return sum(math.log(self.probability(context, character)) for context, character in cuts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world "),
        ("it’s  DON'T 'tis O'Brien", "it's don't 'tis o'brien "),
        ("我用 Python 写。", "我用python 写"),
        ("Ｆｕｌｌ １２", "full 12 "),
        ("Straße über", "strasse über "),
        ("...", ""),
    ],
)
def test_text_becomes_what_a_speech_model_would_write(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_the_most_frequent_characters_make_the_alphabet() -> None:
    assert Alphabet.of(["abba ", "c"]).characters == (" ", "a", "b", "c")
    many = Alphabet.of(["".join(chr(0x4E00 + i) for i in range(MOST + 100)), chr(0x4E00 + MOST + 50)])
    assert len(many.characters) == MOST
    assert chr(0x4E00 + MOST + 50) in many.characters


@pytest.mark.parametrize("text", ["she sells sea shore ", "the ", "shshsh ", "for sure by sea ", ""])
def test_probabilities_are_those_of_witten_and_bell(model: CharacterModel, text: str) -> None:
    reference = WittenBell(TEXT, 4, len(model.alphabet))
    assert score(model, text) == pytest.approx(reference.score(text), abs=ROUNDING * (len(text) + 1))


@given(st.text(alphabet="shelt aq", max_size=8))
def test_the_probabilities_of_what_may_follow_add_up_to_one(text: str) -> None:
    model = _MODEL
    states = [model.start]
    if text:
        _, states = model.advance(states, [text])
    following = [*model.alphabet.characters]
    values, _ = model.advance(states * len(following), following)
    rest = math.exp(model.end(states)[0])
    assert np.exp(values).sum() + rest == pytest.approx(1.0, abs=0.1)


_MODEL = trained(order=4, largest=60)


@given(st.text(alphabet="shelt aq你", min_size=1, max_size=12), st.integers(0, 12))
def test_a_text_may_come_in_pieces(text: str, cut: int) -> None:
    whole, states = _MODEL.advance([_MODEL.start], [text])
    first, rest = text[:cut], text[cut:]
    found: list[float] = []
    state = [_MODEL.start]
    for piece in filter(None, (first, rest)):
        values, state = _MODEL.advance(state, [piece])
        found += values.tolist()
    assert found == pytest.approx(whole.tolist(), abs=1e-5)
    assert state == states


def test_texts_come_together_or_alone(model: CharacterModel) -> None:
    texts = ["she ", "s", "sea sh"]
    _, states = model.advance([model.start] * 3, ["the ", "", "x"][:1] * 3)
    together, after = model.advance(states, texts)
    alone = [model.advance([state], [text]) for state, text in zip(states, texts, strict=True)]
    assert together.tolist() == [value for values, _ in alone for value in values.tolist()]
    assert list(after) == [state for _, (state,) in alone]


def test_characters_that_are_not_in_the_alphabet_are_nearly_impossible(model: CharacterModel) -> None:
    values, (state,) = model.advance([model.start], ["s你"])
    assert values[1] == UNSEEN
    assert state == 1, "nothing is known after it"


def test_pruning_keeps_what_matters() -> None:
    lines = TEXT * 3 + ["zzxq vvw kkj"]
    large, small = trained(lines, order=6, largest=10_000), trained(lines, order=6, largest=100)
    assert len(small.table.keys) < len(large.table.keys) - 50
    for text in ("she sells sea shells ", "by the sea shore "):
        assert score(small, text) > score(large, text) - 10
    keys = {int(key) for key in small.table.keys}
    bits = small.alphabet.bits
    assert all(key >> bits in keys for key in keys if key >> bits > 1 << bits), "each is kept with its beginning"


def test_mandarin_has_shorter_n_grams() -> None:
    characters = [chr(0x4E00 + i) for i in range(5000)]
    model = train(lambda: ["".join(pair) for pair in pairwise(characters)] + ["我用python写"] * 3)
    assert model.order == 63 // 13
    assert score(model, "我用python 写") > score(model, "写用python 我") + 3


@pytest.mark.parametrize("lines", [[], ["", "...", "!?"]])
def test_a_text_without_words_teaches_nothing(lines: list[str]) -> None:
    with pytest.raises(LanguageModelError, match=r"no words to learn from; allowed is plain text"):
        trained(lines)


def test_a_text_of_one_sentence_is_enough() -> None:
    model = trained(["a"])
    assert score(model, "a ") > score(model, "aa ")


def test_a_mixture_is_never_much_worse_than_either(model: CharacterModel) -> None:
    other = trained(["quite another subject", "objects are subject to it"])
    mixed = Mixed(model, other, 0.8)
    for text in ("she sells sea shells ", "another subject "):
        values, states = mixed.advance([mixed.start], [text])
        each = [m.advance([m.start], [text])[0] for m in (model, other)]
        expected = np.log(0.8 * np.exp(each[0]) + 0.2 * np.exp(each[1]))
        np.testing.assert_allclose(values, expected, atol=1e-5)
        assert values.sum() > max(each[0].sum() + len(text) * math.log(0.8), each[1].sum() + len(text) * math.log(0.2))
        ends = [m.end([state])[0] for m, state in zip((model, other), states[0], strict=True)]
        assert mixed.end(states)[0] == pytest.approx(
            math.log(0.8 * math.exp(ends[0]) + 0.2 * math.exp(ends[1])), abs=1e-5
        )


def test_what_is_stored_is_what_was_trained(model: CharacterModel, tmp_path: Path) -> None:
    save(model, tmp_path / "shells.lm")
    read = load_own(tmp_path / "shells.lm")
    assert read.order == model.order
    assert read.alphabet.characters == model.alphabet.characters
    for name in ("keys", "probabilities", "backoffs"):
        np.testing.assert_array_equal(getattr(read.table, name), getattr(model.table, name))


def write(path: Path, model: CharacterModel, **changes: Any) -> Path:
    """A file whose arrays, or whose description, are others."""
    save(model, path)
    with np.load(path) as archive:
        arrays = dict(archive)
    description = json.loads(arrays["description"].tobytes())
    description |= {name: value for name, value in changes.items() if name not in arrays}
    arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    arrays |= {name: value(arrays[name]) for name, value in changes.items() if name in arrays}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "other"}, "its form is not"),
        ({"alphabet": ""}, "its alphabet is empty"),
        ({"alphabet": "aa"}, "has a character twice"),
        ({"alphabet": 7}, "damaged"),
        ({"order": 40}, "its order is 40"),
        ({"order": "x"}, "its order is 'x'"),
        ({"order": 2}, "out of order"),
        ({"probabilities": lambda a: a[:-1]}, "different lengths"),
        ({"probabilities": lambda a: a.astype(np.int64)}, "no row of bytes"),
        ({"keys": lambda a: a[:0]}, "keys are incomplete"),
        ({"keys": lambda a: np.append(a, 255).astype(np.uint8)}, "keys are incomplete"),
        ({"keys": lambda a: np.append(a, [255] * 11 + [0]).astype(np.uint8)}, "too long"),
        ({"keys": lambda a: np.where(np.arange(len(a)) == 1, 0, a).astype(np.uint8)}, "out of order"),
        ({"description": lambda a: np.frombuffer(b"[]", np.uint8)}, "its form is not"),
        ({"description": lambda a: np.frombuffer(b"{", np.uint8)}, "damaged"),
    ],
)
def test_damage_is_told_of(model: CharacterModel, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LanguageModelError, match=message) as caught:
        load_own(write(tmp_path / "bad.lm", model, **changes))
    assert "bad.lm" in str(caught.value)


def test_files_of_other_kinds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: CharacterModel
) -> None:
    other = tmp_path / "text.lm"
    other.write_text("just text")
    with pytest.raises(LanguageModelError, match="no language model of parastream"):
        load_own(other)
    with other.open("wb") as file:
        np.savez(file, description=np.zeros(3))
    with pytest.raises(LanguageModelError, match="damaged"):
        load_own(other)
    save(model, other)
    monkeypatch.setattr("parastream.model.language.files._LARGEST", 100)
    with pytest.raises(LanguageModelError, match="at most 100 are allowed"):
        load_own(other)
