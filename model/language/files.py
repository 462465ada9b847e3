"""Files of language models: our own form, ARPA, and KenLM's.

Our own is a zip archive of NumPy arrays (as `numpy.load` reads): a description in JSON, the n-grams' keys as their
differences in variable length (LEB128), and two bytes for each n-gram.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import LanguageModelError
from parastream.model.language.alphabet import MOST, Alphabet
from parastream.model.language.ngram import CharacterModel, Table

SUFFIX = ".lm"
_FORM = "parastream-characters-1"
_ARRAYS = ("description", "keys", "probabilities", "backoffs")
_LARGEST = 1 << 30
"""Bytes that the arrays of a file may take."""
_LONGEST = 10
"""Bytes of the longest difference."""


def save(model: CharacterModel, path: Path) -> None:
    """Write a model.

    Raises:
        OSError: The file cannot be written.
    """
    description = {"form": _FORM, "order": model.order, "alphabet": "".join(model.alphabet.characters)}
    table = model.table
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            description=np.frombuffer(json.dumps(description).encode(), np.uint8),
            keys=_packed(np.diff(table.keys, prepend=np.uint64(0))),
            probabilities=table.probabilities,
            backoffs=table.backoffs,
        )


def load_own(path: Path) -> CharacterModel:
    """Read a model that `save` has written.

    Raises:
        LanguageModelError: The file is damaged, or of another kind.
        OSError: It cannot be read.
    """
    try:
        arrays = _arrays(path)
        description = json.loads(arrays["description"].tobytes())
        if not isinstance(description, dict) or description.get("form") != _FORM:
            raise ValueError(f"its form is not {_FORM}")
        alphabet = Alphabet(description["alphabet"])
        order = description["order"]
        if not 0 < len(alphabet.characters) <= MOST or len(set(alphabet.characters)) < len(alphabet.characters):
            raise ValueError("its alphabet is empty, too large, or has a character twice")
        if not isinstance(order, int) or not 0 < order * alphabet.bits <= 63:
            raise ValueError(f"its order is {order!r}")
        keys = _unpacked(arrays["keys"]).cumsum(dtype=np.uint64)
        table = Table(keys, arrays["probabilities"], arrays["backoffs"])
        if not len(keys) or {array.shape for array in (table.probabilities, table.backoffs)} != {keys.shape}:
            raise ValueError("its arrays have different lengths")
        if (keys[1:] <= keys[:-1]).any() or int(keys[-1]) >= 2 << order * alphabet.bits:
            raise ValueError("its n-grams are out of order")
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise LanguageModelError(f"{path}: no language model of parastream, or a damaged one ({error})") from error
    return CharacterModel(alphabet, table, order)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > _LARGEST:
        raise ValueError(f"it would take {size} bytes; at most {_LARGEST} are allowed")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in _ARRAYS}
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 1:
            raise ValueError(f"{name} is no row of bytes")
    return arrays


def _packed(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Write numbers seven bits at a time, the lowest first; all bytes of a number but the last have their top bit."""
    lengths = np.ones(len(values), np.int64)
    for length in range(1, _LONGEST):
        lengths += values >= np.uint64(1 << 7 * length) if 7 * length < 64 else 0
    ends = lengths.cumsum()
    packed = np.zeros(ends[-1], np.uint8)
    for place in range(int(lengths.max())):
        there = lengths > place
        septets = (values[there] >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(127)
        more = (lengths[there] > place + 1).astype(np.uint8) << 7
        packed[ends[there] - lengths[there] + place] = septets | more
    return packed


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Undo `_packed`.

    Raises:
        ValueError: It ends within a number, or has one that is too long.
    """
    lasts = np.flatnonzero(packed < 128)
    if not len(lasts) or lasts[-1] != len(packed) - 1:
        raise ValueError("its keys are incomplete")
    firsts = np.append(0, lasts[:-1] + 1)
    lengths = lasts - firsts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("one of its keys is too long")
    values = np.zeros(len(lasts), np.uint64)
    for place in range(int(lengths.max())):
        there = lengths > place
        septets = (packed[firsts[there] + place] & np.uint8(127)).astype(np.uint64)
        values[there] |= septets << np.uint64(7 * place)
    return values
