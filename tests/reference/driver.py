"""Feeds our model the way FunASR's `inference` feeds its own, and keeps what every stage gave.

Arrays have the names that they have in the files of `make_reference.py`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import yaml
from numpy.typing import NDArray
from parastream.model import SpeechModel
from parastream.model.checkpoint import sanitize
from parastream.model.config import ChunkSize, ModelConfig
from parastream.model.directory import ModelDirectory
from parastream.model.frontend import Frontend
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.paraformer import GraphParaformer
from parastream.model.lanes import finish
from parastream.model.network import Network
from parastream.model.paraformer import _DECODER_MEMORY, _HISTORY, Paraformer
from parastream.model.paraformer import embeddings as embeddings_of
from parastream.model.stream_state import StreamState
from parastream.model.tokens import Tokens

from . import recipe

Float32 = NDArray[np.float32]
Stages = dict[str, NDArray[Any]]
FOLDER = Path(__file__).parent
SHORTEST_FINAL = 960
"""FunASR drops a last piece of fewer samples than this."""
SPECIAL = 2
"""FunASR leaves tokens up to this id out of its lists: `<blank>`, `<s>`, `</s>`."""


def network(name: str, variant: recipe.Variant | None, model: str = "Paraformer") -> Paraformer:
    """The reference model `name` in MLX, set up for a streaming variant, or for full context, as a `model`."""
    config, weights = _described(name, variant, model)
    built = Paraformer(config)
    built.load_weights([(k, mx.array(v)) for k, v in weights.items()], strict=True)
    built.pack()
    mx.eval(built.parameters())
    return built


def graphs(
    name: str,
    variant: recipe.Variant | None,
    arithmetic: Arithmetic = "float32",
    *,
    added_bias: float = 0.0,
    model: str = "Paraformer",
) -> GraphParaformer:
    """The same as graphs; `added_bias` is added to the bias of the predictor's output."""
    config, weights = _described(name, variant, model)
    weights["predictor.cif_output.bias"] = weights["predictor.cif_output.bias"] + added_bias
    size = sum(array.size for array in weights.values())
    return GraphParaformer(config, lambda key: np.asarray(weights.pop(key), np.float32), arithmetic, size)


def _described(name: str, variant: recipe.Variant | None, model: str) -> tuple[ModelConfig, dict[str, NDArray[Any]]]:
    size = recipe.SIZES[name]
    described = recipe.config(size, streaming=variant is not None, model=model)
    config = ModelConfig.from_dict(described, vocab_size=size.vocabulary)
    if variant is not None:
        config = replace(
            config,
            chunk=ChunkSize(*variant.chunk),
            encoder_look_back=variant.encoder_look_back,
            decoder_look_back=variant.decoder_look_back,
        )
    return config, sanitize(funasr_weights(name, model), ("embedding",) if model == "SeacoParaformer" else ())


def funasr_weights(name: str, model: str = "Paraformer") -> dict[str, NDArray[Any]]:
    """The weights of the reference model `name` by FunASR's names, as a `model`."""
    shapes = json.loads((FOLDER / name / ("shapes.json" if model == "Paraformer" else "seaco_shapes.json")).read_text())
    if model == "BiCifParaformer":
        shapes = {key: shape for key, shape in shapes.items() if key.startswith(("encoder.", "decoder.", "predictor."))}
    return recipe.weights(shapes) | dict(np.load(FOLDER / name / "cif_head.npz"))


def write_directory(
    directory: Path, name: str, model: str, weights: Mapping[str, NDArray[Any]], **changes: object
) -> None:
    """Writes a model directory of the reference model `name` as a `model`; `changes` replace parts of its config."""
    size = recipe.SIZES[name]
    directory.mkdir(exist_ok=True)
    config = recipe.config(size, streaming=False, model=model) | changes
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "tokens.json").write_text(json.dumps(recipe.tokens(size)))
    recipe.write_cmvn(directory / "am.mvn")
    arrays = {key: mx.array(array) for key, array in weights.items()}
    mx.save_safetensors(str(directory / "model.safetensors"), arrays)


def frontend(directory: Path, *, on_device: bool = False) -> Frontend:
    """The reference models' frontend; writes its statistics to a directory first."""
    recipe.write_cmvn(directory / "am.mvn")
    config = ModelConfig.from_dict(recipe.config(recipe.SIZES["tiny"], streaming=True), vocab_size=64)
    return Frontend(config.frontend, *ModelDirectory(directory).cmvn, on_device=on_device)


def reference_features(name: str) -> Float32:
    """FunASR's rows of features, `whole_<samples>` or `stream_<variant>`."""
    table = np.load(FOLDER / "features.npz")
    return np.asarray(table["rows"][table[name]], np.float32)


@dataclass(frozen=True)
class Window:
    """One step of a stream."""

    call: int
    """Number of FunASR's call in which it runs."""
    features: Float32
    """Its new rows."""
    tokens: Tokens
    state: StreamState
    """The stream's state after it."""


def pieces(samples: Float32, call: int, hop: int) -> Iterator[tuple[int, Float32, bool]]:
    """Cuts audio as FunASR does: buffered calls, windows of one hop, a last window that may be short or empty.

    Yields number of the call, samples, and whether they are the last.
    """
    buffered, calls = samples[:0], max(1, -(-len(samples) // call))
    for i in range(calls):
        buffered = np.concatenate([buffered, samples[i * call : (i + 1) * call]])
        while len(buffered) >= hop:
            yield i, buffered[:hop], False
            buffered = buffered[hop:]
    yield calls - 1, buffered, True


def windows(model: Network, front: Frontend, samples: Float32, call: int, hop: int) -> Iterator[Window]:
    """Streams by FunASR's session rules, which leave a short last piece unheard."""
    state, features = model.new_state(), front.new_state()
    for number, piece, last in pieces(samples, call, hop):
        dropped = last and len(piece) < SHORTEST_FINAL
        none = np.zeros((0, front.config.row_size), np.float32)
        rows = none if dropped else front.step(piece, features, final=last)
        (tokens,) = model.step([rows], [state], [last])
        yield Window(number, rows, tokens, state)


def remembered(model: Paraformer, state: StreamState) -> list[NDArray[Any]]:
    """All that the pool of a network holds for a stream, of each kind (rows, width)."""
    slots = np.array([state.slot.index], np.int32)
    names = [name for name in (*model._memories, _HISTORY, _DECODER_MEMORY) if model._pool.rows(name)]
    return [np.array(model._pool.read(name, slots)[0].astype(mx.float32)) for name in names]


def _watch(owner: Any, method: str, seen: Callable[[Any, tuple[Any, ...]], None]) -> None:
    """Calls `seen(result, arguments)` whenever a method has ended, also one that works step by step."""
    original = getattr(owner, method)

    def wrapped(*args: Any) -> Any:
        result = original(*args)
        if isinstance(result, Generator):
            return ended(result, args)
        seen(result, args)
        return result

    def ended(steps: Generator[Any, None, Any], args: tuple[Any, ...]) -> Generator[Any, None, Any]:
        result = yield from steps
        seen(result, args)
        return result

    setattr(owner, method, wrapped)


def stream(model: Paraformer | GraphParaformer, variant: recipe.Variant, front: Frontend, wave: Float32) -> Stages:
    """What each stage of a reference model gives in the windows of a streaming variant.

    Beside FunASR's arrays, `fire_rows` are the rows of the utterance to which the tokens belong. The logits of graphs
    are logarithms of probabilities.
    """
    found = defaultdict[str, list[Any]](list)
    if isinstance(model, GraphParaformer):
        _watch_graphs(model, found)
    else:
        _watch_mlx(model, found)
    hop = variant.chunk[1] * front.row_samples
    for window in windows(model, front, wave[: variant.samples], variant.call, hop):
        ids = window.tokens.ids[window.tokens.ids > SPECIAL]
        found["features"].append(window.features)
        found["rows"].append([len(found["encoded"][-1])])
        found["fires"].append([len(window.tokens)])
        found["residue"].append([window.state.predictor.weight / 2**30])
        found["held"].append(np.array(window.state.predictor.hidden)[None])
        found["tokens"].append([len(ids)])
        found["ids"].append(ids)
        found["fire_rows"].append(window.tokens.rows)
    return {stage: np.concatenate(parts) for stage, parts in found.items()}


def _watch_mlx(model: Paraformer, found: defaultdict[str, list[Any]]) -> None:
    def encoded(result: Any, arguments: Any) -> None:
        length = int(arguments[1][0].sum())
        found["encoded"].append(np.array(result[0][0, :length]))
        found["alpha"].append(np.array(model.predictor.weigh(result[0])[0, :length]))

    def decoded(result: Any, arguments: Any) -> None:
        count = int(arguments[1][0])
        found["logits"].append(np.array(model.decoder.output_layer(result[0])[0, :count]))
        found["embeddings"].append(np.array(arguments[0][0, :count]))

    _watch(model.encoder, "step", encoded)
    _watch(model.decoder, "step", decoded)


def _watch_graphs(model: GraphParaformer, found: defaultdict[str, list[Any]]) -> None:
    """Padding is left out, which all windows have that are not full, and those with a single token."""

    def encoded(result: Any, arguments: Any) -> None:
        length = int(arguments[1][0].sum())
        found["encoded"].append(result[0][0, :length])
        found["alpha"].append(model._scaled(result[1])[0, :length])

    def decoded(result: Any, arguments: Any) -> None:
        count = int(arguments[1][0])
        found["logits"].append(result[0][0, :count])
        found["embeddings"].append(arguments[0][0, :count])

    _watch(model._encoder, "weigh", encoded)
    _watch(model._decoder, "step", decoded)


def whole(model: Paraformer, utterances: Sequence[Float32]) -> Stages:
    """What each stage gives for the features of whole utterances, padded to one batch (B, T, …)."""
    lengths = np.array([len(rows) for rows in utterances])
    padded = np.zeros((len(lengths), int(lengths.max()), utterances[0].shape[1]), np.float32)
    for place, rows in zip(padded, utterances, strict=True):
        place[: len(rows)] = model.encoder.embed(rows)
    mask = np.arange(padded.shape[1]) < lengths[:, None]
    encoded = model.encoder(mx.array(padded), mask) * mx.array(mask)[:, :, None]
    alpha = np.array(model.predictor.weigh(encoded))
    fired = model.integrator.fire(alpha, lengths)
    embeddings = embeddings_of(fired, encoded)[:, : int(fired.counts.max())]
    logits = model.decoder.output_layer(finish(model.decoder(embeddings, fired.counts, encoded, lengths)))
    return {
        "rows": lengths,
        "encoded": np.array(encoded),
        "alpha": alpha,
        "fires": fired.counts,
        "embeddings": np.array(embeddings),
        "logits": np.array(logits),
        "fire_rows": np.concatenate(fired.rows),
    }


def whole_in_graphs(model: GraphParaformer, rows: Float32) -> Stages:
    """What each stage gives for the features of a whole utterance."""
    found: dict[str, Any] = {}

    def fired(result: Any, _: Any) -> None:
        found["fire_rows"] = result.rows[0]
        found["fires"] = result.counts

    def encoded(result: Any, _: Any) -> None:
        found["encoded"], found["alpha"] = result[0], model._scaled(result[1])

    def decoded(result: Any, arguments: Any) -> None:
        (found["logits"], _), found["embeddings"] = result, arguments[0]

    _watch(model._encoder, "weigh", encoded)
    _watch(model._integrator, "fire", fired)
    _watch(model._decoder, "whole", decoded)
    model.transcribe([rows])
    return found


def padded_batch(model: Paraformer, utterances: Sequence[Float32], expected: Stages) -> tuple[Stages, Stages]:
    """What our stages and FunASR's give for two utterances, the second shorter, as far as the two can be equal.

    In FunASR the weight of the shorter one's last row depends on the padding behind it (its convolution sees what the
    encoder made of that), and with it what fires there and the count of tokens. Ours does not. So that row is left
    out, and the decoder gets FunASR's embeddings.
    """
    found = whole(model, utterances)
    counts = expected["fires"].astype(np.int64)
    embeddings, encoded = mx.array(expected["embeddings"]), mx.array(found["encoded"])
    hidden = finish(model.decoder(embeddings, counts, encoded, found["rows"]))
    found["logits"] = np.array(model.decoder.output_layer(hidden))
    first, second = found["rows"].tolist()
    fired = int((found["fire_rows"][found["fires"][0] :] < second - 1).sum())
    ends = {
        "encoded": (first, second),
        "alpha": (first, second - 1),
        "embeddings": (int(counts[0]), fired),
        "logits": counts.tolist(),
    }

    def cut(stages: Stages) -> Stages:
        return {stage: np.concatenate([stages[stage][i, :end] for i, end in enumerate(e)]) for stage, e in ends.items()}

    return cut(found), cut(expected)


def recognise(speech: SpeechModel, samples: Float32, call: int = 9600) -> tuple[list[int], list[list[int]]]:
    """Token ids of a recording as FunASR lists them: with full context, and of each call of a stream."""
    (tokens,) = speech.network.transcribe([speech.frontend(samples)])
    calls: list[list[int]] = [[] for _ in range(max(1, -(-len(samples) // call)))]
    for window in windows(speech.network, speech.frontend, samples, call, speech.window_samples):
        calls[window.call] += [i for i in window.tokens.ids.tolist() if i > SPECIAL]
    return [i for i in tokens.ids.tolist() if i > SPECIAL], calls
