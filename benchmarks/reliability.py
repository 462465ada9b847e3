"""Measure what confidences mean: of the words at 0.8, how many are right? And fit what corrects them.

    ./run python -m benchmarks.reliability --ear EAR --set DIR/test.jsonl [--fit DIR/other.jsonl] [--noise DIR]

Prints the calibration that fits the sets of `--fit` best, all words alike, and a reliability curve for each set: as the
model says, as it is calibrated now, and by that fit. Sets are as in `ears`. With `--noise`, the sets of `--fit` are
heard once more at every level in `LEVELS`, in noise from the WAV files of that folder.

An ear is `whisper` or `paraformer` alone with full context, `streaming` (Paraformer in windows, as in partials), or
`rule`: what the rule between the two takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import parastream.model
import soundfile
from numpy.typing import NDArray
from parastream.model import load, load_final_pass
from parastream.model.calibration import Calibration, is_spelled, logit
from parastream.model.choice import choose
from parastream.model.final_pass import FinalInput, Hypothesis
from parastream.model.search.loading import LanguageModelChoice, load_search
from parastream.model.search.search import WordSearch
from parastream.model.speech import SpeechModel
from parastream.streaming.heard import Heard

from benchmarks.ears import read, samples, transcribe
from benchmarks.spoken_forms import right_words

LEVELS = (10, 0, -5)
"""Signal-to-noise ratios in dB."""
EARS = ("whisper", "paraformer", "streaming", "rule")
Listen = Callable[[Sequence[FinalInput]], list[Hypothesis]]
_BINS = 10

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """Words that were heard."""

    confidence: Float64
    """(N,) as the model says."""
    calibrated: Float64
    """(N,) as the product says."""
    right: Float64
    """(N,) 1 or 0."""
    inputs: Float64
    """(N, 4): the logit, 1, the logit of the utterance's mean, and 1 if it is spelled by a model that writes marks."""

    @classmethod
    def of(cls, known: Sequence[str], heard: Sequence[Hypothesis]) -> Words:
        """Compare what was heard with what was said."""
        words = [(hypothesis, word) for hypothesis in heard for word in hypothesis.words]
        right = [right_words(text, [word.text for word in each.words]) for text, each in zip(known, heard, strict=True)]
        return cls(
            np.array([word.confidence for _, word in words]),
            np.array([word.confidence for each in heard for word in each.calibrated_words]),
            np.array([float(each) for some in right for each in some]),
            np.array(
                [
                    (logit(word.confidence), 1, logit(each.confidence), each.marked and is_spelled(word.text))
                    for each, word in words
                ],
                np.float64,
            ),
        )


def main() -> None:
    """Hear all sets, fit, and print."""
    parser = argparse.ArgumentParser(description="What confidences mean.")
    parser.add_argument("--ear", choices=EARS, required=True)
    parser.add_argument("--set", type=Path, action="append", default=[], help="list of recordings", dest="sets")
    parser.add_argument("--fit", type=Path, action="append", default=[], help="list of recordings to fit to")
    parser.add_argument("--noise", type=Path, help="folder of WAV files at 16 kHz")
    parser.add_argument("--whisper", default="whisper-tiny-en", help="name or directory")
    parser.add_argument("--paraformer", default="asr-small-en", help="name or directory")
    parser.add_argument("--lm", default="", help="Paraformer's language model: name, file or none")
    options = parser.parse_args()
    parastream.model.prepare_process()
    listen = listener(options.ear, options.whisper, options.paraformer, LanguageModelChoice(options.lm))
    noises = [np.asarray(soundfile.read(file, dtype="float32")[0]) for file in wav_files(options.noise)]
    fitted, heard = dict[str, Words](), dict[str, Words]()
    for path in options.fit:
        fitted[str(path)] = hear(path, listen)
        for level in LEVELS if noises else ():
            fitted[f"{path} at {level} dB"] = hear(path, listen, noises, level)
    for path in options.sets:
        heard[str(path)] = hear(path, listen)
    best = fit(list(fitted.values())) if fitted else None
    if best is not None:
        print(f"{options.ear}: {best}\n")
    for name, words in {**fitted, **heard}.items():
        print(f"{options.ear}, {name}\n\n{curve(words, best)}\n")


def wav_files(folder: Path | None) -> list[Path]:
    """Return the WAV files of a folder, if there is one."""
    return sorted(folder.glob("*.wav")) if folder else []


def listener(ear: str, whisper: str, paraformer: str, lm: LanguageModelChoice) -> Listen:
    """Load the models of an ear, and return what it hears with."""
    if ear == "streaming":
        speech = load(paraformer)
        search = load_search(speech, lm)
        return lambda inputs: [streamed(speech, search, each) for each in inputs]
    if ear in ("whisper", "paraformer"):
        alone = load_final_pass(whisper if ear == "whisper" else paraformer, lm=lm)
        return lambda inputs: transcribe(alone, inputs)[0]
    better, first = load_final_pass(whisper), load_final_pass(paraformer, lm=lm)
    return lambda inputs: [
        choose(one, other)
        for one, other in zip(transcribe(better, inputs)[0], transcribe(first, inputs)[0], strict=True)
    ]


def hear(path: Path, listen: Listen, noises: Sequence[NDArray[np.float32]] = (), level: float = 0.0) -> Words:
    """Return the words heard in the recordings of a list, in noise if there is any."""
    known = read(path)
    audio = [samples(path.parent, name) for name in known]
    if noises:
        audio = [noisy(each, noises[place % len(noises)], level) for place, each in enumerate(audio)]
    return Words.of(list(known.values()), listen([FinalInput(each) for each in audio]))


def noisy(audio: NDArray[np.float32], noise: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Add noise, of which the audio is so many dB above."""
    noise = np.resize(noise, len(audio))
    gain = np.sqrt(np.mean(audio**2) / np.mean(noise**2) / 10 ** (level / 10))
    return np.asarray(audio + gain * noise, np.float32)


def streamed(speech: SpeechModel, search: WordSearch, utterance: FinalInput) -> Hypothesis:
    """Hear a recording in windows."""
    rows, state, hop = speech.frontend(utterance.samples), speech.network.new_state(), speech.config.chunk.hop
    heard = Heard(search, ())
    for start in range(0, len(rows), hop):
        window, last = rows[start : start + hop], start + hop >= len(rows)
        (tokens,) = speech.network.step([window], [state], [last], [heard.wanted])
        heard.take(tokens)
    words = heard.words(utterance.seconds)
    return Hypothesis(speech.name, words, marked=False, calibration=speech.streaming_calibration)


def fit(sets: Sequence[Words]) -> Calibration:
    """Return the calibration under which what is right is most likely (logistic regression, by Newton's method)."""
    inputs, right = np.concatenate([each.inputs for each in sets]), np.concatenate([each.right for each in sets])
    values = np.array([1.0, 0.0, 0.0, 0.0])
    for _ in range(50):
        said = 1 / (1 + np.exp(-inputs @ values))
        curvature = (inputs * (said * (1 - said))[:, None]).T @ inputs
        values = values + np.linalg.lstsq(curvature, inputs.T @ (right - said))[0]
    return Calibration(*(round(float(value), 3) for value in values))


def curve(words: Words, best: Calibration | None = None) -> str:
    """Return a reliability curve in Markdown: for each tenth of the calibrated confidences, how many are right."""
    bins = _bins(words.calibrated)
    lines = ["| calibrated | model's | right | words |", "|---|---|---|---|"]
    for place in np.unique(bins):
        here = bins == place
        means = (words.calibrated[here].mean(), words.confidence[here].mean(), words.right[here].mean())
        lines.append(f"| {means[0]:.2f} | {means[1]:.2f} | {means[2]:.2f} | {here.sum()} |")
    errors = [("calibrated", words.calibrated), ("model's", words.confidence)]
    if best is not None:
        values = (best.slope, best.offset, best.context, best.spelled)
        errors.append(("best fit", 1 / (1 + np.exp(-words.inputs @ values))))
    said = ", ".join(f"{name} {calibration_error(each, words.right):.3f}" for name, each in errors)
    return "\n".join([*lines, "", f"Calibration error: {said}"])


def calibration_error(confidence: Float64, right: Float64) -> float:
    """Return the mean distance between confidence and share of right words (ECE, Guo et al. 2017), in ten bins."""
    bins = _bins(confidence)
    return float(
        sum(
            abs(confidence[bins == place].mean() - right[bins == place].mean()) * np.mean(bins == place)
            for place in np.unique(bins)
        )
    )


def _bins(confidence: Float64) -> NDArray[np.int64]:
    return np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)


if __name__ == "__main__":
    main()
