"""Measure size, accuracy and speed of a model in float32, float16, bfloat16, 8 bits and 4 bits, and as graphs.

    ./run python -m benchmarks.quantization --recordings DIR [--json FILE]    # the embedded model, on AN4
    ./run python -m benchmarks.quantization --full-size [--sessions 16]       # 220 million random weights

`parastream models convert` or `quantize` writes each form, which is then loaded from there. The float16 and bfloat16
forms are also computed in their own type, even on a CPU, where `parastream.model.load` refuses that because it is slow.
The other forms are computed in what suits the device: on a CPU, 8 and 4 bits become float32. All of these are computed
with MLX; `graphs float32` and `graphs int8` are the weights in float32, computed by onnxruntime on a CPU.

DIR is AN4's: `test.jsonl` and the recordings that it names. Word error rates are those of the full-context pass over
each recording as a whole, without voice activity detection. `agreement` is 1 minus the edit distance over the number of
tokens, between a form and float32: over these recordings, or at full size over the streaming windows. With random
weights all tokens are about equally likely, so small errors change many of them. There `agreement` ranks the forms; it
does not say what a trained model would lose.

`ms_per_session_window` is the median over windows whose look-back is full, divided by the number of sessions in the
batch. `cpu_ms` is the same in CPU time of all threads, which holds on a machine that others use, too. The forms take
turns, window by window.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jiwer
import mlx.core as mx
import numpy as np
import parastream.model
import soundfile
from parastream.client.cli.bench.results import hardware
from parastream.client.sources import sample_recording
from parastream.model import SpeechModel, blas, catalogue, checkpoint, random_weights
from parastream.model.computing import Computing, with_mlx
from parastream.model.config import Precision
from parastream.model.directory import ModelDirectory
from parastream.model.paraformer import Paraformer
from parastream.model.quantization import Quantization
from rapidfuzz.distance import Levenshtein

from benchmarks.word_error_rate import normalise, read

FORMS: dict[str, Precision | Quantization | Computing] = {
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "8 bits": Quantization(8),
    "4 bits": Quantization(4),
    "graphs float32": Computing("graphs", "float32"),
    "graphs int8": Computing("graphs", "int8"),
}
FILLING = 6
"""Number of windows after which the look-back is full."""
BATCH = 10
"""Recordings in a batch."""


@dataclass(frozen=True)
class Row:
    """The figures of one form."""

    form: str
    computed_in: str
    megabytes: float
    """Size of the weights on disk, 10^6 bytes."""
    word_error_rate: float | None
    agreement: float
    tokens: int
    """Number of tokens in float32, with which `agreement` compares."""
    ms_per_session_window: float
    cpu_ms: float


def main() -> None:
    """Measure all forms and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Size, accuracy and speed of each form of a model's weights.")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--recordings", type=Path, help="directory of AN4, for the embedded model")
    model.add_argument("--full-size", action="store_true", help="random weights of the published models' size")
    parser.add_argument("--model", type=Path, help="directory of another model, which is not quantised")
    parser.add_argument("--forms", default=",".join(FORMS), help="which ones besides float32, separated by commas")
    parser.add_argument("--sessions", type=int, default=1, help="streams of a batch")
    parser.add_argument("--windows", type=int, default=FILLING + 10, help="windows of each stream")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    wanted = options.forms.split(",")
    if unknown := [form for form in wanted if form not in FORMS]:
        parser.error(f"unknown form {unknown[0]!r}; allowed are {', '.join(FORMS)}")
    if options.windows <= FILLING:
        parser.error(f"--windows must be more than {FILLING}: the look-back is filled first")

    forms = ["float32", *(name for name in FORMS if name in wanted and name != "float32")]
    with tempfile.TemporaryDirectory(prefix="parastream-") as scratch:
        source = Path(scratch) / "whole"
        if options.full_size:
            random_weights.save(source)
        else:  # the embedded form is in 8 bits
            checkpoint.convert(options.model or catalogue.resolve("asr-small-en"), source, "float32")
        directories = {form: Path(scratch) / form for form in forms}
        for form, directory in directories.items():
            write(source, directory, form)
        sizes = {
            form: ModelDirectory(directory).weights_file.stat().st_size / 1e6 for form, directory in directories.items()
        }
        streams = {form: Streams(load(directory, form), options.sessions) for form, directory in directories.items()}
    for _ in range(options.windows):
        for stream in streams.values():
            stream.advance()
    rows: list[Row] = []
    expected: list[list[int]] = []
    for form, stream in streams.items():
        heard, errors = stream.heard, None
        if options.recordings:
            heard, errors = transcribe(stream.speech, options.recordings)
        expected = expected or heard
        tokens = sum(map(len, expected))
        wrong = sum(Levenshtein.distance(ids, others) for ids, others in zip(heard, expected, strict=True))
        costs = [statistics.median(costs[FILLING:]) for costs in (stream.costs, stream.cpu_costs)]
        agreement = 1 - wrong / max(1, tokens)
        rows.append(Row(form, stream.speech.computing.dtype, sizes[form], errors, agreement, tokens, *costs))
    print(f"\n{hardware()}; {blas.info()}; {options.sessions} sessions, {options.windows} windows of each\n")
    print(table(rows))
    if options.json:
        result = {
            "benchmark": "quantization",
            "hardware": hardware(),
            "blas": str(blas.info()),
            "model": random_weights.NAME if options.full_size else "asr-small-en",
            "sessions": options.sessions,
            "windows": options.windows,
            "forms": {row.form: asdict(row) for row in rows},
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write(source: Path, directory: Path, form: str) -> None:
    """Make a model directory with the weights in a form."""
    kind = FORMS[form]
    if isinstance(kind, Quantization):
        checkpoint.quantize(source, directory, kind)
    else:
        checkpoint.convert(source, directory, "float32" if isinstance(kind, Computing) else kind)


def load(directory: Path, form: str) -> SpeechModel:
    """Load a model, computed in its form's own type if it has one."""
    kind = FORMS[form]
    if isinstance(kind, Computing):
        return parastream.model.load(directory, compute=kind.compute, dtype=kind.dtype)
    speech = parastream.model.load(directory, compute="mlx")
    if isinstance(kind, Quantization) or kind == speech.computing.dtype:
        return speech
    network = Paraformer(speech.config)
    checkpoint.load_weights(network, ModelDirectory(directory), getattr(mx, kind))
    network.pack()
    mx.eval(network.parameters())
    return replace(speech, network=network, computing=with_mlx(network.encoder.dtype))


def transcribe(speech: SpeechModel, folder: Path) -> tuple[list[list[int]], float]:
    """Return the token ids of the full-context pass over AN4's recordings, and their word error rate."""
    known = read(folder / "test.jsonl")
    features = {
        name: speech.frontend(soundfile.read(folder / "test" / name, dtype="float32")[0]) for name in sorted(known)
    }
    names = sorted(known, key=lambda name: len(features[name]))
    heard: dict[str, list[int]] = {}
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        for name, tokens in zip(batch, speech.network.transcribe([features[n] for n in batch]), strict=True):
            heard[name] = tokens.ids.tolist()
    texts = [normalise(speech.tokenizer.decode(heard[name])) for name in names]
    return [heard[name] for name in names], float(jiwer.process_words([known[name] for name in names], texts).wer)


class Streams:
    """Sessions in one batch that hear the sample, each starting at a different place."""

    def __init__(self, speech: SpeechModel, sessions: int) -> None:
        self.speech = speech
        self.heard: list[list[int]] = [[] for _ in range(sessions)]
        """Token ids of each."""
        self.costs: list[float] = []
        """Milliseconds for each window, divided by the number of sessions."""
        self.cpu_costs: list[float] = []
        """The same in CPU time."""
        with sample_recording() as sample:
            self._rows = speech.frontend(soundfile.read(sample, dtype="float32")[0])
        self._states = [speech.network.new_state() for _ in range(sessions)]

    def advance(self) -> None:
        """Recognise the next window of each session."""
        hop, sessions = self.speech.config.chunk.hop, len(self._states)
        firsts = [number * len(self._rows) // sessions + len(self.costs) * hop for number in range(sessions)]
        features = [np.take(self._rows, range(first, first + hop), 0, mode="wrap") for first in firsts]
        began, cpu = time.perf_counter(), time.process_time()
        found = self.speech.network.step(features, self._states, [False] * sessions)
        self.costs.append(1000 * (time.perf_counter() - began) / sessions)
        self.cpu_costs.append(1000 * (time.process_time() - cpu) / sessions)
        for ids, tokens in zip(self.heard, found, strict=True):
            ids += tokens.ids.tolist()


def table(rows: Sequence[Row]) -> str:
    """Format the rows in Markdown."""
    lines = [
        "| weights | computed in | MB on disk | word error rate | tokens as in float32 | ms per session and window"
        " | CPU ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        errors = "–" if row.word_error_rate is None else f"{100 * row.word_error_rate:.2f} %"
        lines.append(
            f"| {row.form} | {row.computed_in} | {row.megabytes:.1f} | {errors} | {100 * row.agreement:.1f} % |"
            f" {row.ms_per_session_window:.1f} | {row.cpu_ms:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
