"""Greedy decoding of a batch, with guards against text that nobody has said.

Source: openai/whisper `decoding.py`, without sampling, beams and timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from parastream.model.choice import NO_SPEECH
from parastream.model.whisper.bias import HotwordBias
from parastream.model.whisper.protocols import Decoder, Float32, State, Work
from parastream.model.whisper.vocabulary import Vocabulary

_TOKENS = 16
"""Most tokens of an utterance, but for its length."""
_TOKENS_PER_SECOND = 8
"""Further tokens for each second. Speech has at most 7 (the 99th percentile of spelling)."""
_REPEATS = 3
"""Times that a loop says an n-gram in a row, at least."""
_REPEATS_OF_ONE = 6
"""The same, of a single token."""
_LOOP = 8
"""Fewest tokens of a loop of longer n-grams."""


@dataclass(slots=True)
class Decoding:
    """An utterance as it is decoded."""

    frames: int
    """Encoder frames of its audio, to which its words are aligned."""
    limit: int
    """Most tokens."""
    language: str = ""
    """What is spoken; empty until that is known."""
    bias: HotwordBias | None = None
    draft: Sequence[int] = ()
    """Tokens that may well be said; they are checked at once, which takes less time than one after the other."""
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """Of each id, and then of the end if the model has said it."""
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    """What the alignment heads gave each frame at the start, and when each of those was said, (heads, frames)."""
    no_speech: float = 0.0
    repeated: int = 0
    """How many tokens at the end say once more what has been said, when that stopped the decoding."""

    @property
    def silent(self) -> bool:
        """Whether nobody speaks."""
        return self.no_speech > NO_SPEECH

    def take(self, token: int, log_probability: float, end: int) -> bool:
        """Take the next token; return whether there may be more."""
        self.log_probabilities.append(log_probability)
        if token == end:
            return False
        self.ids.append(token)
        self.repeated = repeated(self.ids)
        return not self.repeated and len(self.ids) < self.limit


def most_tokens(seconds: float, context: int) -> int:
    """Return the token budget of an utterance; half of the decoder's `context` is for text."""
    return min(context // 2, _TOKENS + int(_TOKENS_PER_SECOND * seconds))


def repeated(ids: Sequence[int]) -> int:
    """Return how many tokens at the end only repeat the ones before them; 0 if that is no loop yet.

    A loop is an n-gram three times in a row, of eight tokens at least, or one token six times.
    """
    for size in range(1, len(ids) // _REPEATS + 1):
        times = _REPEATS_OF_ONE if size == 1 else max(_REPEATS, math.ceil(_LOOP / size))
        if len(ids) >= size * times and list(ids[-size * (times - 1) :]) == list(ids[-size * times : -size]):
            return size * (times - 1)
    return 0


def decode(decoder: Decoder, vocabulary: Vocabulary, state: State, utterances: Sequence[Decoding]) -> Work[None]:
    """Decode a batch, whose audio is in `state`, greedily; yield after each step.

    An utterance leaves the batch when it has ended, repeats itself, has used up its budget, or has no speech.
    """
    batch, hidden, scores = yield from _begin(decoder, vocabulary, state, utterances)
    if not batch:
        return
    start = state.length
    drafted = yield from _check_drafts(decoder, vocabulary, state, batch)
    ids, log_probabilities = _best(decoder, vocabulary, hidden, batch)
    while True:
        kept = []
        for k, (utterance, heads) in enumerate(zip(batch, scores, strict=True)):
            utterance.scores.append(heads[:, : utterance.frames])
            if utterance.take(int(ids[k]), float(log_probabilities[k]), vocabulary.end):
                kept.append(k)
        batch, ids = [batch[k] for k in kept], ids[kept]
        if not batch:
            return
        if drafted is not None:
            drafted.keep(kept)
            said = len(batch[0].ids)  # all have said equally many
            if drafted.foresaw(ids, said):
                ids, log_probabilities, scores = drafted.after(said)
                state.keep(kept)
                continue
            state.cut(start + said - 1)
            drafted = None
        state.keep(kept)
        found = yield from decoder.step(ids[:, None].astype(np.int32), state)
        hidden, scores = (values[:, -1] for values in found)
        ids, log_probabilities = _best(decoder, vocabulary, hidden, batch)


@dataclass(slots=True)
class _Drafted:
    """What a batch would say after each token of its drafts."""

    tokens: NDArray[np.int32]
    """(B, n); what fills up shorter drafts is never right."""
    ids: NDArray[np.int64]
    """(B, n) best next tokens."""
    log_probabilities: Float32
    """(B, n) of those."""
    scores: Float32
    """Of the alignment heads, (B, n, heads, S)."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these utterances only."""
        self.tokens, self.ids = self.tokens[rows], self.ids[rows]
        self.log_probabilities, self.scores = self.log_probabilities[rows], self.scores[rows]

    def foresaw(self, ids: NDArray[np.int64], said: int) -> bool:
        """Say whether these latest tokens are those of the drafts, after so many have been said."""
        return said <= self.tokens.shape[1] and bool((self.tokens[:, said - 1] == ids).all())

    def after(self, said: int) -> tuple[NDArray[np.int64], Float32, Float32]:
        """Return the best next tokens, their logarithmic probabilities and the scores, after so many tokens."""
        return self.ids[:, said - 1], self.log_probabilities[:, said - 1], self.scores[:, said - 1]


def _check_drafts(
    decoder: Decoder, vocabulary: Vocabulary, state: State, batch: Sequence[Decoding]
) -> Work[_Drafted | None]:
    """Take all drafts at once."""
    longest = max(len(utterance.draft) for utterance in batch)
    if not longest:
        return None
    tokens = np.full((len(batch), longest), vocabulary.end, np.int32)
    for row, utterance in zip(tokens, batch, strict=True):
        row[: len(utterance.draft)] = utterance.draft
    hidden, scores = yield from decoder.step(tokens, state)
    bonuses = [
        utterance.bias.bonuses(row[: n + 1].tolist()) if utterance.bias else {}
        for row, utterance in zip(tokens, batch, strict=True)
        for n in range(longest)
    ]
    rows = hidden.reshape(len(batch) * longest, -1)
    ids, log_probabilities = decoder.best(rows, vocabulary.suppressed(first=False), _favoured(bonuses, vocabulary.size))
    return _Drafted(tokens, ids.reshape(tokens.shape), log_probabilities.reshape(tokens.shape), scores)


def _begin(
    decoder: Decoder, vocabulary: Vocabulary, state: State, utterances: Sequence[Decoding]
) -> Work[tuple[list[Decoding], Float32, Float32]]:
    """Take the prompts: find out who speaks, and in which language where that is not known.

    Returns:
        The utterances with speech; and of each what the logits of its first token are made of, and the scores of the
        alignment heads there.
    """
    known = all(utterance.language for utterance in utterances)
    prompts = [vocabulary.prompt(utterance.language) if known else [] for utterance in utterances]
    tokens = np.array([[vocabulary.start, *prompt] for prompt in prompts], np.int32)
    hidden, scores = yield from decoder.step(tokens, state)
    logits = decoder.logits(hidden[:, 0])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    for utterance, row, heads in zip(utterances, weights, scores[:, 0], strict=True):
        utterance.scores.append(heads[:, : utterance.frames])
        utterance.no_speech = float(row[vocabulary.no_speech] / row.sum())
        if not utterance.language:
            utterance.language = vocabulary.languages[int(row[vocabulary.language_ids].argmax())]
    speaking = [i for i, utterance in enumerate(utterances) if not utterance.silent]
    batch = [utterances[i] for i in speaking]
    if batch:
        state.keep(speaking)
        hidden, scores = hidden[speaking], scores[speaking]
        if not known:
            tokens = np.array([vocabulary.prompt(utterance.language) for utterance in batch], np.int32)
            hidden, scores = yield from decoder.step(tokens, state)
    return batch, hidden[:, -1], scores[:, -1]


def _best(
    decoder: Decoder, vocabulary: Vocabulary, hidden: Float32, batch: Sequence[Decoding]
) -> tuple[NDArray[np.int64], Float32]:
    """Best next token of each utterance, and its log-probability among those that are allowed, without hotwords."""
    suppressed = vocabulary.suppressed(first=not batch[0].ids)  # all have said equally many
    bonuses = [utterance.bias.bonuses(utterance.ids) if utterance.bias else {} for utterance in batch]
    return decoder.best(hidden, suppressed, _favoured(bonuses, vocabulary.size))


def _favoured(bonuses: Sequence[dict[int, float]], size: int) -> Float32 | None:
    """Return what to add to the logits of rows, (rows, size); None for nothing."""
    if not any(bonuses):
        return None
    favoured = np.zeros((len(bonuses), size), np.float32)
    for row, bonus in zip(favoured, bonuses, strict=True):
        row[list(bonus)] = list(bonus.values())
    return favoured
