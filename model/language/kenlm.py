"""KenLM's binary files, by its own Python module (the extra `kenlm`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from parastream.model.errors import LanguageModelError
from parastream.model.language.words import SPACES, UNKNOWN_CHARACTER

MAGIC = b"mmap lm http://kheafield.com/code"
"""How all of its binary files begin."""
_LN10 = math.log(10)


class KenlmModel:
    """A model of units; see `words.Units`. Histories are KenLM's states."""

    def __init__(self, model: Any, new_state: Any) -> None:
        """Take a `kenlm.Model` and the class of its states."""
        self._model = model
        self._new_state = new_state
        self.space = next((space for space in SPACES if space in model), None)
        self.start = new_state()
        model.BeginSentenceWrite(self.start)

    def score(self, history: Any, unit: str) -> tuple[float, Any]:
        """See `Units`."""
        spelled = 0.0
        if unit not in self._model:
            if unit.upper() in self._model:
                unit = unit.upper()
            else:
                spelled = len(unit) * UNKNOWN_CHARACTER
        after = self._new_state()
        return self._model.BaseScore(history, unit, after) * _LN10 + spelled, after

    def end(self, history: Any) -> float:
        """See `Units`."""
        return float(self._model.BaseScore(history, "</s>", self._new_state()) * _LN10)


def read_kenlm(path: Path) -> KenlmModel:
    """Read a model.

    Raises:
        LanguageModelError: The module is not installed, or the file is damaged.
    """
    try:
        import kenlm
    except ImportError as error:
        raise LanguageModelError(
            f"{path} is a binary of KenLM, which needs its module: pip install 'parastream[kenlm]'"
        ) from error
    try:
        return KenlmModel(kenlm.Model(str(path)), kenlm.State)
    except (OSError, RuntimeError) as error:
        raise LanguageModelError(f"{path}: KenLM cannot read it ({error})") from error
