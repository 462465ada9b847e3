"""Recordings and live audio transcribed in this process, without threads or sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model import Punctuator, SpeechModel, load_punctuation, load_search, silero_weights
from parastream.model.errors import AudioError
from parastream.model.final_pass import FinalPass
from parastream.model.search.search import WordSearch
from parastream.model.text import join
from parastream.streaming.audio import SAMPLE_RATE, AudioFormat, Encoding, resample
from parastream.streaming.events import Event, Final, InputRejected, Progress
from parastream.streaming.live import LiveStream
from parastream.streaming.runner import Models, Runner
from parastream.streaming.session import SessionConfig
from parastream.streaming.transcript import Transcript
from parastream.streaming.vad import Vad

_FORMAT = AudioFormat(Encoding.F32LE, SAMPLE_RATE)
_PIECE = SAMPLE_RATE


class Transcriber:
    """Transcribe recordings, one at a time, and live audio, exactly as the server does.

    Example:
        >>> import numpy as np, parastream.model, parastream.streaming
        >>> blas = parastream.model.prepare_process()  # a program's first step: computing is slow on Linux without it
        >>> model = parastream.model.load()
        >>> transcriber = parastream.streaming.Transcriber(model)
        >>> transcriber.transcribe(np.zeros(16000, np.float32), 16000).text
        ''

        Live, as audio comes, with an event for all that is heard (here, nothing):

        >>> with transcriber.stream(rate=48000) as stream:
        ...     for event in stream.send(np.zeros(48000, np.int16)):
        ...         print(event)
        >>> stream.transcript.text
        ''
    """

    def __init__(
        self,
        model: SpeechModel | None,
        *,
        punctuation: Punctuator | str | None = "",
        final: FinalPass | None = None,
        better: FinalPass | None = None,
        search: WordSearch | None = None,
        vad: Vad | None = None,
        config: SessionConfig = SessionConfig(partials=False),
    ) -> None:
        """Put the models together, loading those that are not handed in.

        Args:
            model: The speech model for all passes; None where `final` hears alone.
            punctuation: A loaded model, a name or directory ("" is the embedded one), or None for bare words.
            final: What hears whole utterances; `model` does if left out.
            better: What hears them, too; `parastream.model.choice` decides between the two. For English free speech,
                `parastream.model.load_final_pass("whisper-tiny-en")`.
            search: What finds the words of `model`, with a language model or without one. Default: with the general
                one for the embedded speech model, without one for others; see `parastream.model.load_search`.
            vad: A detector to share with others. Default: one with silero's weights, fetched once if need be.
            config: Settings of each session.

        Raises:
            ModelError: A model that was not handed in cannot be fetched or loaded.
        """
        if isinstance(punctuation, str):
            punctuation = load_punctuation(punctuation) if punctuation else load_punctuation()
        self._runner = Runner(
            Models(
                model,
                vad or Vad(silero_weights.load()),
                final,
                punctuation,
                better,
                search or (None if model is None else load_search(model)),
            )
        )
        self._config = config

    def transcribe(
        self,
        samples: NDArray[np.floating[Any]],
        sample_rate: int,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Transcribe a recording.

        Args:
            samples: (N,) float in [-1, 1], one channel.
            sample_rate: Any positive rate; audio is resampled to 16 kHz.
            progress: Called with the seconds of audio that have been looked at.

        Raises:
            AudioError: The samples cannot be used.
        """
        audio = resample(samples, sample_rate)
        finals = []
        for event in self.events(audio):
            match event:
                case InputRejected():
                    raise AudioError(event.message)
                case Final():
                    finals.append(event)
                case Progress() if progress is not None:
                    progress(event.time)
        text = join(final.text for final in finals)
        return Transcript(text, tuple(finals), len(audio) / SAMPLE_RATE)

    def events(self, samples: NDArray[np.float32]) -> Iterator[Event]:
        """Yield all events of a recording (N,) at 16 kHz, as a client of the server would get them."""
        config = replace(self._config, format=_FORMAT)
        session = self._runner.new_session(config)
        for start in range(0, len(samples), _PIECE):
            piece = samples[start : start + _PIECE]
            session.receive_audio(piece.astype("<f4").tobytes())
            self._runner.run_all(session)
            yield from session.events()
        session.receive_end()
        self._runner.run_all(session)
        yield from session.events()

    def stream(self, rate: int = SAMPLE_RATE, *, partials: bool = True) -> LiveStream:
        """Begin to transcribe audio as it comes; see `LiveStream`.

        Args:
            rate: Samples per second of the audio, any positive number.
            partials: Whether text is told while an utterance lasts.

        Raises:
            AudioError: The rate cannot be used.
        """
        if isinstance(rate, bool) or not isinstance(rate, int) or rate <= 0:
            raise AudioError(f"audio rate {rate!r} is not supported; allowed: positive whole numbers")
        config = replace(self._config, format=_FORMAT, partials=partials)
        return LiveStream(self._runner, self._runner.new_session(config), rate)
