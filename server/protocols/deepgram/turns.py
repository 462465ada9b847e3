"""Turns of a conversation, made of utterances and of the pauses between them. Knows no messages.

What is known of the end of a turn is how long the speaker has been silent. Half of the turns are taken to be over after
`_HALF_LIFE` of silence: the confidence that one is over after `s` seconds is `s / (s + _HALF_LIFE)`, so each threshold
of a client is a silence. A turn may consist of several utterances: the recogniser ends one after the shorter silence,
at which the turn is over perhaps (eagerly), and it is over after the longer one, unless somebody has spoken in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from parastream.model.text import join
from parastream.server.protocols.base import OneByOne
from parastream.server.wire.messages import EndReason, Final, Partial, Word
from parastream.streaming import EndpointConfig

TurnEvent = Literal["StartOfTurn", "Update", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]
Trigger = Literal["model", "manual", "timeout"]

_HALF_LIFE = 0.6 * 0.3 / 0.7
"""Seconds. Deepgram's default threshold, 0.7, is 0.6 s of silence, which ends an utterance of this server, too."""
_LEAST_SILENCE = 0.3
"""Seconds; words of a sentence are not further apart."""
_MOST_SILENCE = 10.0
"""Seconds after which the recogniser ends an utterance at the latest."""


def silence_of(confidence: float) -> float:
    """Return the seconds of silence after which a turn is over with a confidence below 1; with 1 it never is."""
    return math.inf if confidence >= 1 else _HALF_LIFE * confidence / (1 - confidence)


def confidence_after(silence: float) -> float:
    """Return the confidence that a turn is over after so many seconds of silence."""
    return round(silence / (silence + _HALF_LIFE), 4)


@dataclass(frozen=True)
class Thresholds:
    """When a turn is over."""

    end: float = 0.7
    """Confidence at which it is."""
    eager: float | None = None
    """At which it is so perhaps; None: not asked for."""
    timeout: float = 5.0
    """Seconds of silence after which it is in any case."""

    @property
    def end_silence(self) -> float:
        """Seconds of silence that end a turn."""
        return min(max(silence_of(self.end), _LEAST_SILENCE), self.timeout)

    @property
    def eager_silence(self) -> float:
        """Seconds of silence after which the recogniser ends an utterance: the turn is over perhaps."""
        eager = self.end_silence if self.eager is None else max(silence_of(self.eager), _LEAST_SILENCE)
        return min(eager, self.end_silence, _MOST_SILENCE)

    @property
    def trigger(self) -> Trigger:
        """What ends a turn, if the client does not."""
        return "timeout" if self.end_silence >= self.timeout else "model"


@dataclass
class Turn:
    """What has been said in a turn so far."""

    index: int
    finals: list[Final] = field(default_factory=list)
    partial: Partial | None = None
    told: bool = False
    """Whether its beginning has been told: not before there are words."""

    @property
    def transcript(self) -> str:
        """All of its text."""
        partial = [] if self.partial is None else [self.partial.stable + self.partial.draft]
        return join([*(final.text for final in self.finals), *partial])

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the text."""
        said = [word for final in self.finals for word in final.words]
        return (*said, *(self.partial.words if self.partial is not None else ()))

    @property
    def start(self) -> float:
        """When it began, in seconds of the audio."""
        first = self.finals[0] if self.finals else self.partial
        return 0.0 if first is None else first.start


Tell = Callable[[TurnEvent, Turn, float, Trigger | None], None]
"""Is told of each event with the confidence that the turn is over, and what has ended it if it is."""


class Turns:
    """Follows the utterances of one channel."""

    def __init__(self, thresholds: Thresholds, endpoint: EndpointConfig, tell: Tell) -> None:
        """Begin with the first turn; `endpoint` is what the recogniser ends utterances by."""
        self.thresholds = thresholds
        self._endpoint = endpoint
        self._tell = tell
        self._turn = Turn(0)
        self._order = OneByOne()
        self._open: dict[int, float] = {}  # starts of utterances whose final has not come
        self._reasons: dict[int, EndReason] = {}
        self._silent_since: float | None = None  # the end of the turn's last utterance; None while one is open
        self._eager = False  # it was told that the turn is over perhaps

    def start_utterance(self, utterance: int, time: float) -> None:
        """Note that somebody speaks; `time` is a little before that."""
        self._open[utterance] = time
        if self._silent_since is not None:
            self._resume(time)

    def end_utterance(self, utterance: int, reason: EndReason) -> None:
        """Note that nobody speaks any more, and why."""
        self._reasons[utterance] = reason

    def hear(self, event: Partial | Final) -> None:
        """Take the text of an utterance."""
        for told in self._order.order(event):
            if isinstance(told, Final):
                self._finish(told)
            elif told.stable or told.draft:
                self._turn.partial = told
                self._tell_text()

    def advance(self, now: float) -> None:
        """Note that the first `now` seconds of the audio have been looked at."""
        # Speech is known to begin when it has lasted for a while.
        least = self.thresholds.end_silence + self._endpoint.min_speech
        if self._silent_since is not None and now >= self._silent_since + least:
            self._end(self.thresholds.trigger)

    def force(self) -> None:
        """End the turn, all of whose text has come."""
        if self._turn.told:
            self._end("manual")

    def _finish(self, final: Final) -> None:
        del self._open[final.utterance]
        reason = self._reasons.pop(final.utterance, "silence")
        self._turn.partial = None
        if final.text:
            self._turn.finals.append(final)
        if not self._turn.told and not final.text:
            return  # a noise
        if reason in ("cut", "flush", "finish"):  # more of it follows, or the client has asked for its end
            self._tell_text()
            return
        self._silent_since = max(final.start, final.end - self._endpoint.hangover)
        if self._open:  # somebody has spoken on before this was ready
            self._tell_text()
            self._resume(min(self._open.values()))
        elif self._endpoint.min_silence >= self.thresholds.end_silence:
            self._end(self.thresholds.trigger)
        else:
            self._tell_text(begin=True)
            if self.thresholds.eager is not None and self._turn.transcript:
                self._eager = True
                self._tell("EagerEndOfTurn", self._turn, confidence_after(self._endpoint.min_silence), None)

    def _resume(self, time: float) -> None:
        """Somebody speaks again: in the same turn, unless the pause was too long for that."""
        assert self._silent_since is not None
        if time + self._endpoint.pre_roll - self._silent_since >= self.thresholds.end_silence:
            self._end(self.thresholds.trigger)
            return
        self._silent_since = None
        if self._eager:
            self._eager = False
            self._tell("TurnResumed", self._turn, 0.0, None)

    def _tell_text(self, *, begin: bool = False) -> None:
        """Tell the text so far; with `begin` only if nothing of the turn has been told."""
        if not self._turn.told:
            self._turn.told = True
            self._tell("StartOfTurn", self._turn, 0.0, None)
        elif not begin:
            self._tell("Update", self._turn, 0.0, None)

    def _end(self, trigger: Trigger) -> None:
        self._tell_text(begin=True)
        confidence = 1.0 if trigger == "manual" else confidence_after(self.thresholds.end_silence)
        self._tell("EndOfTurn", self._turn, confidence, trigger)
        self._turn = Turn(self._turn.index + 1)
        self._silent_since, self._eager = None, False
