"""Train a character n-gram from plain text: counts, Witten-Bell smoothing, pruning, and the form with back-off weights.

Source: Witten & Bell 1991 (interpolated, as in Chen & Goodman 1998, method C); pruned by how much probability an n-gram
moves, weighted by its count, in the manner of Stolcke 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from parastream.model.errors import LanguageModelError
from parastream.model.language.alphabet import BOUNDARY, UNKNOWN, Alphabet, normalised
from parastream.model.language.ngram import CharacterModel, Stored, Table, quantised

ORDER = 8
"""Characters of the longest n-grams; fewer where so many do not fit into 63 bits, as for Mandarin."""
LARGEST = 1_200_000
"""N-grams of three and more characters that are kept."""
_CHUNK = 100_000
"""Sentences that are counted at a time."""
_SINGLE = 4
"""The longest n-grams that are kept although they occur once."""

_LEAST = 1e-4
"""Least probability that a context leaves to shorter ones."""

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]


@dataclass
class _Grams:
    """All n-grams of one length."""

    keys: Keys
    """Sorted."""
    counts: Counts

    def add(self, keys: Keys) -> None:
        """Count more of them."""
        new, counts = np.unique(keys, return_counts=True)
        if len(self.keys):
            both = np.concatenate([self.keys, new])
            order = np.argsort(both, kind="stable")
            both, counts = both[order], np.concatenate([self.counts, counts])[order]
            firsts = _firsts(both)
            new, counts = both[firsts], np.add.reduceat(counts, firsts)
        self.keys, self.counts = new, counts


def train(
    lines: Callable[[], Iterable[str]],
    *,
    order: int = ORDER,
    largest: int = LARGEST,
    progress: Callable[[str], None] = lambda text: None,
) -> CharacterModel:
    """Train a model.

    Args:
        lines: Begins to read the text, a sentence a line; called twice.
        order: Characters of the longest n-grams.
        largest: N-grams of three and more characters to keep, about.
        progress: Told what is going on.

    Raises:
        LanguageModelError: The text has no words.
    """
    progress("reading the alphabet")
    alphabet = Alphabet.of(_sentences(lines()))
    if not len(alphabet.characters):
        raise LanguageModelError("the text has no words to learn from; allowed is plain text, a sentence a line")
    bits = alphabet.bits
    order = min(order, 63 // bits)
    grams = [_Grams(np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in range(order)]
    sentences = _sentences(lines())
    count = 0
    while chunk := list(islice(sentences, _CHUNK)):
        count += len(chunk)
        progress(f"counting: {count} sentences")
        _count(alphabet.encode(chunk), bits, grams)
    progress("smoothing and pruning")
    return _smoothed(alphabet, grams, largest)


def _sentences(lines: Iterable[str]) -> Iterator[str]:
    return filter(None, map(normalised, lines))


def _count(symbols: Keys, bits: int, grams: list[_Grams]) -> None:
    """Count all n-grams that end in a character or in the end of a sentence, and do not reach beyond its beginning."""
    places = np.arange(len(symbols))
    begins = np.maximum.accumulate(np.where(symbols == BOUNDARY, places, 0))
    begins[1:] = begins[:-1]  # an end belongs to the sentence before it
    length = places - begins  # characters from the sentence's beginning
    # A line of its own begins at place 0; the first symbol ends nothing.
    predicted = (symbols != UNKNOWN) & (places > 0)
    key = np.zeros(len(symbols), np.uint64)
    for n, gram in enumerate(grams[: len(symbols)], 1):
        key[n - 1 :] |= symbols[: len(symbols) - n + 1] << np.uint64(bits * (n - 1))
        gram.add(key[predicted & (length >= n - 1)] | np.uint64(1 << bits * n))


def _smoothed(alphabet: Alphabet, grams: list[_Grams], largest: int) -> CharacterModel:
    bits = np.uint64(alphabet.bits)
    probabilities: list[NDArray[np.float64]] = []
    weights: list[NDArray[np.float64]] = []  # of n-grams of three and more characters: what they are worth
    kinds = len(grams[0].keys)
    for n, gram in enumerate(grams, 1):
        counts = gram.counts.astype(np.float64)
        if n == 1:
            # Also for what never occurred: unknown characters share what is left.
            probabilities.append((counts + kinds / len(alphabet)) / (counts.sum() + kinds))
            continue
        firsts = _firsts(gram.keys >> bits)
        sizes = np.diff(np.append(firsts, len(counts)))
        seen = np.repeat(np.add.reduceat(counts, firsts), sizes)
        lower = probabilities[-1][np.searchsorted(grams[n - 2].keys, _without_first(gram.keys, n, bits))]
        followers = np.repeat(sizes, sizes)
        probabilities.append((counts + followers * lower) / (seen + followers))
        if n > 2:
            moved = counts * np.abs(np.log(probabilities[-1] / lower))
            weights.append(np.where((n > _SINGLE) & (gram.counts == 1), 0.0, moved))
    kept = _kept(grams, weights, largest, bits)
    return _backed_off(
        alphabet,
        [gram.keys[keep] for gram, keep in zip(grams, kept, strict=True)],
        [values[keep] for values, keep in zip(probabilities, kept, strict=True)],
    )


def _kept(
    grams: list[_Grams], weights: list[NDArray[np.float64]], largest: int, bits: np.uint64
) -> list[NDArray[np.bool_]]:
    """Choose the n-grams to keep, with the beginnings of all that are kept."""
    every = np.concatenate(weights) if weights else np.zeros(0)
    least = np.partition(every, -largest)[-largest] if len(every) > largest else 0.0
    kept = [np.ones(len(gram.keys), np.bool_) for gram in grams[:2]]
    kept += [values > max(least, 1e-9) for values in weights]
    for n in range(len(grams) - 1, 1, -1):
        places, there = _find(grams[n - 1].keys, np.unique(grams[n].keys[kept[n]] >> bits))
        kept[n - 1][places[there]] = True
    return kept


def _backed_off(alphabet: Alphabet, keys: list[Keys], probabilities: list[NDArray[np.float64]]) -> CharacterModel:
    """Give each context the weight with which shorter ones count for what it does not hold itself."""
    bits = np.uint64(alphabet.bits)
    logarithms = [np.log(values) for values in probabilities]
    backoffs = [np.zeros(len(k)) for k in keys]

    def model(order: int, store: Callable[[NDArray[np.float64]], Stored] = lambda values: values) -> CharacterModel:
        table = Table(
            np.concatenate(keys[:order]),
            store(np.concatenate(logarithms[:order])),
            store(np.concatenate(backoffs[:order])),
        )
        return CharacterModel(alphabet, table, order)

    for n in range(2, len(keys) + 1):
        contexts = keys[n - 1] >> bits
        firsts = _firsts(contexts)
        if not len(firsts):
            continue
        own = np.add.reduceat(probabilities[n - 1], firsts)
        shorter = model(n - 1).log_probabilities(_without_first(keys[n - 1], n, bits)).astype(np.float64)
        left = np.maximum(1 - own, _LEAST) / np.maximum(1 - np.add.reduceat(np.exp(shorter), firsts), _LEAST)
        # Contexts that end in an unknown character have no entry, since nothing predicts that.
        places, there = _find(keys[n - 2], contexts[firsts])
        backoffs[n - 2][places[there]] = np.log(left[there])
    return model(len(keys), quantised)


def _without_first(keys: Keys, n: int, bits: np.uint64) -> Keys:
    """Take the first character off n-grams."""
    rest = (n - 1) * int(bits)
    return (keys & np.uint64((1 << rest) - 1)) | np.uint64(1 << rest)


def _find(ordered: Keys, wanted: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where some values are in a sorted array, and which of them are there."""
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return places, ordered[places] == wanted


def _firsts(ordered: Keys) -> NDArray[np.int64]:
    """Return where each value of a sorted array occurs first."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.zeros(0, int)
