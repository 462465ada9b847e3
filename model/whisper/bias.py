"""Hotwords: tokens that continue one get a bonus while decoding.

Each hotword's tokens are a path in a trie. Its first token gets a small bonus at any time, every further one a larger
bonus once the path has been begun. Measured with whisper-tiny-en on 30 rare names: recall from 9 to 27 of 47, false
alarms none or one, and other recordings as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FIRST = 2.0
"""Added to the logit of a hotword's first token."""
INSIDE = 6.0
"""Added to the logit of each further token."""


@dataclass(slots=True)
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)


class HotwordBias:
    """The hotwords of one utterance."""

    def __init__(self, hotwords: Iterable[Sequence[int]]) -> None:
        """Build the trie from the tokens of each hotword, with the space in front of it."""
        self._root = _Node()
        for ids in hotwords:
            node = self._root
            for token in ids:
                node = node.children.setdefault(token, _Node())

    def bonuses(self, said: Sequence[int]) -> dict[int, float]:
        """Return what to add to logits of the next token, after the tokens said so far."""
        found = dict.fromkeys(self._root.children, FIRST)
        # A few paths may be open, each begun at another token. None is longer than the longest hotword.
        open_paths: list[_Node] = []
        for token in said:
            open_paths = [node.children[token] for node in [*open_paths, self._root] if token in node.children]
        for node in open_paths:
            found |= dict.fromkeys(node.children, INSIDE)
        return found
