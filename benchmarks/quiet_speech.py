"""Measure how quiet speech is recognised, and what is taken for speech by mistake, with and without the automatic gain.

    ./run python -m benchmarks.quiet_speech DIR/test.jsonl [--noises DIR] [--half even|odd] [--json FILE]

The list has an object with `file` and `text` on each line, as AN4's does; the recordings are mono, at 16 kHz. All audio
goes through a `Transcriber`, so voice activity detection cuts it into utterances. Three figures:

- `word_error_rate`: of all recordings, made quieter and rounded to 16 bits, as a microphone would deliver them;
- `two_speakers`: conversations of six recordings with half a second between them, every second one 30 dB lower;
- `no_speech`: utterances and words that are found in sounds in which nobody speaks (see `no_speech`).

`--half` takes every second recording. The gain's constants were chosen on the even half.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import parastream.model
import soundfile
from numpy.typing import NDArray
from parastream.client.cli.bench.results import hardware, publish
from parastream.model import silero_weights
from parastream.streaming import Transcriber
from parastream.streaming.gain import Gain
from parastream.streaming.vad import Vad, VadState

from benchmarks.no_speech import RATE, sounds
from benchmarks.word_error_rate import normalise

Float32 = NDArray[np.float32]

LEVELS = (0, -20, -25, -30, -35, -40)
"""Decibels by which the recordings are changed."""
SECOND_SPEAKER = -30
TURNS = 6
PAUSE = 0.5
"""Seconds between two speakers."""
ROOM = 10 ** (-75 / 20)
"""Noise in these pauses (RMS)."""


@dataclass(frozen=True)
class Recording:
    """What was said, and how it sounds."""

    samples: Float32
    words: str


class Unity(Gain):
    """No gain."""

    def push(self, level: float) -> float:
        """Leave the frame as it is."""
        return 1.0


@dataclass(slots=True)
class PlainState(VadState):
    """The state of a session whose detector hears what the recogniser hears."""

    gain: Gain = field(default_factory=Unity)


class PlainVad(Vad):
    """The detector without its gain."""

    def new_state(self) -> VadState:
        """Return the state of a session that begins."""
        return PlainState()


def main() -> None:
    """Measure everything and print it, and write it if a file is named."""
    parser = argparse.ArgumentParser(description="Quiet speech, with the automatic gain and without.")
    parser.add_argument("list", type=Path, help="recordings and their texts")
    parser.add_argument("--noises", type=Path, metavar="DIR", help="more sounds in which nobody speaks")
    parser.add_argument("--half", choices=("even", "odd"), help="take only every second recording")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    parastream.model.prepare_process()
    weights, speech = silero_weights.load(), parastream.model.load()
    transcribers = {
        name: Transcriber(speech, punctuation=None, vad=vad)
        for name, vad in (("without", PlainVad(weights)), ("with", Vad(weights)))
    }
    recordings = read(options.list)[
        {None: slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}[options.half]
    ]
    quiet = sounds(options.noises)
    result: dict[str, Any] = {"hardware": hardware(), "recordings": len(recordings)}
    for name, transcriber in transcribers.items():
        result[name] = {
            "word_error_rate": {level: at_level(transcriber, recordings, level) for level in LEVELS},
            "two_speakers": {level: in_turn(transcriber, recordings, level) for level in (0, SECOND_SPEAKER)},
            "no_speech": false_speech(transcriber, quiet),
        }
    publish(result, options.json)


def read(path: Path) -> list[Recording]:
    """Read the recordings of a list, in its order."""
    result = []
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        samples, rate = soundfile.read(path.parent / line["file"], dtype="float32")
        assert rate == RATE, f"{line['file']} has a rate of {rate} Hz"
        result.append(Recording(samples, normalise(line["text"])))
    return result


def at_level(transcriber: Transcriber, recordings: Sequence[Recording], level: int) -> float:
    """Return the word error rate in percent."""
    heard = [text_of(transcriber, quieter(recording.samples, level)) for recording in recordings]
    return round(100 * float(jiwer.wer([recording.words for recording in recordings], heard)), 2)


def in_turn(transcriber: Transcriber, recordings: Sequence[Recording], level: int) -> dict[str, int]:
    """Return how many words are wrong when every second speaker is at another level, and how many there are.

    A conversation takes its speakers from far apart in the list, where recordings of one speaker are neighbours.
    """
    rng = np.random.default_rng(30)
    conversations = len(recordings) // TURNS
    said, heard = [], []
    for first in range(conversations):
        turns = recordings[first : conversations * TURNS : conversations]
        parts = []
        for number, turn in enumerate(turns):
            room = rng.normal(0, ROOM, int(PAUSE * RATE)).astype(np.float32)
            parts += [quieter(turn.samples, level if number % 2 else 0), room]
        said.append(" ".join(turn.words for turn in turns))
        heard.append(text_of(transcriber, np.concatenate(parts)))
    words = jiwer.process_words(said, heard)
    wrong = words.substitutions + words.deletions + words.insertions
    return {"wrong": wrong, "words": words.hits + words.substitutions + words.deletions}


def false_speech(transcriber: Transcriber, quiet: Mapping[str, Float32]) -> dict[str, object]:
    """Return how many utterances and words are found in sounds without speech, and in which sounds."""
    found = {name: transcriber.transcribe(samples, RATE).utterances for name, samples in quiet.items()}
    return {
        "sounds": len(found),
        "utterances": sum(map(len, found.values())),
        "words": sum(len(final.words) for finals in found.values() for final in finals),
        "in": [name for name, finals in found.items() if finals],
    }


def quieter(samples: Float32, level: int) -> Float32:
    """Change the level and round to 16 bits."""
    return (np.round(samples * 32768.0 * 10 ** (level / 20)) / 32768.0).astype(np.float32)


def text_of(transcriber: Transcriber, samples: Float32) -> str:
    """Transcribe audio at 16 kHz and normalise the text."""
    return normalise(transcriber.transcribe(samples, RATE).text)


if __name__ == "__main__":
    main()
