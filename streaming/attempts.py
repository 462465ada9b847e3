"""Batches that cannot be computed: whose fault it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from parastream.model.errors import EngineError
from parastream.streaming.work import FinalWork, PunctuationWork, VadWork, WindowWork

logger = logging.getLogger("parastream.engine")

W = TypeVar("W", VadWork, WindowWork, FinalWork, PunctuationWork)


class LostError(EngineError):
    """Nothing can be computed any more: a GPU has failed, say, or has no memory left."""


def compute(batch: Sequence[W], run: Callable[[Sequence[W]], object], check: Callable[[], object]) -> list[W]:
    """Compute a batch, and return what of it cannot be computed.

    A batch that fails is computed again in halves, until it is known what it failed for.

    Args:
        batch: Pieces of work of one kind.
        run: Computes some of them.
        check: Computes something that has been computed before; it fails where nothing can be.

    Raises:
        LostError: `check` has failed.
    """
    if not _failed(batch, run):
        return []
    try:
        check()
    except Exception as error:
        raise LostError(f"nothing can be computed any more: {error}") from error
    return _halved(batch, run)


def _halved(batch: Sequence[W], run: Callable[[Sequence[W]], object]) -> list[W]:
    """Find out what of a batch that has failed cannot be computed; compute the rest."""
    half = len(batch) // 2
    if not half:
        return list(batch)
    return [item for part in (batch[:half], batch[half:]) if _failed(part, run) for item in _halved(part, run)]


def _failed(batch: Sequence[W], run: Callable[[Sequence[W]], object]) -> bool:
    try:
        run(batch)
    except Exception:
        logger.exception("a batch of %d failed", len(batch))
        return True
    return False
