"""Loading a language model by its name or file, of whichever kind it is."""

from __future__ import annotations

import os
from pathlib import Path

from parastream.model import catalogue
from parastream.model.errors import LanguageModelError
from parastream.model.language.arpa import is_arpa, read_arpa
from parastream.model.language.files import load_own
from parastream.model.language.kenlm import MAGIC, read_kenlm
from parastream.model.language.model import LanguageModel, Mixed
from parastream.model.language.words import UnitModel, Units

SHARE = 0.8
"""Share of a user's model beside the general one."""
FILE = "model.lm"
"""Name of an embedded model's file in its directory."""


def load_language_model(
    name: str | os.PathLike[str], *, general: str | None = None, share: float = SHARE
) -> LanguageModel:
    """Load a language model.

    Args:
        name: The name of an embedded one, or a file: of `parastream lm train`, ARPA (also compressed with gzip), or a
            binary of KenLM.
        general: Name of an embedded model to mix it with; None to use it alone.
        share: Its share in the mixture, above 0; at 1 it is used alone.

    Raises:
        LanguageModelError: There is no such model, or its file cannot be used.
    """
    if not 0 < share <= 1:
        raise LanguageModelError(f"the share of a language model is {share}; allowed are numbers above 0, up to 1")
    embedded = catalogue.embedded_language_models()
    if name in embedded:
        return _load_embedded(str(name))
    beside = _load_embedded(general) if general is not None and share < 1 else None
    path = Path(name)
    try:
        with path.open("rb") as file:
            begin = file.read(len(MAGIC))
        units: Units | None = None
        if begin == MAGIC:
            units = read_kenlm(path)
        elif is_arpa(path):
            units = read_arpa(path)
        if units is not None:
            return UnitModel(units, beside, share)
        own = load_own(path)
    except OSError as error:
        raise LanguageModelError(
            f"cannot read the language model {path}: {error.strerror or error}; allowed are files, and the names"
            f" {', '.join(embedded)}"
        ) from error
    return own if beside is None else Mixed(own, beside, share)


def _load_embedded(name: str) -> LanguageModel:
    return load_own(catalogue.resolve(name) / FILE)
