"""The search of a speech model's words, with the language model that was chosen for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parastream.model import catalogue
from parastream.model.errors import LanguageModelError
from parastream.model.language.loading import SHARE, load_language_model
from parastream.model.language.model import LanguageModel
from parastream.model.search.scorer import WEIGHT
from parastream.model.search.search import WordSearch

if TYPE_CHECKING:
    from parastream.model.speech import SpeechModel

NONE = "none"
"""Stands for no language model."""


@dataclass(frozen=True, slots=True)
class LanguageModelChoice:
    """Which language model counts, and how much."""

    name: str = ""
    """Name or file; `none`; or empty for the general one with the embedded speech model, and none with others."""
    share: float = SHARE
    """Its share beside the general one, with which it is mixed where the speech model writes English only."""
    weight: float = WEIGHT
    """How much its log-probabilities count beside those of the speech model."""


def load_search(speech: SpeechModel, choice: LanguageModelChoice = LanguageModelChoice()) -> WordSearch:
    """Load what finds the words of a speech model.

    Raises:
        LanguageModelError: There is no such language model, it cannot be used, or a number is not allowed.
    """
    if not 0 < choice.weight < math.inf:
        raise LanguageModelError(f"the weight of the language model is {choice.weight}; allowed are numbers above 0")
    return WordSearch(speech.tokenizer, _language(speech, choice), choice.weight)


def _language(speech: SpeechModel, choice: LanguageModelChoice) -> LanguageModel | None:
    name = choice.name
    if not name and speech.name == catalogue.DEFAULT:
        name = catalogue.GENERAL_LANGUAGE_MODEL
    if name in ("", NONE):
        return None
    general = catalogue.GENERAL_LANGUAGE_MODEL if speech.languages == ("en",) else None
    return load_language_model(name, general=general, share=choice.share)
