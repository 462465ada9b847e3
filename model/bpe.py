"""Byte-pair encoding: a word cut into the pieces that a vocabulary was made of (Sennrich et al., 2016).

The file format is that of subword-nmt, version 0.2: after a first line `#version: 0.2`, each line has two pieces that
are merged, the most frequent pair first; `</w>` ends the piece at the end of a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from parastream.model.errors import ModelConfigError

_END = "</w>"

Merges = Mapping[tuple[str, str], int]
"""Rank of each pair of pieces; lower ones are merged first."""


def read_merges(lines: Iterable[str]) -> Merges:
    """Read the lines of a file of merges.

    Raises:
        ModelConfigError: A line is not a pair of pieces.
    """
    merges: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#version") or not line.strip():
            continue
        pieces = line.split()
        if len(pieces) != 2:
            raise ModelConfigError(f"line {number}: must be two pieces with a space between them, got {line[:80]!r}")
        merges.setdefault((pieces[0], pieces[1]), len(merges))
    return merges


def pieces_of(word: str, merges: Merges) -> list[str]:
    """Cut a word, which is not empty, into its pieces: `internets` into `inter`, `net`, `s`."""
    pieces = [*word[:-1], word[-1] + _END]
    while len(pieces) > 1:
        pair = min(pairwise(pieces), key=lambda pair: merges.get(pair, len(merges)))
        if pair not in merges:
            break
        merged: list[str] = []
        for piece in pieces:
            # A piece that was just merged takes no part in another merge of the same pair.
            if merged and (merged[-1], piece) == pair:
                merged[-1] = "".join(pair)
            else:
                merged.append(piece)
        pieces = merged
    return [*pieces[:-1], pieces[-1].removesuffix(_END)]
