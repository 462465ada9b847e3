"""Rules for replacing words: how they are read, what they do, and what they never change again."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parastream.model import profanity
from parastream.model.errors import ReplacementError
from parastream.model.replacements import Replaced, Replacements
from parastream.model.text import join

LIST = r"""
# Names, as they are to be written.
new york => NYC
new york city => New York City
para stream => parastream
i phone => iPhone
/colou?r/ => color
/(\w+) dot (com|org)/ => \1.\2
/(\d+)/ percent => \1 % \\
damn =>
heck => *
gonna => going to
达摩院 => DAMO 院
他妈的 => *
"""
RULES = Replacements.read(LIST.splitlines())


def replaced(text: str, rules: Replacements = RULES) -> str:
    found, certain = rules.apply(text.split())
    assert certain == len(found)
    return join(each.text for each in found)


@pytest.mark.parametrize(
    ("heard", "shown"),
    [
        ("i love new york", "i love NYC"),
        ("I love New York, and", "I love NYC, and"),
        ("in new york city hall", "in New York City hall"),
        ("it is new. York is old", "it is new. York is old"),
        ('"New, York"', '"NYC"'),
        ("Colour is color", "Color is color"),
        ("mail example dot com, or info dot org.", "mail example.com, or info.org."),
        ("30 percent", r"30 % \ "[:-1]),
        ("I phone.", "iPhone."),
        ("Gonna go", "Going to go"),
        ("Damn, you came.", "You came."),
        ("you came, damn!", "you came!"),
        ("well damn you", "well you"),
        ("damn", ""),
        ("what the Heck?", "what the H***?"),
        ("... new york ...", "... NYC ..."),
        ("nothing here", "nothing here"),
        ("", ""),
    ],
)
def test_what_rules_do(heard: str, shown: str) -> None:
    assert replaced(heard) == shown


def test_chinese_words_are_found_however_the_recogniser_cuts_them() -> None:
    for words in (list("在达摩院里"), ["在", "达摩", "院里"], ["在达摩院", "里"], ["在达摩院里"]):
        found, _ = RULES.apply(words)
        assert join(each.text for each in found) == "在 DAMO 院里"
    assert [each.text for each in RULES.apply(list("他妈的"))[0]] == ["他**"]


def test_places_are_shares_of_the_words_before() -> None:
    found, _ = RULES.apply(["now", "gonna", "new", "york", "达摩院里"])
    assert found == [
        Replaced("now", 0, 1),
        Replaced("going", 1, 1.5),
        Replaced("to", 1.5, 2),
        Replaced("NYC", 2, 4),
        Replaced("DAMO", 4, 4.375),
        Replaced("院", 4.375, 4.75),
        Replaced("里", 4.75, 5),
    ]


def test_the_longest_match_wins_then_the_first_rule() -> None:
    rules = Replacements.read(["a => 1", "a => 2", "/[ab]/ => 3", "a b => 4", "/a|b/ /b+/ c => 5"])
    assert replaced("a", rules) == "1"
    assert replaced("b", rules) == "3"
    assert replaced("a b", rules) == "4"
    assert replaced("b bb c a", rules) == "5 1"


def test_a_list_before_another_wins() -> None:
    both = Replacements.read(["new york => Gotham"]).before(RULES)
    assert (replaced("new york damn", both), replaced("new york", RULES)) == ("Gotham", "NYC")
    assert RULES.before(Replacements()) is RULES
    assert Replacements().before(RULES) is RULES


def test_lists_go_from_process_to_process() -> None:
    most = Replacements.read(f"w{number} => x" for number in range(1000))
    both = RULES.before(most)
    there = pickle.loads(pickle.dumps(both))
    assert (there == both, there == RULES, hash(there) == hash(both)) == (True, False, True)
    assert replaced("new york w999", there) == "NYC x"


@pytest.mark.parametrize(
    ("heard", "settled", "certain"),
    [
        ("i love new", 3, "i love"),
        ("i love new york", 3, "i love"),
        ("i love new york", 4, "i love"),  # a city?
        ("i love new york now", 5, "i love NYC"),  # any word may come before "dot com"
        ("i love new jersey", 4, "i love new"),
        ("i love new jersey", 3, "i love"),
        ("so damn good", 3, "so"),
    ],
)
def test_what_a_rule_might_still_replace_is_not_settled(heard: str, settled: int, certain: str) -> None:
    found, count = RULES.apply(heard.split(), settled)
    assert join(each.text for each in found[:count]) == certain


WORDS = "new york city para stream i phone damn gonna a dot com heck color 达 摩 院 他妈的 达摩 30 percent AB".split()  # noqa: SIM905


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.data())
def test_what_is_settled_only_grows(words: list[str], data: st.DataObject) -> None:
    final = [each.text for each in RULES.apply(words)[0]]
    before: list[str] = []
    for settled in range(len(words) + 1):
        draft = data.draw(st.lists(st.sampled_from(WORDS), max_size=2))
        found, certain = RULES.apply(words[:settled] + draft, settled)
        now = [each.text for each in found[:certain]]
        assert now[: len(before)] == before
        before = now
    assert final[: len(before)] == before


@given(st.lists(st.sampled_from([*WORDS, "York,", "Damn!", "...", "(new"]), max_size=10))
def test_places_follow_each_other_and_lie_within_the_words(words: list[str]) -> None:
    found, _ = RULES.apply(words)
    places = [place for each in found for place in (each.begin, each.end)]
    assert places == sorted(places)
    assert all(0 <= place <= len(words) for place in places)
    assert all(each.text for each in found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wrong", "'wrong' is no rule; rules look like `wrong => right`"),
        ("=> right", "'=> right' is no rule; rules look like `wrong => right`"),
        ("... => right", "'...' holds no word to replace"),
        ("/(a/ => b", "/(a/ is no regular expression of RE2: missing ): (a (a blank ends the expression of a word)"),
        (r"/(?=a)/ => b", "/(?=a)/ is no regular expression of RE2: invalid perl operator: (?= "),
        ("/a{1000}{1000}/ => b", "/a{1000}{1000}/ is no regular expression of RE2: "),
        ("/a|b c/ => d", "'a|b' has alternatives outside of brackets"),
        (r"/(a|\|)[|] c|d/ => e", "'c|d' has alternatives outside of brackets"),
        ("// => b", "an expression is empty; they look like `/colou?r/`"),
        ("/a b => c", "'/a b' begins an expression and does not end it; they look like `/colou?r/`"),
        (r"/a\/ => c", "begins an expression and does not end it"),
        (r"/(a)/ => \2", r"'\\2' names group 2; '/(a)/' has 1"),
        (r"a => \0", r"'\\0' names group 0; 'a' has 0"),
        ("a" * 600 + " => b", "a rule has 605 characters; allowed are 500"),
    ],
)
def test_a_line_that_is_no_rule_is_named_with_its_number(line: str, message: str) -> None:
    with pytest.raises(ReplacementError) as error:
        Replacements.read(["good => fine", "", line], where="list.txt, ")
    assert str(error.value).startswith(f"list.txt, line 3: {message}") or message in str(error.value)


def test_lists_have_an_end() -> None:
    with pytest.raises(ReplacementError, match="there are 1001 rules; allowed are 1000"):
        Replacements.read(f"w{number} => x" for number in range(1001))
    with pytest.raises(ReplacementError, match="there are 101 regular expressions; allowed are 100"):
        Replacements.read(f"/w{number}+/ => x" for number in range(101))


def test_no_expression_takes_more_than_linear_time() -> None:
    """With backtracking this one would take longer than the universe has existed."""
    rules = Replacements.read([r"/((a|a|aa)+)+b/ => x"])
    assert replaced("a" * 5000, rules) == "a" * 5000


def test_swear_words_are_masked_or_left_out() -> None:
    heard = "Shit, the fucking classic assassin passed. 你他妈的"
    assert replaced(heard, profanity.rules("keep")) == heard
    assert replaced(heard, profanity.rules("mask")) == "S***, the f****** classic assassin passed. 你他**"
    assert replaced(heard, profanity.rules("drop")) == "The classic assassin passed. 你"
