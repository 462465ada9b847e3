"""What the final passes that listen mean for a session: how long its utterances may be, and which of them hear it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from parastream.model.errors import ModelConfigError
from parastream.model.final_pass import Capabilities
from parastream.streaming.audio import SAMPLE_RATE
from parastream.streaming.endpoint import EndpointConfig
from parastream.streaming.work import Ear

_NO_LIMIT = 3600.0  # seconds, longer than any utterance


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a session has to know of those that hear its utterances."""

    endpoint: EndpointConfig
    """As asked for, but with no longer utterances than are good for them."""
    better: int
    """Samples of the longest utterance that the better ear hears; 0 where there is none."""


def hearing(endpoint: EndpointConfig, language: str | None, ears: Mapping[Ear, Capabilities]) -> Hearing:
    """Return how utterances are heard.

    Args:
        endpoint: What the client asked for.
        language: What is spoken, if the client has said so.
        ears: What the final passes can do; none where utterances are heard by the streaming pass only.

    Raises:
        ModelConfigError: The language is not among those of the pass that every utterance gets.
    """
    first, better = ears.get(Ear.FIRST), ears.get(Ear.BETTER)
    if language is not None and first is not None and language not in first.languages:
        allowed = ", ".join(first.languages)
        raise ModelConfigError(f"the model does not know the language {language!r}; it knows {allowed}")
    if better is not None and language not in (None, *better.languages):
        better = None
    best = [ear.best_seconds for ear in (first, better) if ear is not None and ear.best_seconds is not None]
    longest = min([endpoint.max_utterance, *best])
    return Hearing(
        replace(endpoint, max_utterance=longest),
        0 if better is None else int(SAMPLE_RATE * (better.longest_seconds or _NO_LIMIT)),
    )
