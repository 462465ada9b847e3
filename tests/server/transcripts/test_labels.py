"""Names of speakers."""

from __future__ import annotations

import pytest
from parastream.server.transcripts.labels import channel_labels, clean_label, speaker_prefix


def test_channels_without_a_name_are_counted_from_one() -> None:
    assert channel_labels(3, ["Alice"]) == ("Alice", "Channel 2", "Channel 3")
    assert channel_labels(2, ["Alice", "Bob"]) == ("Alice", "Bob")


def test_more_names_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 names \(Alice, Bob\) for 1 channel$"):
        channel_labels(1, ["Alice", "Bob"])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Ann", "Ann"),
        ("  Ann \t Lee\r\n", "Ann Lee"),
        ("\x1b[31mAnn\x1b[0m", "[31mAnn[0m"),
        ("Ann\x00\x07\x9b", "Ann"),
        ("A\u202enn\u2066\u200f\ufeff", "Ann"),
        ("A\u2028n\u2029n", "A n n"),
        ("a --> b", "a → b"),
        ("--->", "-→"),
        ("\ud800Ann", "Ann"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("👩\u200d🔧", "👩\u200d🔧"),
        ("", ""),
    ],
)
def test_a_name_holds_nothing_that_could_do_harm_where_it_is_shown(given: str, name: str) -> None:
    assert clean_label(given) == name
    assert channel_labels(1, [given]) == (name,)


def test_only_a_named_speaker_is_written() -> None:
    assert (speaker_prefix("Alice"), speaker_prefix("")) == ("Alice: ", "")
