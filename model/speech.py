"""A speech model as a whole: network, frontend and token list, loaded from a directory or by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from parastream.model import catalogue, checkpoint, punctuation
from parastream.model.checkpoint import Precision
from parastream.model.config import ChunkSize, ModelConfig
from parastream.model.device import on_cpu
from parastream.model.errors import ModelConfigError
from parastream.model.frontend import Frontend
from parastream.model.paraformer import Paraformer
from parastream.model.punctuation import Punctuator
from parastream.model.quantization import Quantization
from parastream.model.tokenizer import Tokenizer

import mlx.core as mx
from mlx.utils import tree_flatten

DEFAULT_SPEECH_MODEL = catalogue.DEFAULT
DEFAULT_PUNCTUATION = "punc-small-realtime"
TRAINED_CHUNKS = (ChunkSize(0, 10, 5), ChunkSize(0, 8, 4))
_WARM_UP_SECONDS = 2.0
_ON_GPU: Precision = "bfloat16"
"""float16 is finer, but published encoders outgrow its range: FunASR scales them down for its own float16 export."""


@dataclass(frozen=True)
class SpeechModel:
    """Everything that recognition needs; immutable and shared by all sessions.

    MLX arrays belong to the thread that made them: load, warm up and use a model on one thread.
    """

    name: str
    config: ModelConfig
    frontend: Frontend
    network: Paraformer
    tokenizer: Tokenizer
    parameters: int
    """Number of weights."""
    dtype: Precision
    """Type in which the network computes."""
    quantization: Quantization | None
    """How the linear layers are stored in the model's directory; None if they are not quantised."""

    @property
    def window_samples(self) -> int:
        """Samples at 16 kHz that a streaming window adds: one hop."""
        return self.config.chunk.hop * self.frontend.row_samples

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that its tokens are written in, as ISO 639-1 codes: `zh`, `en`, or both."""
        return self.tokenizer.languages

    def warm_up(self) -> None:
        """Runs each form once, so that the first client does not wait for kernels and buffers."""
        silence = np.zeros(int(_WARM_UP_SECONDS * self.config.frontend.fs), np.float32)
        rows = self.frontend(silence)
        self.network.transcribe([rows])
        if self.config.streams:
            state = self.network.new_state()
            hop = self.config.chunk.hop
            self.network.step([rows[:hop]], [state], [False])
            self.network.step([rows[hop : 2 * hop]], [state], [True])


def _weights(network: Paraformer) -> list[tuple[str, mx.array]]:
    return list(tree_flatten(network.parameters()))  # type: ignore[arg-type]  # typed for another form of it


def load(
    name_or_directory: str | Path = DEFAULT_SPEECH_MODEL,
    *,
    chunk: ChunkSize = TRAINED_CHUNKS[0],
    dtype: Precision | None = None,
    offline: bool = False,
) -> SpeechModel:
    """Loads a speech model: a name that `parastream models list` shows, a hub id, or a FunASR directory.

    On a CPU a quantised model is computed in float32 like any other; on a GPU from its quantised weights.

    Example:
        >>> import parastream.model
        >>> model = parastream.model.load("asr-small-en")
        >>> model.config.streams
        True

    Args:
        chunk: shape of the streaming windows, [0, 10, 5] or [0, 8, 4].
        dtype: type in which the network computes, whatever its weights are stored in. Default: bfloat16 on a GPU;
            a CPU computes in float32 only.
        offline: never ask the network, use the cache only.

    Raises:
        HubError: the name is unknown, or its files cannot be fetched.
        ModelConfigError: the directory's configuration cannot be used, or `dtype` is not for this device.
        CheckpointError: the weights are damaged or do not fit the configuration.
    """
    if chunk not in TRAINED_CHUNKS:
        allowed = " or ".join(f"[{c.left}, {c.hop}, {c.look_ahead}]" for c in TRAINED_CHUNKS)
        raise ModelConfigError(
            f"chunk size [{chunk.left}, {chunk.hop}, {chunk.look_ahead}]: Paraformer was trained for {allowed}"
        )
    dtype = _computed_in(dtype)
    directory = catalogue.resolve(str(name_or_directory), offline=offline)
    config = replace(ModelConfig.from_directory(directory), chunk=chunk)
    network = Paraformer(config)
    parameters = sum(array.size for _, array in _weights(network))
    checkpoint.load_weights(network, directory, getattr(mx, dtype))
    network.pack()
    mx.eval(network.parameters())
    return SpeechModel(
        name=directory.name,
        config=config,
        frontend=Frontend.from_directory(config.frontend, directory),
        network=network,
        tokenizer=Tokenizer.from_file(directory / "tokens.json"),
        parameters=parameters,
        dtype=dtype,
        quantization=checkpoint.stored_quantization(directory),
    )


def _computed_in(dtype: Precision | None) -> Precision:
    if dtype is None:
        return "float32" if on_cpu() else _ON_GPU
    if dtype not in get_args(Precision):
        raise ModelConfigError(f"dtype is {dtype!r}; allowed are {', '.join(get_args(Precision))}")
    if on_cpu() and dtype != "float32":
        raise ModelConfigError(
            f"{dtype} is for GPUs: a CPU computes in float32 (several times faster there), whatever the weights are"
            " stored in"
        )
    return dtype


def load_punctuation(name_or_directory: str | Path = DEFAULT_PUNCTUATION, *, offline: bool = False) -> Punctuator:
    """Loads a punctuation model by name, hub id or directory.

    Raises:
        HubError, ModelConfigError, CheckpointError: as for `load`.
    """
    return punctuation.load_punctuation(catalogue.resolve(str(name_or_directory), offline=offline))
