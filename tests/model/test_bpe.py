"""Words cut into byte-pair pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from parastream.model.bpe import pieces_of, read_merges
from parastream.model.catalogue import resolve
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "data" / "golden_an4.json"
MERGES = read_merges(["#version: 0.2", "l o", "lo w</w>", "e r</w>", "a a", ""])


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("low", ["low"]),
        ("lower", ["lo", "w", "er"]),
        ("l", ["l"]),
        ("aaa", ["aa", "a"]),
        ("aaaaa", ["aa", "aa", "a"]),
        ("wolo", ["w", "o", "l", "o"]),
        ("lolow", ["lo", "low"]),
    ],
)
def test_the_most_frequent_pair_is_merged_first(word: str, pieces: list[str]) -> None:
    assert pieces_of(word, MERGES) == pieces


def test_the_text_that_funasr_hears_is_cut_into_the_tokens_that_it_heard() -> None:
    """The longest pieces, without the merges, give other tokens for eleven of these."""
    directory = ModelDirectory(resolve("asr-small-en"))
    tokenizer = Tokenizer(directory.tokens, directory.merges)
    golden = [entry["full_context"] for entry in json.loads(GOLDEN.read_text(encoding="utf-8"))]
    assert [tokenizer.encode(each["text"]) for each in golden] == [each["ids"] for each in golden]


def test_a_piece_that_is_not_in_the_vocabulary_is_spelled_by_others() -> None:
    tokenizer = Tokenizer(["l@@", "o@@", "w", "w@@", "e@@", "r"], MERGES)
    assert tokenizer.encode("low") == [0, 1, 2]
    assert tokenizer.encode("lower") == [0, 1, 3, 4, 5]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bpe.codes").write_text("#version: 0.2\nt h\nthree pieces here\n", encoding="utf-8")
    with pytest.raises(ModelConfigError, match=r"bpe\.codes: line 3: must be two pieces .* got 'three pieces here'"):
        _ = ModelDirectory(tmp_path).merges
    (tmp_path / "bpe.codes").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelConfigError, match=r"bpe\.codes"):
        _ = ModelDirectory(tmp_path).merges
