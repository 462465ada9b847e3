"""Audio transcribed in this process as it comes, on the caller's own thread."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import AudioError
from parastream.model.text import join
from parastream.streaming.audio import SAMPLE_RATE, StreamResampler, float_samples
from parastream.streaming.events import Event, Final, InputRejected, Progress
from parastream.streaming.runner import Runner
from parastream.streaming.session import Session
from parastream.streaming.transcript import Transcript


class LiveStream:
    """One speaker's audio, live; `Transcriber.stream` makes it.

    `send` computes what the audio has made possible and returns what it told: `Partial`s while somebody speaks, a
    `Final` after each utterance, and `SpeechStarted` and `SpeechEnded` around them. There is no `Progress`, since
    everything sent has been looked at when `send` returns.

    Leaving the `with` block finishes the stream, unless it is left by an exception. Use a stream on the thread that
    loaded the models.
    """

    def __init__(self, runner: Runner, session: Session, rate: int) -> None:
        self._runner = runner
        self._session = session
        self._resampler = None if rate == SAMPLE_RATE else StreamResampler(rate)
        self._finals: list[Final] = []
        self._received = 0
        self._rate = rate
        self._finished = False

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def send(self, samples: NDArray[np.int16] | NDArray[np.floating[Any]] | bytes) -> list[Event]:
        """Take the next audio of one channel, as much or as little as there is.

        Args:
            samples: (N,) int16, or float with full scale 1; or bytes, which are 16-bit samples, little-endian.

        Returns:
            What has happened since the last call, in order.

        Raises:
            AudioError: The audio cannot be used (what was sent before is safe), or the stream has been finished.
        """
        if self._finished:
            raise AudioError("the stream has been finished; audio is accepted before that only")
        audio = float_samples(samples)
        self._received += len(audio)
        return self._hear(audio if self._resampler is None else self._resampler.push(audio))

    def flush(self) -> list[Event]:
        """End the open utterance with the audio sent so far, and return its final with what else has happened."""
        if self._finished:
            return []
        self._session.receive_flush()
        return self._events()

    def finish(self) -> list[Event]:
        """End the audio, and return all that was not told yet. A second call returns nothing."""
        if self._finished:
            return []
        self._finished = True
        events = [] if self._resampler is None else self._hear(self._resampler.finish())
        self._session.receive_end()
        return events + self._events()

    @property
    def transcript(self) -> Transcript:
        """What has been said: every utterance whose final has been told."""
        return Transcript(join(final.text for final in self._finals), tuple(self._finals), self._received / self._rate)

    def _hear(self, samples: NDArray[np.float32]) -> list[Event]:
        self._session.receive_audio(samples.astype("<f4").tobytes())
        return self._events()

    def _events(self) -> list[Event]:
        self._runner.run_all(self._session)
        events: list[Event] = [event for event in self._session.events() if not isinstance(event, Progress)]
        for event in events:
            match event:
                case Final():
                    self._finals.append(event)
                case InputRejected():
                    raise AudioError(event.message)
        return events
