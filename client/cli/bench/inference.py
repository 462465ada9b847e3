"""`parastream bench window` and `bench offline`: what the model costs, without sockets and sessions."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parastream.client.cli.bench.latency import percentile
from parastream.client.cli.bench.results import Result, hardware, publish
from parastream.client.sources import read, sample_recording
from parastream.model import SpeechModel, blas, catalogue, load, load_punctuation, load_search, random_weights
from parastream.model.computing import Compute, ComputeType
from parastream.model.errors import ModelConfigError
from parastream.model.hotwords import Hotwords
from parastream.model.search.loading import LanguageModelChoice
from parastream.streaming import SessionConfig, Transcriber
from parastream.streaming.audio import SAMPLE_RATE, resample

Float32 = NDArray[np.float32]

_BATCH_ROWS = 1000
"""Rows of 60 ms, padding included, in a batch of whole utterances."""


@contextlib.contextmanager
def model_directory(name: str | None) -> Iterator[str]:
    """Yield what to load for a name on the command line; random weights exist only while the context lasts."""
    sizes = random_weights.NAMED.get(name or "")
    if name is None or sizes is None:
        yield name or catalogue.DEFAULT
        return
    with tempfile.TemporaryDirectory(prefix="parastream-") as scratch:
        random_weights.save(Path(scratch) / name, sizes=sizes)
        yield str(Path(scratch) / name)


def window(
    model: str | None,
    batches: Sequence[int],
    repeats: int,
    file: Path | None,
    *,
    compute: Compute | None = None,
    dtype: ComputeType | None = None,
) -> int:
    """Measure windows, print, and return the exit status.

    Raises:
        ParastreamError: The model cannot be loaded, or has no streaming form.
        OSError: The result cannot be written.
    """
    with model_directory(model) as directory:
        speech = load(directory, compute=compute, dtype=dtype)
    if not speech.config.streams:
        raise ModelConfigError(f"{speech.name} is a {speech.config.model}, which has no streaming form")
    rows = _rows_of_speech(speech)
    medians, spread = {}, {}
    for batch in batches:
        costs = _window_costs(speech, rows, batch, repeats)
        medians[str(batch)] = round(statistics.median(costs), 3)
        spread[str(batch)] = {f"p{p}": round(percentile(costs, p), 3) for p in (25, 75)}
    result = _described("window", speech) | {
        "repeats": repeats,
        "window_ms": round(1000 * speech.window_samples / speech.config.frontend.fs),
        "ms_per_session_window": medians,
        "spread": spread,
    }
    publish(result, file)
    return 0


def offline(
    model: str | None,
    recordings: Sequence[Path],
    repeats: int,
    file: Path | None,
    *,
    lm: LanguageModelChoice = LanguageModelChoice(),
    hotwords: Hotwords = (),
    compute: Compute | None = None,
    dtype: ComputeType | None = None,
) -> int:
    """Measure whole recordings, the sample if there are none; print, and return the exit status.

    Raises:
        ParastreamError: A model cannot be loaded.
        SourceError: A recording cannot be read.
        OSError: The result cannot be written.
    """
    with sample_recording() as sample:
        audio = [resample(*read(path)) for path in recordings or [sample]]
    with model_directory(model) as directory:
        speech = load(directory, compute=compute, dtype=dtype)
    transcriber = Transcriber(
        speech,
        punctuation=load_punctuation(),
        search=load_search(speech, lm),
        config=SessionConfig(partials=False, hotwords=hotwords),
    )
    speech.warm_up()
    spans: list[Float32] = []

    def transcribe() -> None:
        spans[:] = [
            samples[round(utterance.start * SAMPLE_RATE) : round(utterance.end * SAMPLE_RATE)]
            for samples in audio
            for utterance in transcriber.transcribe(samples, SAMPLE_RATE).utterances
        ]

    whole = statistics.median(_seconds(transcribe) for _ in range(repeats))
    batches = batched_by_length([speech.frontend(samples) for samples in spans])

    def recognise() -> None:
        for batch in batches:
            speech.network.transcribe(batch)

    batched = statistics.median(_seconds(recognise) for _ in range(repeats))
    seconds = sum(map(len, audio)) / SAMPLE_RATE
    spoken = sum(map(len, spans)) / SAMPLE_RATE
    result = _described("offline", speech) | {
        "repeats": repeats,
        "lm": lm.name or "default",
        "hotwords": len(hotwords),
        "recordings": len(audio),
        "seconds": round(seconds, 3),
        "real_time_factor": round(whole / seconds, 5),
        "audio_seconds_per_second": round(seconds / whole, 2),
        "utterances": len(spans),
        "utterance_seconds": round(spoken, 3),
        "batches": len(batches),
        "batched_real_time_factor": round(batched / spoken, 5) if spans else None,
        "batched_audio_seconds_per_second": round(spoken / batched, 2) if spans else None,
    }
    publish(result, file)
    return 0


def batched_by_length(utterances: Sequence[Float32]) -> list[list[Float32]]:
    """Features (T, row_size) of utterances in batches of like length, so that little of a batch is padding."""
    batches: list[list[Float32]] = []
    for rows in sorted(utterances, key=len, reverse=True):
        if not batches or len(batches[-1][0]) * (len(batches[-1]) + 1) > _BATCH_ROWS:
            batches.append([])
        batches[-1].append(rows)
    return batches


def _window_costs(speech: SpeechModel, rows: Float32, batch: int, repeats: int) -> list[float]:
    """Milliseconds of each session for each of some windows in a row, once the look-back is full."""
    network, hop = speech.network, speech.config.chunk.hop
    states = [network.new_state() for _ in range(batch)]
    firsts = [number * len(rows) // batch for number in range(batch)]
    filling = max(speech.config.encoder_look_back, speech.config.decoder_look_back) + 2
    costs = []
    for turn in range(filling + repeats):
        features = [
            np.take(rows, range(first + turn * hop, first + (turn + 1) * hop), 0, mode="wrap") for first in firsts
        ]
        began = time.perf_counter()
        network.step(features, states, [False] * batch)
        if turn >= filling:
            costs.append(1000 * (time.perf_counter() - began) / batch)
    return costs


def _rows_of_speech(speech: SpeechModel) -> Float32:
    """Return features (T, row_size) of the utterances in the sample, one after the other: what windows see."""
    with sample_recording() as sample:
        samples = resample(*read(sample))
    utterances = Transcriber(load(), punctuation=None).transcribe(samples, SAMPLE_RATE).utterances
    return np.concatenate(
        [speech.frontend(samples[round(u.start * SAMPLE_RATE) : round(u.end * SAMPLE_RATE)]) for u in utterances]
    )


def _described(benchmark: str, speech: SpeechModel) -> Result:
    """Return what every result says about the machine and the model."""
    return {
        "benchmark": benchmark,
        "hardware": hardware(),
        "blas": str(blas.info()),
        "model": speech.name,
        "parameters": speech.parameters,
        "compute": speech.computing.compute,
        "dtype": speech.computing.dtype,
        "quantization": str(speech.quantization) if speech.quantization else None,
    }


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
