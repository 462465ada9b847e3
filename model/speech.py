"""A speech model as a whole: network, frontend and token list, loaded from a directory or by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import mlx.core as mx
from mlx.utils import tree_flatten

from . import checkpoint, hub, punctuation
from .config import ChunkSize, ModelConfig
from .errors import ModelConfigError
from .frontend import Frontend
from .paraformer import Paraformer
from .punctuation import Punctuator
from .tokenizer import Tokenizer

DEFAULT_SPEECH_MODEL = hub.DEFAULT
DEFAULT_PUNCTUATION = "punc-small-realtime"
TRAINED_CHUNKS = (ChunkSize(0, 10, 5), ChunkSize(0, 8, 4))
_WARM_UP_SECONDS = 2.0


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

    @property
    def window_samples(self) -> int:
        """Samples at 16 kHz that a streaming window adds: one hop."""
        return self.config.chunk.hop * self.frontend.row_samples

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(array.size for _, array in _weights(self.network))

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
    offline: bool = False,
) -> SpeechModel:
    """Loads a speech model: a name that `parastream models list` shows, a hub id, or a FunASR directory.

    Example:
        >>> import parastream.model
        >>> model = parastream.model.load("asr-small-en")
        >>> model.config.streams
        True

    Args:
        chunk: shape of the streaming windows, [0, 10, 5] or [0, 8, 4].
        offline: never ask the network, use the cache only.

    Raises:
        HubError: the name is unknown, or its files cannot be fetched.
        ModelConfigError: the directory's configuration cannot be used.
        CheckpointError: the weights are damaged or do not fit the configuration.
    """
    if chunk not in TRAINED_CHUNKS:
        allowed = " or ".join(f"[{c.left}, {c.hop}, {c.look_ahead}]" for c in TRAINED_CHUNKS)
        raise ModelConfigError(
            f"chunk size [{chunk.left}, {chunk.hop}, {chunk.look_ahead}]: Paraformer was trained for {allowed}"
        )
    directory = hub.resolve(str(name_or_directory), offline=offline)
    config = replace(ModelConfig.from_directory(directory), chunk=chunk)
    network = Paraformer(config)
    checkpoint.load_weights(network, directory)
    network.pack()
    mx.eval(network.parameters())
    return SpeechModel(
        name=directory.name,
        config=config,
        frontend=Frontend.from_directory(config.frontend, directory),
        network=network,
        tokenizer=Tokenizer.from_file(directory / "tokens.json"),
    )


def load_punctuation(name_or_directory: str | Path = DEFAULT_PUNCTUATION, *, offline: bool = False) -> Punctuator:
    """Loads a punctuation model by name, hub id or directory.

    Raises:
        HubError, ModelConfigError, CheckpointError: as for `load`.
    """
    return punctuation.load_punctuation(hub.resolve(str(name_or_directory), offline=offline))
