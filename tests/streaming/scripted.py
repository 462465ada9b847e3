"""A session whose models are a script: results are made up, and come back in any order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from parastream.model import SpeechModel
from parastream.model.final_pass import Hypothesis, TimedWord
from parastream.model.tokens import Tokens
from parastream.streaming import Session, SessionConfig, Vad
from parastream.streaming.events import Event
from parastream.streaming.work import FinalWork, VadWork, WindowWork, Work


class ScriptedSession:
    """Judges frames by a script; hears one token in each window and each pass."""

    def __init__(
        self,
        speech: SpeechModel,
        vad: Vad,
        config: SessionConfig,
        probabilities: Sequence[float],
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Frames past the end of `probabilities` are silent; `seed` orders what is done."""
        self.session = Session(config, speech, vad.new_state(), punctuated=False, name="scripted", clock=clock)
        self._probabilities = probabilities
        self._judged = 0
        self._random = random.Random(seed)
        self._waiting: list[Work] = []

    def step(self, *, finals: bool = True) -> bool:
        """Does one piece of what waits, with or without passes; False when there is none."""
        self._waiting += self.session.work(max_vad_frames=self._random.randint(1, 20))
        doable = [work for work in self._waiting if finals or not isinstance(work, FinalWork)]
        if not doable:
            return False
        work = self._random.choice(doable)
        self._waiting.remove(work)
        match work:
            case VadWork():
                places = range(self._judged, self._judged + work.frames)
                self._judged = places.stop
                script = self._probabilities
                given = [script[place] if place < len(script) else 0.0 for place in places]
                self.session.apply_vad(work, np.array(given, np.float32))
            case WindowWork():
                self.session.apply_window(work, token())
            case FinalWork():
                self.session.apply_final(work, hypothesis())
            case _:
                raise AssertionError(work)
        return True

    def drain(self, *, finals: bool = True) -> list[Event]:
        """Does all that waits; returns what is told of it."""
        while self.step(finals=finals):
            pass
        return self.session.events()


def hypothesis(text: str = "word", *, ear: str = "scripted", **said: Any) -> Hypothesis:
    """What a pass hears: words of a tenth of a second each."""
    words = (
        TimedWord(word, 0.1 * place, 0.1 * (place + 1), said.get("confidence", 0.5))
        for place, word in enumerate(text.split())
    )
    fields = {name: value for name, value in said.items() if name != "confidence"}
    return Hypothesis(ear, tuple(words), **({"marked": False} | fields))


def token() -> Tokens:
    """What every window hears."""
    return Tokens(np.array([5], np.int32), np.array([0.5], np.float32), np.array([0], np.int64))
