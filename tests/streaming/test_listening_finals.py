"""A final model that listens for hotwords by itself, behind a speech model whose partials find them in the search."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parastream.model import load_final_pass
from parastream.model.hotword_terms import Terms
from parastream.model.hotwords import Hotword
from parastream.model.paraformer_pass import ParaformerPass
from parastream.streaming import Models, Session, SessionConfig
from parastream.streaming.events import Event, Partial
from parastream.streaming.runner import Runner
from parastream.streaming.work import FinalWork

from ..reference import recipe
from ..reference.driver import funasr_weights, write_directory
from .driver import drive, finals, steps

SEACO = "SeacoParaformer"
NAMES, OTHERS = (Hotword("RubOut"), Hotword("一丁")), (Hotword("丂七"), Hotword("GmEf", 1.0, ("g m e f",)))
TOKENS = recipe.tokens(recipe.SIZES[recipe.SEACO_SIZE])
TERMS = [((TOKENS.index("一"), TOKENS.index("丁")),), ((TOKENS.index("丂"), TOKENS.index("七")),)]
"""Those of each list that the network can take in: it cannot write "rubout", nor "g m e f"."""


@pytest.fixture
def ear(tmp_path: Path) -> ParaformerPass:
    write_directory(tmp_path, recipe.SEACO_SIZE, SEACO, funasr_weights(recipe.SEACO_SIZE, SEACO))
    found = load_final_pass(tmp_path)
    assert isinstance(found, ParaformerPass)
    return found


@pytest.fixture
def encoded(ear: ParaformerPass) -> list[Terms]:
    """The lists that the bias encoder has read so far."""
    known, lists = ear._speech.network._encoded_terms, list[Terms]()  # type: ignore[attr-defined]
    encode = known._encode

    def seen(terms: Terms) -> Generator[None, None, Any]:
        lists.append(terms)
        return (yield from encode(terms))

    known._encode = seen
    return lists


def test_hotwords_count_once_and_may_change(
    models: Models, sample: NDArray[np.int16], ear: ParaformerPass, encoded: list[Terms]
) -> None:
    runner = Runner(replace(models, final=ear, punctuation=None))
    session = runner.new_session(SessionConfig(hotwords=NAMES))
    events: list[Event] = []
    for second in range(12):
        if second == 7:  # after the second utterance
            session.receive_hotwords(OTHERS)
        session.receive_audio(sample[16000 * second : 16000 * (second + 1)].tobytes())
        drive(runner, session)
        events += session.events()
    session.receive_end()
    drive(runner, session)
    events += session.events()
    assert any("RubOut" in event.stable + event.draft for event in events if isinstance(event, Partial))
    assert len(finals(events)) == 3
    assert all(word.end <= final.end for final in finals(events) for word in final.words)
    assert encoded == TERMS, "once for each list"


def handed_out(runner: Runner, session: Session) -> FinalWork:
    """The first pass of a session, once everything before it is done."""
    return next(item for work in steps(runner, session) for item in work if isinstance(item, FinalWork))


def test_sessions_with_different_lists_share_a_batch(
    models: Models, sample: NDArray[np.int16], ear: ParaformerPass, encoded: list[Terms]
) -> None:
    runner = Runner(replace(models, final=ear, punctuation=None))

    def texts(*configs: SessionConfig) -> list[str]:
        sessions = [runner.new_session(config) for config in configs]
        for session in sessions:
            session.receive_audio(sample[: 4 * 16000].tobytes())
            session.receive_end()
        for _ in runner.run_finals([handed_out(runner, session) for session in sessions], steps=3):
            pass
        for session in sessions:
            drive(runner, session)
        return [finals(session.events())[0].text for session in sessions]

    configs = [SessionConfig(partials=False, hotwords=hotwords) for hotwords in (NAMES, (), OTHERS, NAMES)]
    assert texts(*configs) == [text for config in configs for text in texts(config)]
    assert sorted(encoded) == TERMS
