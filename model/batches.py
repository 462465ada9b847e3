"""How a batch is cut into parts that are computed side by side."""

from __future__ import annotations

from collections.abc import Sequence

from parastream.model.tokens import Tokens

_FINE = 64
"""Size beyond which batches are padded by a third at most."""


def share(count: int, lanes: int) -> list[range]:
    """Cut the items 0 … count - 1 into parts of about the same size, one for each lane that gets any."""
    parts = min(count, lanes)
    return [range(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def balanced(costs: Sequence[float], lanes: int) -> list[list[int]]:
    """Cut items, by their places, into parts of about the same cost, one for each lane that gets any."""
    parts: list[list[int]] = [[] for _ in range(min(len(costs), lanes))]
    sums = [0.0] * len(parts)
    for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
        lightest = sums.index(min(sums))
        parts[lightest].append(item)
        sums[lightest] += costs[item]
    return parts


def placed(count: int, parts: Sequence[Sequence[int]], tokens: Sequence[Sequence[Tokens]]) -> list[Tokens]:
    """Put each part's tokens into their places among `count` results; those of no part have none."""
    results = [Tokens.none() for _ in range(count)]
    for part, found in zip(parts, tokens, strict=True):
        for i, value in zip(part, found, strict=True):
            results[i] = value
    return results


def rounded(size: int, least: int = 1) -> int:
    """Return the next of 1, 2, 4 … 64, 96, 128, 192, 256, 384 … that is no smaller than a size, and than `least`."""
    size = max(size, least)
    whole = 1 << (size - 1).bit_length()
    return whole * 3 // 4 if whole > _FINE and size <= whole * 3 // 4 else whole


def rounded_sizes(least: int, most: int) -> list[int]:
    """Return all sizes between two that `rounded` returns."""
    found = [rounded(least)]
    while rounded(found[-1] + 1) <= most:
        found.append(rounded(found[-1] + 1))
    return found
