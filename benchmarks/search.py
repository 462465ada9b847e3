"""Measure the search of words: best tokens, language model and hotwords, with full context and in windows.

    ./run python -m benchmarks.search --set DIR/manifest.json [--text TEXT] [--distractors 100] [--most 50]

Lists of recordings are as for `benchmarks.ears`; each recording is one utterance. With `--text`, 30 hotwords are words
of the recordings that occur at most ten times in that text, and as many distractors as asked for come from it that are
in no recording.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import parastream.model
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.final_pass import FinalInput
from parastream.model.hotwords import Hotword, Hotwords
from parastream.model.lanes import finish
from parastream.model.paraformer_pass import ParaformerPass
from parastream.model.search.loading import LanguageModelChoice, load_search
from parastream.model.search.search import WordSearch
from parastream.streaming.heard import Heard

from benchmarks.ears import read, samples
from benchmarks.spoken_forms import errors

_HOTWORDS = 30
_RARE = 10
"""Most occurrences of a rare word in the text."""
_LETTERS = 5
"""Fewest of a hotword."""

Samples = NDArray[np.float32]


def main() -> None:
    """Measure every set and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Word error rates of the search.")
    parser.add_argument("--set", type=Path, action="append", required=True, help="list of recordings", dest="sets")
    parser.add_argument("--text", type=Path, help="plain text that tells which words are rare")
    parser.add_argument("--distractors", type=int, default=100)
    parser.add_argument("--most", type=int, help="most recordings of a set")
    options = parser.parse_args()
    parastream.model.prepare_process()
    speech = parastream.model.load()
    searches = {"best tokens": load_search(speech, LanguageModelChoice("none")), "language model": load_search(speech)}
    print("| set | search | context | words wrong | hotwords found | falsely found | ms of CPU a second |")
    print("|---|---|---|---|---|---|---|")
    for path in options.sets:
        known = dict(list(read(path).items())[: options.most])
        sounds = [samples(path.parent, name) for name in known]
        said, others = rare_words(list(known.values()), options.text, options.distractors)
        lists: list[Hotwords] = [()]
        if said:
            lists.append(tuple(map(Hotword, (*said, *others))))
        for name, search in searches.items():
            for hotwords in lists:
                for whole in (True, False):
                    began = time.process_time()
                    heard = [transcribe(speech, search, sound, hotwords, whole=whole) for sound in sounds]
                    cost = 1000 * (time.process_time() - began) / (sum(map(len, sounds)) / 16000)
                    wrong, count = np.sum([errors(*pair) for pair in zip(known.values(), heard, strict=True)], axis=0)
                    found, spoken, false = recalled(list(known.values()), heard, said, others)
                    label = f"{name}, {len(hotwords)} hotwords" if hotwords else name
                    form = "full" if whole else "windows"
                    rate, recall = f"{100 * wrong / count:.1f} %", f"{found} of {spoken}"
                    print(f"| {path.stem} | {label} | {form} | {rate} | {recall} | {false} | {cost:.1f} |", flush=True)


def transcribe(speech: SpeechModel, search: WordSearch, sound: Samples, hotwords: Hotwords, *, whole: bool) -> str:
    """Return the words of a recording that is one utterance."""
    if whole:
        (found,) = finish(
            ParaformerPass(speech, search).transcribe_in_slices([FinalInput(sound, hotwords=hotwords)], steps=1000)
        )
        return found.text
    heard, frontend, state = Heard(search, hotwords), speech.frontend.new_state(), speech.network.new_state()
    hop = speech.window_samples
    for start in range(0, len(sound), hop):
        last = start + hop >= len(sound)
        rows = speech.frontend.step(sound[start : start + hop], frontend, final=last)
        heard.take(speech.network.step([rows], [state], [last], [heard.wanted])[0])
    return " ".join(word.text for word in heard.words(len(sound) / 16000))


def rare_words(texts: Sequence[str], text: Path | None, distractors: int) -> tuple[list[str], list[str]]:
    """Choose hotwords that are said, and others that are not; none without a text."""
    if text is None:
        return [], []
    usual = Counter(text.read_text("utf-8").lower().split())
    spoken = Counter(word for line in texts for word in line.lower().split())
    random = np.random.default_rng(1)
    rare = sorted(w for w, n in spoken.items() if n <= 2 and usual[w] <= _RARE and _is_long(w))
    other = sorted(w for w, n in usual.items() if 3 <= n <= _RARE and w not in spoken and _is_long(w))
    return list(random.permutation(rare)[:_HOTWORDS]), list(random.permutation(other)[:distractors])


def _is_long(word: str) -> bool:
    return re.fullmatch(rf"[a-z]{{{_LETTERS},}}", word) is not None


def recalled(
    texts: Sequence[str], heard: Sequence[str], said: Sequence[str], others: Sequence[str]
) -> tuple[int, int, int]:
    """Return how many hotwords were found, how many were said, and how many were found that were not said."""
    found = spoken = false = 0
    for text, other in zip(texts, heard, strict=True):
        right, got = Counter(text.lower().split()), Counter(other.lower().split())
        found += sum(min(right[word], got[word]) for word in said)
        spoken += sum(right[word] for word in said)
        false += sum(max(0, got[word] - right[word]) for word in (*said, *others))
    return found, spoken, false


if __name__ == "__main__":
    main()
