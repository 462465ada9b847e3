"""Confidences that mean what they say: of the words at 0.8, about 80 % are right.

A network's probabilities rank words well, but are too low or too high as a whole. How much so depends on the model, and
on what it listens to: an unsure word among sure ones is right more often than among others. And a number that may be
written in several ways has its probability shared between them. So a word's logit is corrected by a line (Platt 1999),
by the logit of the utterance's mean probability, and by a constant for numbers and spelled letters.

The constants are fitted on recordings that the model was not trained on (`benchmarks/reliability.py`), and noted beside
the model, in its `configuration.json` (Whisper: `config.json`): `"calibration": {"full": {"slope": 0.7, "offset": 0.0,
"context": 0.5, "spelled": 2.3}, "streaming": {…}}`. A model without the entry gives its probabilities as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from parastream.model.errors import ModelConfigError
from parastream.model.untrusted import shown

KEY = "calibration"
"""Key of the entry in the model's description."""
_MOST = 10.0
_EDGE = 1e-6
_MARKS = "\"'“”‘’.,;:?!()-"


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a model's probabilities of words to the shares of such words that are right.

    Raises:
        ModelConfigError: A value cannot be used.
    """

    slope: float = 1.0
    """Of a word's own logit; above 0, so that the words of an utterance keep their order."""
    offset: float = 0.0
    context: float = 0.0
    """Of the logit of the mean probability of the utterance's words."""
    spelled: float = 0.0
    """Added for words with digits, and for letters that are spelled."""

    def __post_init__(self) -> None:
        values = (self.slope, self.offset, self.context, self.spelled)
        if not (self.slope > 0 and all(abs(value) <= _MOST for value in values)):
            raise ModelConfigError(f"{KEY}: {self} cannot be used: slope must be above 0, and all at most {_MOST:g}")

    @classmethod
    def of(cls, description: Mapping[str, Any], form: Literal["full", "streaming"] = "full") -> Self:
        """Take the entry for whole utterances, or for streaming, of a parsed description; none changes nothing.

        Raises:
            ModelConfigError: The entry cannot be used.
        """
        section = description.get(KEY, {})
        values = section.get(form, {}) if isinstance(section, Mapping) else None
        allowed = {field.name for field in fields(cls)}
        if (
            not isinstance(values, Mapping)
            or not set(values) <= allowed
            or not all(type(value) in (int, float) for value in values.values())
        ):
            example = f'{{"{form}": {{"slope": 1.0, "offset": 0.0, "context": 0.0, "spelled": 0.0}}}}'
            raise ModelConfigError(f"{KEY} must look like {example}, not {shown(section)}")
        return cls(**values)

    def __bool__(self) -> bool:
        """Say whether it changes anything."""
        return self != _NONE

    def apply(self, probabilities: Sequence[float], texts: Sequence[str]) -> list[float]:
        """Return what the probabilities of an utterance's words mean."""
        if not self or not probabilities:
            return list(probabilities)
        context = self.context * logit(sum(probabilities) / len(probabilities)) + self.offset
        return [
            1 / (1 + math.exp(-self.slope * logit(probability) - context - self.spelled * is_spelled(text)))
            for probability, text in zip(probabilities, texts, strict=True)
        ]


_NONE = Calibration()


def logit(probability: float) -> float:
    """Return the logit of a probability, of 0 and 1 too."""
    bounded = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(bounded / (1 - bounded))


def is_spelled(text: str) -> bool:
    """Say whether a word has digits, or consists of letters that are spelled: `39`, `GMEF`, `B`."""
    core = text.strip(_MARKS)
    return any(map(str.isdigit, core)) or (core.isalpha() and core.isupper() and core not in ("A", "I"))
