"""The browser of the tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser

from ..conftest import SAMPLE
from .browsing import LEAD, TWO_SENTENCES, running_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium whose microphone hears two sentences."""
    recording = tmp_path_factory.mktemp("web") / "sample.wav"
    speech, rate = soundfile.read(SAMPLE, dtype="int16", frames=TWO_SENTENCES)
    # The microphone runs before a busy page hears it.
    soundfile.write(recording, np.concatenate([np.zeros(LEAD, np.int16), speech]), rate)
    with running_browser(recording) as browser:
        yield browser
