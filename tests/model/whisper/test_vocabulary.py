"""Whisper's vocabularies: ids of special tokens, texts, and the files that they are read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parastream.model.errors import ModelConfigError
from parastream.model.languages import WHISPER
from parastream.model.whisper import vocabulary
from parastream.model.whisper.vocabulary import Vocabulary

from .forms import tokens

SIZES = (51864, 51865, 51866)
"""Ids of models for English, of multilingual ones, and of those from large-v3 on."""
SUPPRESSED = (
    "1 2 7 8 9 10 14 25 26 27 28 29 31 58 59 60 61 62 63 90 91 92 93 357 366 438 532 685 705 796 930 1058 1220 1267"
    " 1279 1303 1343 1377 1391 1635 1782 1875 2162 2361 2488 3467 4008 4211 4600 4808 5299 5855 6329 7203 9609 9959"
    " 10563 10786 11420 11709 11907 13163 13697 13700 14808 15306 16410 16791 17992 19203 19510 20724 22305"
    " 22935 27007 30109 30420 33409 34949 40283 40493 40549 47282 49146"
)
"""Ordinary tokens in `suppress_tokens` of openai/whisper-tiny.en."""


@pytest.fixture(scope="module", params=SIZES)
def known(request: pytest.FixtureRequest) -> Vocabulary:
    return Vocabulary(tokens(request.param), request.param)


def test_special_tokens_have_the_published_ids(known: Vocabulary) -> None:
    found = (known.end, known.start, known.transcribe, known.no_speech, known.no_timestamps, len(known.languages))
    assert (
        found
        == {
            51864: (50256, 50257, 50358, 50361, 50362, 1),
            51865: (50257, 50258, 50359, 50362, 50363, 99),
            51866: (50257, 50258, 50360, 50363, 50364, 100),
        }[known.size]
    )
    assert known.size == known.no_timestamps + 1502


def test_prompts(known: Vocabulary) -> None:
    if known.multilingual:
        assert known.prompt("de") == [50261, known.transcribe, known.no_timestamps]
        assert known.language_ids == slice(50259, 50259 + len(known.languages))
    else:
        assert known.prompt("en") == [known.no_timestamps]


@pytest.mark.parametrize(
    "text", [" Hello, world! It's 5 o'clock.", "你好，世界。", " naïve café ☕", "  two  spaces\n"]
)
def test_texts_come_back(known: Vocabulary, text: str) -> None:
    assert b"".join(map(known.token, known.encode(text))).decode() == text


def test_pieces_are_merged_as_tiktoken_does() -> None:
    known = Vocabulary.from_directory(Path("nowhere"), 51864)
    assert known.encode(" Rub out G-M-E-F-39") == [6256, 503, 402, 12, 44, 12, 36, 12, 37, 12, 2670]
    assert known.encode(" 1, 3, 7") == [352, 11, 513, 11, 767]


def test_what_is_never_said_is_what_openai_suppresses() -> None:
    known = Vocabulary.from_directory(Path("nowhere"), 51864)
    never = set(np.flatnonzero(np.isneginf(known.suppressed(first=False))).tolist())
    assert {token for token in never if token < known.end} == set(map(int, SUPPRESSED.split()))
    assert known.end not in never
    assert set(range(known.start, known.size)) <= never
    first = set(np.flatnonzero(np.isneginf(known.suppressed(first=True))).tolist())
    assert first - never == {220, known.end}


def test_the_languages_are_whispers() -> None:
    assert len(set(WHISPER)) == len(WHISPER) == 100
    assert (WHISPER[:3], WHISPER[98:]) == (("en", "zh", "de"), ("su", "yue"))


@pytest.mark.parametrize("file", ["vocabulary.txt", "vocab.json", "tokenizer.json"])
def test_every_file_gives_the_same_tokens(file: str, tmp_path: Path) -> None:
    known = tokens(51865)
    names = vocabulary.written(known).decode().split("\n")
    table = {name: i for i, name in enumerate(names)} | {"<|endoftext|>": 50257}
    content: dict[str, Any] = {"vocab.json": table, "tokenizer.json": {"model": {"vocab": table}}}
    path = tmp_path / file
    path.write_bytes(json.dumps(content[file]).encode() if file in content else vocabulary.written(known))
    assert vocabulary.read(tmp_path, 0) == known


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", '{"a": 0, "b": 2}', "the ids of the vocabulary have gaps"),
        ("vocab.json", '{"a": 0, "b": "1", "c": [2]}', "the ids of the vocabulary must be integers"),
        ("vocab.json", '["a"]', "must hold an object"),
        ("tokenizer.json", '{"model": {}}', "has no table of tokens under model.vocab"),
        ("tokenizer.json", '{"model": {"vocab": [["a", 0.5]]}}', "has no table of tokens under model.vocab"),
        ("vocabulary.txt", "a\nb c", "vocabulary.txt: ' ' stands for no byte"),
        ("vocabulary.txt", "a\nb", "2 tokens of 51865 ids are not a Whisper model's"),
    ],
)
def test_a_vocabulary_that_cannot_be_used(file: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(ModelConfigError, match=message):
        Vocabulary.from_directory(tmp_path, 51865)


@pytest.mark.parametrize("size", [51865, 51900])
def test_a_model_of_several_languages_needs_a_vocabulary_beside_it(size: int, tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"has no vocabulary: looked for vocabulary\.txt, vocab\.json"):
        Vocabulary.from_directory(tmp_path, size)
