"""Ids to text against FunASR's own output, and the places where it loses text."""

from __future__ import annotations

import json
from pathlib import Path

import parastream.model.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.directory import ModelDirectory
from parastream.model.text import join
from parastream.model.tokenizer import SPECIAL, Tokenizer, TokenWord

ASSETS = Path(parastream.model.errors.__file__).parent / "assets"
GOLDEN = Path(__file__).parents[1] / "data" / "golden_an4.json"

# The kinds of token that Paraformer's list of 8,404 has.
MIXED = [
    *("<blank>", "<s>", "</s>", "hel@@", "lo", "hello", "wor@@", "ld", "a", "b", "c", "i", "you@@", "r"),
    *("'s", "it", "don't", "-", "-@@", "你", "好", "中", "0", "1", "0@@", "2@@", "@", "&", ".", "<unk>"),
]


@pytest.fixture(scope="module")
def mixed() -> Tokenizer:
    return Tokenizer(MIXED)


def ids_of(*tokens: str) -> list[int]:
    return [MIXED.index(token) for token in tokens]


def test_decodes_an4_as_funasr_does() -> None:
    tokenizer = Tokenizer(ModelDirectory(ASSETS / "asr-small-en").tokens)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(golden) == 130
    for record in golden:
        full = record["full_context"]
        assert tokenizer.decode(full["ids"]) == full["text"], record["file"]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        # as FunASR's sentence_postprocess
        ("hello wor@@ ld", "hello world"),
        ("a b c", "ABC"),
        ("a", "a"),
        ("hello a b wor@@ ld c", "hello AB world c"),
        ("a hello b", "a hello b"),
        ("1 . 0", "1.0"),
        ("don't it 's", "don't it 's"),
        ("hel@@ <unk> lo", "hello"),
        ("<s> <blank> <unk> </s>", ""),
        ("", ""),
        # FunASR: "你", "你world", "2@@0@@1", "hello 你" (the sign is lost)
        ("你 hel@@", "你 hel"),
        ("wor@@ 你 ld", "wor 你 ld"),
        ("2@@ 0@@ 1", "201"),
        ("hello . 你", "hello . 你"),
        # FunASR: no spaces beside Chinese characters and digits, one before a sign
        ("hel@@ lo 你 好 wor@@ ld", "hello 你好 world"),
        ("a b 你 c i", "AB 你 CI"),
        ("hello 0 wor@@ ld", "hello 0 world"),
        ("hello & wor@@ ld", "hello & world"),
        # FunASR: "c0", "a &b"
        ("你 c 0 好", "你 C0 好"),
        ("a & b", "A&B"),
        # an unfinished piece is not a spelled letter: it will grow into a word
        ("a b you@@", "AB you"),
    ],
)
def test_text(mixed: Tokenizer, tokens: str, text: str) -> None:
    assert mixed.decode(ids_of(*tokens.split())) == text


def test_words_know_their_tokens(mixed: Tokenizer) -> None:
    ids = ids_of(*["<s>", "hel@@", "<unk>", "lo", "你", "好", "a", "b", "c", "wor@@", "ld", "</s>"])
    assert mixed.words(ids) == [
        TokenWord("hello", 1, 4),
        TokenWord("你", 4, 5),
        TokenWord("好", 5, 6),
        TokenWord("ABC", 6, 9),
        TokenWord("world", 9, 11),
    ]


@given(st.lists(st.integers(0, len(MIXED) - 1), max_size=30))
def test_words_cover_the_text_and_the_ids(ids: list[int]) -> None:
    tokenizer = Tokenizer(MIXED)
    words = tokenizer.words(ids)
    assert join(word.text for word in words) == tokenizer.decode(ids)
    assert all(word.text for word in words)
    covered: list[int] = []
    for word in words:
        assert word.first < word.stop
        covered.extend(range(word.first, word.stop))
    assert covered == sorted(set(covered)), "ranges overlap or go back"
    spoken = [index for index, token_id in enumerate(ids) if MIXED[token_id] not in SPECIAL]
    assert set(spoken) <= set(covered)
    # nothing but case and spacing differs from the tokens themselves
    letters = "".join(MIXED[ids[index]].replace("@@", "") for index in spoken)
    assert join(word.text for word in words).replace(" ", "").lower() == letters


@given(
    st.lists(st.sampled_from(["hello", "world", "a", "b", "it", "don't", "你", "好", "0", "1", "your"]), max_size=20)
)
def test_decode_undoes_encode(words: list[str]) -> None:
    tokenizer = Tokenizer(MIXED)
    text = " ".join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids).lower().replace(" ", "") == text.replace(" ", "")
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello World", "hello wor@@ ld"),
        ("hello ABC", "hello a b c"),
        ("你好hello01", "你 好 hello 0 1"),
        ("hello zebra 龍 <unk>", "hello <unk> <unk> <unk>"),
        ("  \n", ""),
        ("", ""),
    ],
)
def test_encode(mixed: Tokenizer, text: str, tokens: str) -> None:
    assert mixed.encode(text) == ids_of(*tokens.split())


def test_words_are_cut_as_somebody_knows_them_to_be() -> None:
    tokens = ["ab", "a@@", "b", "c"]
    cuts = {"ab": ("a@@", "b"), "abc": ("ab@@", "c")}
    tokenizer = Tokenizer(tokens, cuts=cuts)
    assert tokenizer.encode("ab Ab") == [1, 2, 1, 2]
    assert Tokenizer(tokens).encode("ab") == [0]
    assert tokenizer.encode("abc") == [], "no piece of that name is there, nor another way to spell it"


def test_longest_piece_first() -> None:
    tokens = ["in@@", "i@@", "n@@", "ter@@", "net", "internet@@", "inter@@", "s", "<unk>"]
    tokenizer = Tokenizer(tokens)
    assert [tokens[i] for i in tokenizer.encode("internet")] == ["inter@@", "net"]
    assert [tokens[i] for i in tokenizer.encode("internets")] == ["internet@@", "s"]


@pytest.mark.parametrize("token_id", [-1, len(MIXED)])
def test_refuses_an_unknown_id(mixed: Tokenizer, token_id: int) -> None:
    with pytest.raises(IndexError, match=f"token id {token_id} is not in the list of {len(MIXED)} tokens"):
        mixed.decode([3, token_id])
