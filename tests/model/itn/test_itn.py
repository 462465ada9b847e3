"""Numbers as people write them: sentences with known written forms, and properties that hold for any words."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model.itn import normalise, normalise_line
from parastream.model.itn.mandarin import value
from parastream.model.spans import Written, on_words

SENTENCES = Path(__file__).parents[2] / "data" / "itn"


def sentences(name: str) -> list[tuple[str, list[str]]]:
    """Spoken sentences, each with the written forms that are right."""
    lines = (SENTENCES / f"{name}.txt").read_text("utf-8").splitlines()
    cases = (line.split(" => ") for line in lines)
    return [(spoken, [form.strip() for form in forms.split("|")]) for spoken, forms in cases]


def plain(text: str) -> str:
    """A text without the marks in dates and great numbers, which some leave out."""
    return text.replace(",", "").lower()


@pytest.mark.parametrize(
    ("name", "language"), [("en", "en"), ("held_out_en", "en"), ("zh", "zh"), ("held_out_zh", "zh")]
)
def test_sentences_are_written_as_people_write_them(name: str, language: str) -> None:
    wrong = [
        (spoken, written)
        for spoken, forms in sentences(name)
        if plain(written := normalise_line(spoken, language)) not in map(plain, forms)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("He paid twenty-five dollars.", "He paid $25."),
        ("On March fifth, twenty twenty-four, it rained.", "On March 5, 2024, it rained."),
        ("It begins on March fifth twenty twenty four.", "It begins on March 5, 2024."),
        ("Twenty, four of them new, are left.", "20, four of them new, are left."),
        ('"Thirty percent," she said.', '"30%," she said.'),
        ("At seven oh five a m we left.", "At 7:05 am we left."),
        ("at seven oh five", "at 7:05"),
        ("at 7 30 PM", "at 7 30 PM"),
        ("the twenty-year-old", "the twenty-year-old"),
        ("It is half-past six.", "It is 6:30."),
        ("it costs 25 dollars", "it costs $25"),
        ("25 percent of 3 million dollars", "25% of $3 million"),
        ("in 1994 there were 30 of them", "in 1994 there were 30 of them"),
        ("some hundred and fifty years", "some hundred and fifty years"),
        ("in the twenty twenty four twenty people", "in the 20 24 20 people"),
        ("room ten twenty seven sixty two", "room 102762"),
        ("five five five twelve thirty four", "555-1234"),
        ("ten to twelve", "10 to 12"),
        ("fifty fifty", "fifty fifty"),
        ("forty two sixteen", "42 16"),
        ("six forty one", "six forty one"),
        ("it is ten to twelve", "it is 11:50"),
        ("minus two dollars and zero percent", "-$2 and 0%"),
        ("one and a half million", "1.5 million"),
        ("twelve and a half percent", "12.5%"),
        ("five to ten dollars", "$5 to $10"),
        ("two or three thousand", "two or three thousand"),
        ("jane underscore doe at example dot co dot uk", "jane_doe@example.co.uk"),
        ("look at example dot com", "look at example.com"),
        ("his email is jane at example dot com", "his email is jane@example.com"),
        ("point two five is a quarter", "0.25 is a quarter"),
        ("twenty something people", "twenty something people"),
        ("we march in may two thousand and five", "we march in may 2005"),
        ("may twenty people come", "may 20 people come"),
        ("the hundred and fiftieth", "the hundred and 50th"),
        ("the two hundred and fiftieth day", "the 250th day"),
        ("twenty past four p m", "4:20 pm"),
        ("at eleven o'clock p m", "at 11 o'clock pm"),
        ("one million two hundred thousand", "1,200,000"),
        ("between one hundred and two hundred", "between 100 and 200"),
        ("one hundred and two thousand", "102,000"),
        ("three thousand and two million", "3000 and 2 million"),
        ("five hundredth", "500th"),
        ("two hundred dogs and fifty-nine cats", "200 dogs and 59 cats"),
        ("the seven twenty train", "the 7:20 train"),
        ("version two", "version 2"),
        ("eighty five per cent", "85%"),
        ("triple five one two", "55512"),
    ],
)
def test_english_with_marks_and_in_odd_places(spoken: str, written: str) -> None:
    assert normalise_line(spoken, "en") == written


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("百分之三点五", "3.5%"),
        ("千分之二", "2‰"),
        ("三十万分之一", "1/300000"),
        ("一百二十万三千", "1203000"),
        ("三萬五千億", "35000億"),
        ("三亿五千万", "3.5亿"),
        ("十一二个", "十一二个"),
        ("七八十人", "七八十人"),
        ("五千米", "5000米"),
        ("五千四百六十四千克", "5464千克"),
        ("一点一直不懂", "一点一直不懂"),
        ("下午一点到", "下午1点到"),
        ("负二点五", "-2.5"),
        ("胜负二十比十", "胜负20比10"),
        ("三比零", "三比零"),
        ("比分是三比零", "比分是3:0"),
        ("零零后", "00后"),
        ("七年前的三五年", "七年前的三五年"),
        ("零八年", "08年"),
        ("三点五分", "3点5分"),
        ("三点五分钟", "3.5分钟"),
        ("三十八度五", "38.5度"),
        ("我用五G和二十个app", "我用5G和20个app"),
        ("一万亿零五", "1000000000005"),
        ("房间号是一二", "房间号是一二"),
        ("初十五见", "初十五见"),
    ],
)
def test_mandarin_in_odd_places(spoken: str, written: str) -> None:
    assert normalise_line(spoken, "zh") == written


@pytest.mark.parametrize(
    ("numeral", "number"),
    [
        ("三千五", 3500),
        ("一千零五", 1005),
        ("十五", 15),
        ("二十亿零三百", 2000000300),
        ("五十百", None),
        ("三百千", None),
    ],
)
def test_mandarin_numerals(numeral: str, number: int | None) -> None:
    assert value(numeral) == number


def test_each_result_keeps_its_range_of_words() -> None:
    words = "it cost twenty five dollars on march fifth".split()  # noqa: SIM905
    assert normalise(words) == [
        Written("it", 0, 1),
        Written("cost", 1, 2),
        Written("$25", 2, 5),
        Written("on", 5, 6),
        Written("march", 6, 7),
        Written("5", 7, 8),
    ]
    assert normalise(list("今天十二月五日")) == [
        *(Written(char, place, place + 1) for place, char in enumerate("今天")),
        Written("12", 2, 4),
        Written("月", 4, 5),
        Written("5", 5, 6),
        Written("日", 6, 7),
    ]


def test_both_languages_in_one_utterance() -> None:
    assert [each.text for each in normalise(["打开", "twenty", "five", "二十", "五"])] == ["打开", "25", "25"]


def test_languages_without_rules_are_left_alone() -> None:
    assert [each.text for each in normalise(["six", "cent", "vingt"], "fr")] == ["six", "cent", "vingt"]


def test_a_stretch_within_words_makes_one_word_of_them() -> None:
    assert on_words(["ab", "cd", "ef"], [Written("X", 1, 3), Written("Y", 5, 6)]) == [
        Written("aXd", 0, 2),
        Written("eY", 2, 3),
    ]


NUMBERS = """
    one two five ten twelve twenty thirty ninety hundred thousand million and a oh zero point minus first second third
    twentieth nineteen eighties march may half quarter past to percent dollars cents at in the dot com p m o'clock odd
    double between or room 25 3.5 twenty-five mid, end. i people 三 十 百 万 点 分 年 个 两 几
"""


@given(st.lists(st.sampled_from(NUMBERS.split()), max_size=12))
def test_ranges_hold_every_word_in_order(words: list[str]) -> None:
    written = normalise(words)
    assert [place for each in written for place in range(each.first, each.stop)] == list(range(len(words)))
    assert all(each.text and not each.text.isspace() for each in written)
    assert all(" " not in each.text for each in written)


@given(st.lists(st.sampled_from("we like no one's idea. At once, they all came; 我们 一起 去 MLX GPT-4 1994".split())))  # noqa: SIM905
def test_words_without_numbers_stay_as_they_are(words: list[str]) -> None:
    assert [each.text for each in normalise(words)] == words


@pytest.mark.skipif(importlib.util.find_spec("wetext") is None, reason="wetext, another normaliser, is not installed")
@pytest.mark.parametrize(("name", "language", "least"), [("held_out_en", "en", 0.6), ("held_out_zh", "zh", 0.6)])
def test_another_normaliser_agrees_for_the_most_part(name: str, language: str, least: float) -> None:
    from wetext import Normalizer  # type: ignore[import-not-found]

    other = Normalizer(lang=language, operator="itn")
    cases = [spoken for spoken, forms in sentences(name) if spoken not in forms]
    same = sum(digits(other.normalize(spoken)) == digits(normalise_line(spoken, language)) for spoken in cases)
    assert same >= least * len(cases)


def digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())
