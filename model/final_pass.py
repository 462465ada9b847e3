"""What a final pass is: whole utterances in, words with times and confidences out.

Paraformer, Whisper and SenseVoice each have one. The engine batches, slices and overtakes them all alike, and `choice`
decides between two that have heard the same utterance.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from parastream.model.calibration import Calibration
from parastream.model.computing import Computing
from parastream.model.hotwords import Hotwords
from parastream.model.text import join

SAMPLE_RATE = 16000
"""Hz, of all utterances."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a final pass can do."""

    languages: tuple[str, ...]
    """What it can transcribe, as ISO 639 codes."""
    writes_marks: bool
    """Whether its words carry their own punctuation and capitals; others are handed to a punctuation model."""
    takes_hotwords: bool
    gives_word_times: bool
    longest_seconds: float | None
    """The longest utterance that it takes; None where there is no limit."""
    best_seconds: float | None = None
    """Where utterances are cut while it listens, for its cost and its text; None: nowhere earlier than without it."""


@dataclass(frozen=True, slots=True)
class FinalInput:
    """An utterance for a final pass."""

    samples: NDArray[np.float32]
    """(N,) in [-1, 1], one channel at 16 kHz."""
    language: str | None = None
    """What is spoken, one of `Capabilities.languages`; None: the model finds out."""
    hotwords: Hotwords = ()
    """What to listen for."""
    marks: bool = True
    """Whether marks, capitals and written numbers are wanted; models that write in one way only pay no heed."""
    draft: tuple[int, ...] = ()
    """`Hypothesis.tokens` of the same model for a shorter piece of the utterance: most will be said again, and saying
    so takes less time. The text is the same without. Models that do not write token by token pay no heed."""
    alone: bool = False
    """Whether no other model hears it: then one that begins to repeat itself tries again, at a higher cost."""
    rows: Sequence[NDArray[np.float32]] = ()
    """Rows of features that the same model's frontend has given for windows of it, from its beginning on."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word of an utterance."""

    text: str
    start: float
    """Seconds from the utterance's first sample."""
    end: float
    """Seconds from the utterance's first sample."""
    confidence: float
    """The model's probability of the word's least likely token, 0 to 1; see `Hypothesis.calibration`."""
    kept: bool = False
    """Whether it is spelled as somebody wants it, so that nothing may change that."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a final pass makes of an utterance."""

    ear: str
    """Name of the model."""
    words: tuple[TimedWord, ...]
    marked: bool
    """Whether the words carry their own punctuation and capitals."""
    language: str | None = None
    """What is spoken; None if the model does not say."""
    no_speech: float = 0.0
    """Probability that nobody speaks; 0 for models that give none."""
    looped: bool = False
    """Whether the model began to repeat itself and was stopped."""
    mean_log_probability: float = 0.0
    """Mean over the tokens, the end included; 0 for models that give none."""
    emotion: str | None = None
    """How the speaker sounds, such as `happy`; None if the model does not say."""
    sound: str | None = None
    """What is to be heard, such as `speech` or `laughter`; None if the model does not say."""
    tokens: tuple[int, ...] = ()
    """The model's tokens, for `FinalInput.draft`; none of models that take no draft."""
    calibration: Calibration = Calibration()
    """What the words' confidences mean."""

    @property
    def text(self) -> str:
        """The words, joined."""
        return join(word.text for word in self.words)

    @property
    def calibrated_words(self) -> tuple[TimedWord, ...]:
        """The words, with confidences that say how many of such words are right."""
        return calibrated(self.words, self.calibration)

    @property
    def confidence(self) -> float:
        """Mean over the words, not calibrated; 0 where there are none."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else 0.0


def calibrated(words: Sequence[TimedWord], calibration: Calibration) -> tuple[TimedWord, ...]:
    """Return the words of an utterance with confidences that say how many of such words are right."""
    meant = calibration.apply([word.confidence for word in words], [word.text for word in words])
    return tuple(replace(word, confidence=value) for word, value in zip(words, meant, strict=True))


class FinalPass(Protocol):
    """A model that transcribes whole utterances. It belongs to the thread that loaded it."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def computing(self) -> Computing:
        """How it is computed."""

    def warm_up(self) -> None:
        """Run once, so that the first client does not wait for kernels and buffers."""

    def steps(self, seconds: float) -> int:
        """Return about how many steps (encoder layers or parts of them, tokens) an utterance of that length takes."""

    def transcribe_in_slices(
        self, utterances: Sequence[FinalInput], *, steps: int
    ) -> Generator[None, None, list[Hypothesis]]:
        """Transcribe utterances of any lengths in a batch.

        Each gets what it would get alone. Yield after every `steps` steps, so that other work can go between.

        Returns:
            One hypothesis for each utterance, in order.

        Raises:
            AudioError: An utterance is too long, or its language is not among those of the model.
        """
