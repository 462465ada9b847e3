"""Names of speakers."""

from __future__ import annotations

import pytest
from parastream.server.transcripts.labels import channel_labels, speaker_prefix


def test_channels_without_a_name_are_counted_from_one() -> None:
    assert channel_labels(3, ["Alice"]) == ("Alice", "Channel 2", "Channel 3")
    assert channel_labels(2, ["Alice", "Bob"]) == ("Alice", "Bob")


def test_more_names_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 names \(Alice, Bob\) for 1 channel$"):
        channel_labels(1, ["Alice", "Bob"])


def test_only_a_named_speaker_is_written() -> None:
    assert (speaker_prefix("Alice"), speaker_prefix("")) == ("Alice: ", "")
