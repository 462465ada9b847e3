"""What messages about live audio and responses about recordings have in common."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from importlib.metadata import version

from msgspec import UNSET
from parastream.server.protocols.deepgram.messages import ModelInfo, SpokenWord
from parastream.server.wire.messages import Word

_VERSION = version("parastream")  # read from the disk
_MARKS = ".,;:!?\"'()[]{}。，、？！；：…“”‘’（）《》"
"""What a plain word is without; signs such as those of `$25` and `35%` belong to it."""


def spoken_words(words: Sequence[Word], *, punctuate: bool) -> tuple[SpokenWord, ...]:
    """Return words in small letters and without marks; with `punctuate`, also as they stand in the transcript."""
    return tuple(
        SpokenWord(
            word=word.text.strip(_MARKS).lower() or word.text,
            start=word.start,
            end=word.end,
            confidence=word.confidence,
            punctuated_word=word.text if punctuate else UNSET,
        )
        for word in words
    )


def mean_confidence(words: Sequence[Word]) -> float:
    """Return the mean over words; 0 without words."""
    return round(math.fsum(word.confidence for word in words) / len(words), 4) if words else 0.0


def model_info(model: str) -> ModelInfo:
    """Return what is said of the server's model."""
    return ModelInfo(model, _VERSION)


def model_uuid(model: str) -> str:
    """Return the identifier of the server's model."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, model))
