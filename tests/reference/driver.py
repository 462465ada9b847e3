"""Feeds our streaming form the way FunASR's `inference` feeds its own, and keeps what every stage gave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parastream.model.checkpoint import sanitize
from parastream.model.config import ChunkSize, ModelConfig
from parastream.model.frontend import Frontend
from parastream.model.paraformer import Paraformer

import mlx.core as mx

from . import recipe

Float32 = NDArray[np.float32]
FOLDER = Path(__file__).parent
SHORTEST_FINAL = 960
"""FunASR drops a last piece of fewer samples than this."""


def network(name: str, variant: recipe.Variant | None) -> Paraformer:
    """The reference model `name`, set up for a streaming variant, or for full context."""
    size = recipe.SIZES[name]
    config = ModelConfig.from_dict(recipe.config(size, streaming=variant is not None), vocab_size=size.vocabulary)
    if variant is not None:
        config = replace(
            config,
            chunk=ChunkSize(*variant.chunk),
            encoder_look_back=variant.encoder_look_back,
            decoder_look_back=variant.decoder_look_back,
        )
    shapes = json.loads((FOLDER / name / "shapes.json").read_text())
    weights = recipe.weights(shapes) | dict(np.load(FOLDER / name / "cif_head.npz"))
    built = Paraformer(config)
    built.load_weights([(k, mx.array(v)) for k, v in sanitize(weights).items()], strict=True)
    mx.eval(built.parameters())
    return built


def frontend(directory: Path) -> Frontend:
    """The reference models' frontend."""
    recipe.write_cmvn(directory / "am.mvn")
    config = ModelConfig.from_dict(recipe.config(recipe.SIZES["tiny"], streaming=True), vocab_size=64)
    return Frontend.from_directory(config.frontend, directory)


def pieces(samples: Float32, call: int, hop: int) -> Iterator[tuple[Float32, bool]]:
    """Cuts audio as FunASR does: buffered calls, windows of one hop, a last window that may be short or empty."""
    buffered = samples[:0]
    for start in range(0, max(1, len(samples)), call):
        buffered = np.concatenate([buffered, samples[start : start + call]])
        final = start + call >= len(samples)
        while len(buffered) >= hop:
            yield buffered[:hop], False
            buffered = buffered[hop:]
        if final:
            yield buffered, True


@dataclass
class Trace:
    """What the stages of one stream gave, window after window."""

    features: list[Float32]
    encoded: list[Float32]
    alpha: list[Float32]
    fires: list[int]
    residue: list[float]
    embeddings: list[Float32]
    logits: list[Float32]
    ids: list[int]


def stream(model: Paraformer, front: Frontend, samples: Float32, call: int, hop: int) -> Trace:
    """Runs the stages one after the other, as `Paraformer.step` does, by FunASR's session rules."""
    chunk = model._config.chunk
    state, features_state = model.new_state(), front.new_state()
    trace = Trace([], [], [], [], [], [], [], [])
    for piece, last in pieces(samples, call, hop):
        dropped = last and len(piece) < SHORTEST_FINAL
        rows = (
            np.zeros((0, front.config.row_size), np.float32)
            if dropped
            else front.step(piece, features_state, final=last)
        )
        trace.features.append(rows)
        window = np.concatenate([state.encoder.overlap, model.encoder.embed(rows, state.encoder.rows)])
        state.encoder.rows += len(rows)
        state.encoder.overlap = window[len(window) - chunk.overlap :]
        encoded, lengths = model.encoder.step([window], [state.encoder], chunk)
        trace.encoded.append(np.array(encoded[0]))
        trace.alpha.append(np.array(model.predictor.weigh(encoded)[0]))
        fired = model.predictor.step(encoded, lengths, [state.predictor], [last], chunk)
        count = int(fired.counts[0])
        trace.fires.append(count)
        trace.residue.append(state.predictor.weight / 2**30)
        if count:
            logits = model.decoder.step(fired.embeddings, fired.counts, encoded, lengths, [state.decoder])
            trace.embeddings.append(np.array(fired.embeddings[0]))
            trace.logits.append(np.array(logits[0]))
            trace.ids += [int(i) for i in trace.logits[-1].argmax(-1)]
    return trace
