"""Beam search over the positions at which CIF fired.

Each position has candidates. A hypothesis takes one of them; or its last token once more, as if it had been said once
(CIF often fires twice for one piece); or nothing. A language model and hotwords score the characters, so it does not
matter into which pieces a word is cut.

Source: the lattice of positions as FunASR's runtime decodes it, with such arcs added; scores over characters instead of
tokens; and hypotheses compared without most of the bonus that they may have to give back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from parastream.model.language.model import State
from parastream.model.lattice import Lattice
from parastream.model.search.automaton import OUTSIDE, ROOT, Automaton, begins_word
from parastream.model.search.lexicon import Lexicon
from parastream.model.search.scorer import Extension, Scorer

Piece: TypeAlias = tuple[int, int, float]
"""A token, the row in which it fired, and its log-probability."""
Path: TypeAlias = "tuple[Path, Piece] | None"
"""The pieces of a hypothesis, the last one first."""
_Key: TypeAlias = tuple[State, int, int]
"""States of the language model and of the hotwords, and the token that may be taken once more, or -1."""
_Hypothesis: TypeAlias = tuple[float, Path]
_Candidates: TypeAlias = list[tuple[int, float]]
_NONE = -1
_OPEN_WORDS = 1
"""Complete words behind which hypotheses may differ, when those before them are settled."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Settings of the search; costs are natural logarithms."""

    merge: float
    """Cost of one token in two positions."""
    drop: float
    """Cost of a position that says nothing, which is less by as much as its best candidate is unsure."""
    candidates: int = 5
    """Candidates of a position that hypotheses go on with, besides those of hotwords."""
    floor: float = -9.0
    """Least log-probability of a candidate, and of a token in its second position."""
    hot_floor: float = -7.0
    """The same of a candidate that is only there for a hotword."""
    beam: int = 6
    """Hypotheses that are kept."""
    hot_beam: int = 12
    """The same with hotwords: unfinished ones must not crowd out others."""
    owing: float = 0.6
    """How much of a bonus that may have to be given back counts against a hypothesis in comparison with others."""


WITH_MODEL = SearchOptions(merge=0.25, drop=4.5)
"""A language model judges whether a text is better without a token."""
WITHOUT_MODEL = SearchOptions(merge=2.0, drop=math.inf)
"""The best token of each position stays, but for hotwords."""
TWICE_IS_ONCE = SearchOptions(merge=-0.01, drop=math.inf, candidates=1, beam=2)
"""The best token of each position, but what is there twice was said once. Right for models that often fire twice."""


@dataclass(slots=True)
class SearchState:
    """The hypotheses of an utterance so far."""

    lexicon: Lexicon
    scorer: Scorer | None
    options: SearchOptions
    hotwords: Automaton | None
    alive: dict[_Key, _Hypothesis] = field(init=False)
    settled: list[Piece] = field(default_factory=list)
    """What all hypotheses begin with; their paths go on from there."""

    def __post_init__(self) -> None:
        start = None if self.scorer is None else self.scorer.start
        self.alive = {(start, ROOT, _NONE): (0.0, None)}

    def expect(self, hotwords: Automaton | None) -> None:
        """Go on with other hotwords. What was owed for the old ones is given back."""
        alive: dict[_Key, _Hypothesis] = {}
        for (context, place, last), (score, path) in self.alive.items():
            owed = self.hotwords.owed[place] if self.hotwords is not None else 0.0
            said = path[1] if path is not None else self.settled[-1] if self.settled else None
            text = self.lexicon.texts[said[0]] if said is not None else ""
            there = ROOT if not text or begins_word(text[-1]) else OUTSIDE
            _put(alive, (context, there, last), score - owed, path)
        self.hotwords, self.alive = hotwords, alive

    def leave_model(self) -> None:
        """Go on without the language model, if there is one."""
        if self.scorer is None:
            return
        self.scorer, self.options = None, TWICE_IS_ONCE if self.hotwords is None else WITHOUT_MODEL
        alive: dict[_Key, _Hypothesis] = {}
        for (_, place, last), (score, path) in self.alive.items():
            _put(alive, (None, place, last), score, path)
        self.alive = alive

    def advance(self, lattice: Lattice) -> None:
        """Take further positions."""
        hot: list[_Candidates] = [[] for _ in range(len(lattice))]
        if self.hotwords is not None:
            wanted = lattice.wanted.tolist()
            for place, column in zip(
                *(lattice.wanted_log_probabilities >= self.options.hot_floor).nonzero(), strict=True
            ):
                hot[place].append((wanted[column], float(lattice.wanted_log_probabilities[place, column])))
        ids, values, rows = lattice.ids.tolist(), lattice.log_probabilities.tolist(), lattice.rows.tolist()
        for tokens, log_probabilities, more, row in zip(ids, values, hot, rows, strict=True):
            self._take(list(zip(tokens, log_probabilities, strict=True)), more, row)

    def _take(self, offered: _Candidates, hot: _Candidates, row: int) -> None:
        """Take a position: its candidates, best first; those of hotwords; and the row in which it fired."""
        options = self.options
        few = [pair for pair in offered[: options.candidates] if pair[1] >= options.floor]
        best_token, best = offered[0]
        nothing = math.inf if self.lexicon.spelled[best_token] else options.drop + best
        again = dict(offered)
        live = self._best()
        alive: dict[_Key, _Hypothesis] = {}
        self._go_on(alive, live, [self._choices(place, few, hot) for (_, place, _), _ in live], row)
        for (context, place, last), (score, path) in live:
            if nothing < math.inf:
                _put(alive, (context, place, _NONE), score - nothing, path)
            value = again.get(last, -math.inf)
            if path is not None and value >= options.floor:
                before, (token, first, other) = path
                piece = (token, first, max(value, other))
                _put(alive, (context, place, _NONE), score + value - options.merge, (before, piece))
        self.alive = alive

    def _best(self) -> list[tuple[_Key, _Hypothesis]]:
        """Return the best hypotheses, of which there is at least one."""
        if self.hotwords is None:
            return sorted(self.alive.items(), key=lambda item: -item[1][0])[: self.options.beam]
        owed, owing = self.hotwords.owed, self.options.owing
        return sorted(self.alive.items(), key=lambda item: owing * owed[item[0][1]] - item[1][0])[
            : self.options.hot_beam
        ]

    def _choices(self, place: int, few: _Candidates, hot: _Candidates) -> _Candidates:
        """Return the candidates of a hypothesis that is somewhere in the hotwords."""
        if not hot or self.hotwords is None or not (going_on := self.hotwords.going_on(place)):
            return few
        there = {token for token, _ in few}
        return few + [pair for pair in hot if pair[0] in going_on and pair[0] not in there]

    def _go_on(
        self,
        alive: dict[_Key, _Hypothesis],
        live: Sequence[tuple[_Key, _Hypothesis]],
        choices: Sequence[_Candidates],
        row: int,
    ) -> None:
        """Extend each hypothesis by each of its choices."""
        hotwords, repeatable = self.hotwords, self.lexicon.repeatable
        known: Sequence[Mapping[int, Extension] | None] = [None] * len(live)
        if self.scorer is not None:
            known = self.scorer.extensions(
                (key[0], [token for token, _ in chosen]) for (key, _), chosen in zip(live, choices, strict=True)
            )
        for ((context, place, _), (score, path)), chosen, extensions in zip(live, choices, known, strict=True):
            for token, log_probability in chosen:
                value = score + log_probability
                after, there = context, place
                if extensions is not None:
                    gain, after = extensions[token]
                    value += gain
                if hotwords is not None:
                    gain, there = hotwords.advance(place, token)
                    value += gain
                key = (after, there, token if repeatable[token] else _NONE)
                old = alive.get(key)
                if old is None or old[0] < value:
                    alive[key] = (value, (path, (token, row, log_probability)))

    def best(self, *, last: bool) -> list[Piece]:
        """Return the pieces of the best hypothesis; `last`: no more positions follow, which completes the last word."""
        top, found = -math.inf, None
        for (context, place, _), (score, path) in self.alive.items():
            if self.hotwords is not None:
                score += self.hotwords.end(place) if last else -self.hotwords.owed[place]
            if last and self.scorer is not None:
                score += self.scorer.end(context)
            if score > top:
                top, found = score, path
        return self.settled + _unwound(found)

    def settle(self) -> None:
        """Settle what no further position can change.

        Hypotheses that differ from the best one before its last words are given up: hardly any of them ever wins. The
        rest have a beginning in common.
        """
        best = self.best(last=False)[len(self.settled) :]
        decided = [token for token, _, _ in best[: self._decided(best)]]
        paths = {key: _unwound(path) for key, (_, path) in self.alive.items()}
        kept = {key: path for key, path in paths.items() if [piece[0] for piece in path[: len(decided)]] == decided}
        # The last piece stays: the next position may say it once more.
        most = max(0, min(map(len, kept.values())) - 1)
        count = 0
        while count < most and all(path[count][0] == best[count][0] for path in kept.values()):
            count += 1
        self.settled += best[:count]
        self.alive = {key: (self.alive[key][0], _wound(path[count:])) for key, path in kept.items()}

    def _decided(self, pieces: Sequence[Piece]) -> int:
        """Return how many pieces there are before the last words, the last of which may not be complete."""
        ends = [index for index, piece in enumerate(pieces, 1) if begins_word(self.lexicon.texts[piece[0]][-1:])]
        return ends[-1 - _OPEN_WORDS] if len(ends) > _OPEN_WORDS else 0


def _put(alive: dict[_Key, _Hypothesis], key: _Key, score: float, path: Path) -> None:
    """Keep a hypothesis unless there is a better one that will go on alike."""
    old = alive.get(key)
    if old is None or old[0] < score:
        alive[key] = (score, path)


def _unwound(path: Path) -> list[Piece]:
    pieces: list[Piece] = []
    while path is not None:
        path, piece = path
        pieces.append(piece)
    return pieces[::-1]


def _wound(pieces: Sequence[Piece]) -> Path:
    path: Path = None
    for piece in pieces:
        path = (path, piece)
    return path
