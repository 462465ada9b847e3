"""The browser of the tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser

from ..conftest import SAMPLE
from .browsing import LEAD, TWO_SENTENCES, running_browser


@pytest.fixture(scope="module")
def two_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears, in a file."""
    recording = tmp_path_factory.mktemp("web") / "sample.wav"
    speech, rate = soundfile.read(SAMPLE, dtype="int16", frames=TWO_SENTENCES)
    # The microphone runs before a busy page hears it.
    soundfile.write(recording, np.concatenate([np.zeros(LEAD, np.int16), speech]), rate)
    return recording


@pytest.fixture(scope="module")
def browser(two_sentences: Path) -> Iterator[Browser]:
    """A Chromium whose microphone hears two sentences."""
    with running_browser(two_sentences) as browser:
        yield browser
