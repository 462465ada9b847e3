"""Models of words and characters: ARPA files against KenLM, and how their units score characters."""

from __future__ import annotations

import gzip
import math
import sys
from pathlib import Path

import kenlm
import numpy as np
import pytest
from parastream.model.errors import LanguageModelError
from parastream.model.language.arpa import is_arpa, read_arpa
from parastream.model.language.files import save
from parastream.model.language.kenlm import KenlmModel
from parastream.model.language.loading import load_language_model
from parastream.model.language.model import LanguageModel, Mixed
from parastream.model.language.ngram import CharacterModel
from parastream.model.language.training import train
from parastream.model.language.words import UnitModel

WORDS = """\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.3
-1.2\t</s>
-0.5\tHELLO\t-0.2
-0.6\tworld\t-0.1
-0.9\t你\t-0.4

\\2-grams:
-0.2\t<s> HELLO\t-0.7
-0.3\tHELLO world\t-0.05
-0.4\tworld </s>
-0.25\t你 world

\\3-grams:
-0.01\t<s> HELLO world

\\end\\
"""
LETTERS = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-0.5\ta
-0.6\tb
-0.7\t<space>
-1.0\t</s>
-99\t<s>

\\2-grams:
-0.4\ta a

\\end\\
"""
LN10 = math.log(10)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.arpa"
    path.write_text(WORDS, "utf-8")
    return path


@pytest.fixture
def of_kenlm(words: Path) -> UnitModel:
    return UnitModel(KenlmModel(kenlm.Model(str(words)), kenlm.State))


def total(model: LanguageModel, *pieces: str) -> float:
    """The score of a text that comes in pieces, in powers of ten."""
    states = [model.start]
    found = 0.0
    for piece in pieces:
        values, states = model.advance(states, [piece])  # type: ignore[assignment]
        assert len(values) == len(piece)
        found += float(values.sum())
    return (found + float(model.end(states)[0])) / LN10


@pytest.mark.parametrize("pieces", [("hello ", "world "), ("hel", "lo ", "w", "orld "), ("hello world ",)])
def test_a_word_counts_when_it_is_complete(words: Path, pieces: tuple[str, ...]) -> None:
    assert total(UnitModel(read_arpa(words)), *pieces) == pytest.approx(-0.2 - 0.01 - 0.05 - 0.4, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("world ", -0.3 - 0.6 - 0.4),
        ("world hello ", -0.3 - 0.6 - 0.1 - 0.5 - 0.2 - 1.2),
        ("你", -0.3 - 0.9 - 0.4 - 1.2),  # it needs no space behind it
        ("你world ", -0.3 - 0.9 - 0.25 - 0.4),
        ("", -0.3 - 1.2),
        ("xy ", -0.3 - 2.0 + 2 * math.log10(1 / 30) - 1.2),  # the model says nothing about its letters
    ],
)
def test_what_is_not_known_is_backed_off(words: Path, text: str, expected: float) -> None:
    assert total(UnitModel(read_arpa(words)), *filter(None, [text])) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("text", ["hello world ", "world hello world ", "你world xy 你hello ", ""])
def test_kenlm_scores_alike(words: Path, of_kenlm: UnitModel, text: str) -> None:
    own = UnitModel(read_arpa(words))
    pieces = filter(None, [text])
    assert total(own, *pieces) == pytest.approx(total(of_kenlm, *filter(None, [text])), abs=1e-4)
    _, states = of_kenlm.advance([of_kenlm.start] * 2, ["hello "] * 2)
    assert states[0] == states[1]
    assert len(set(states)) == 1, "states that are alike are one to the search"


def test_units_may_be_characters(tmp_path: Path) -> None:
    path = tmp_path / "letters.arpa"
    path.write_text(LETTERS)
    for units in (read_arpa(path), KenlmModel(kenlm.Model(str(path)), kenlm.State)):
        assert units.space == "<space>"
        values, _ = UnitModel(units).advance([UnitModel(units).start], ["ab "])
        np.testing.assert_allclose(values / LN10, [-0.5, -0.6, -0.7], atol=1e-5)


def test_a_model_without_an_unknown_word_finds_others_nearly_impossible(tmp_path: Path) -> None:
    path = tmp_path / "letters.arpa"
    path.write_text(LETTERS.replace("<space>", "c").replace("-1.0\t</s>\n", "-1.0\tddd\n"))
    model = UnitModel(read_arpa(path))
    assert total(model, "x ") < -7
    assert total(model, "a ") == pytest.approx(-0.5), "and it says nothing about the end"


def general() -> CharacterModel:
    return train(lambda: ["hello there", "hello you world", "a hell of a world"], order=4)


def test_words_are_mixed_with_a_model_of_characters(words: Path) -> None:
    other = general()
    mixed = UnitModel(read_arpa(words), other, 0.8)
    values, states = mixed.advance([mixed.start], ["hel"])
    begun, theirs = other.advance([other.start], ["hel"])
    np.testing.assert_allclose(values, begun, err_msg="until a word is complete, the general model counts alone")
    rest, states = mixed.advance(states, ["lo "])
    spelled = begun.sum() + other.advance(theirs, ["lo "])[0].sum()
    expected = math.log(0.8 * 10**-0.2 + 0.2 * math.exp(spelled))
    assert values.sum() + rest.sum() == pytest.approx(expected, abs=1e-4)
    ends = mixed.end(states)[0]
    theirs_end = other.end(other.advance([other.start], ["hello "])[1])[0]
    assert ends == pytest.approx(math.log(0.8 * 10 ** (-0.7 - 0.2 - 1.2) + 0.2 * math.exp(theirs_end)), abs=1e-4)
    # However the text is cut, and whatever has been known before.
    whole, after = mixed.advance([mixed.start], ["hello "])
    assert whole.sum() == pytest.approx(values.sum() + rest.sum(), abs=1e-4)
    assert after == states


def test_a_space_behind_nothing_is_no_word(words: Path) -> None:
    values, states = UnitModel(read_arpa(words)).advance([UnitModel(read_arpa(words)).start], [" "])
    assert values.tolist() == [0.0]
    assert states == [UnitModel(read_arpa(words)).start]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WORDS.replace("\\end\\", ""), "ends before"),
        (WORDS.replace("-0.5\tHELLO\t-0.2", "-0.5\tHELLO\tx"), "line 10: 'x' is no number"),
        (WORDS.replace("-0.5\tHELLO\t-0.2", "-0.5"), "line 10: has 1 fields; an n-gram of 1 has 2 or 3"),
        (WORDS.replace("你 world", "我 world"), "line 18: '我' is not among the 1-grams"),
        (WORDS.replace("\\2-grams", "\\x-grams"), "line 14: 'x' is no number"),
        (WORDS.replace("HELLO", "hel@@"), "pieces of words"),
        ("\\data\\\n\\1-grams:\n\\end\\\n", "has no n-grams"),
    ],
)
def test_damaged_arpa_files_are_told_of(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(text, "utf-8")
    assert is_arpa(path)
    with pytest.raises(LanguageModelError, match=message) as caught:
        load_language_model(path)
    assert "bad.arpa" in str(caught.value)


def test_too_large_an_arpa_file_is_refused(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parastream.model.language.arpa.MOST", 3)
    with pytest.raises(LanguageModelError, match="more than 3 n-grams; KenLM's binaries may be larger"):
        read_arpa(words)


def test_arpa_files_may_be_compressed(words: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.arpa.gz"
    packed = gzip.compress(words.read_bytes())
    path.write_bytes(packed)
    assert total(load_language_model(path), "hello ", "world ") == pytest.approx(-0.66, abs=1e-5)
    path.write_bytes(packed[:-20])
    with pytest.raises(LanguageModelError, match="damaged"):
        load_language_model(path)
    path.write_bytes(packed[:12])
    assert not is_arpa(path)


def test_models_are_mixed_with_the_general_one_unless_they_are_to_be_alone(words: Path, tmp_path: Path) -> None:
    save(train(lambda: ["quite a subject"]), tmp_path / "subject.lm")
    assert isinstance(load_language_model(tmp_path / "subject.lm"), CharacterModel)
    mixed = load_language_model(tmp_path / "subject.lm", general="lm-small-en")
    assert isinstance(mixed, Mixed)
    alone = load_language_model(tmp_path / "subject.lm", general="lm-small-en", share=1)
    assert isinstance(alone, CharacterModel)
    everyday = load_language_model("lm-small-en", general="lm-small-en")
    assert isinstance(everyday, CharacterModel)
    text = "it is a fine morning "
    assert total(everyday, text) > total(mixed, text) > total(alone, text) + 10
    assert total(load_language_model(words, general="lm-small-en"), text) > total(load_language_model(words), text)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_shares_that_make_no_sense(words: Path, share: float) -> None:
    with pytest.raises(LanguageModelError, match="allowed are numbers above 0, up to 1"):
        load_language_model(words, share=share)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"cannot read the language model .*absent.*the names lm-small-en"):
        load_language_model(tmp_path / "absent")
    with pytest.raises(LanguageModelError, match="cannot read the language model"):
        load_language_model(tmp_path)


def test_binaries_of_kenlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "damaged.binary"
    path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    with pytest.raises(LanguageModelError, match="KenLM cannot read it"):
        load_language_model(path)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(LanguageModelError, match=r"needs its module: pip install 'parastream\[kenlm\]'"):
        load_language_model(path)
