"""A speech model as a whole: network, frontend and token list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
from parastream.model.config import ChunkSize, ModelConfig, Precision
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.frontend import Frontend
from parastream.model.hugging_face import name_of
from parastream.model.sensevoice.config import MODEL, is_sensevoice
from parastream.model.tokenizer import Tokenizer

if TYPE_CHECKING:  # they import MLX, which has to wait for prepare_process
    from parastream.model.paraformer import Paraformer
    from parastream.model.quantization import Quantization

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

    @classmethod
    def from_directory(cls, directory: ModelDirectory, *, chunk: ChunkSize, dtype: Precision | None) -> SpeechModel:
        """Load a FunASR model directory; see `parastream.model.load`.

        Raises:
            ModelConfigError: The directory's configuration cannot be used, or `dtype` is not for this device.
            CheckpointError: The weights are damaged or do not fit the configuration.
        """
        import mlx.core as mx
        from parastream.model import checkpoint
        from parastream.model.paraformer import Paraformer
        from parastream.model.quantization import Quantization

        if is_sensevoice(directory):
            raise ModelConfigError(f"{directory.path}: {MODEL} transcribes whole utterances only: it is a final model")
        dtype = computed_in(dtype, on_gpu=_ON_GPU)
        config = replace(ModelConfig.from_directory(directory), chunk=chunk)
        checkpoint.check_size(config, directory)
        network = Paraformer(config)
        parameters = network.size
        checkpoint.load_weights(network, directory, getattr(mx, dtype))
        network.pack()
        mx.eval(network.parameters())
        return cls(
            name=name_of(directory.path),
            config=config,
            frontend=Frontend(config.frontend, *directory.cmvn),
            network=network,
            tokenizer=Tokenizer(directory.tokens, directory.merges),
            parameters=parameters,
            dtype=dtype,
            quantization=Quantization.of(directory.configuration),
        )

    @property
    def window_samples(self) -> int:
        """Samples at 16 kHz that a streaming window adds: one hop."""
        return self.config.chunk.hop * self.frontend.row_samples

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that its tokens are written in, as ISO 639-1 codes: `zh`, `en`, or both."""
        return self.tokenizer.languages

    @property
    def language(self) -> str | None:
        """The only one of these; None where there are several."""
        return self.languages[0] if len(self.languages) == 1 else None

    def warm_up(self) -> None:
        """Run each form once, so that the first client does not wait for kernels and buffers."""
        silence = np.zeros(int(_WARM_UP_SECONDS * self.config.frontend.fs), np.float32)
        rows = self.frontend(silence)
        self.network.transcribe([rows])
        if self.config.streams:
            state = self.network.new_state()
            hop = self.config.chunk.hop
            self.network.step([rows[:hop]], [state], [False])
            self.network.step([rows[hop : 2 * hop]], [state], [True])


def computed_in(dtype: Precision | None, *, on_gpu: Precision) -> Precision:
    """Return the type to compute in: the one asked for, else float32 on a CPU and `on_gpu` on a GPU.

    Raises:
        ModelConfigError: There is no such type, or it is not for this device.
    """
    from parastream.model.device import on_cpu

    if dtype is None:
        return "float32" if on_cpu() else on_gpu
    if dtype not in get_args(Precision):
        raise ModelConfigError(f"dtype is {dtype!r}; allowed are {', '.join(get_args(Precision))}")
    if on_cpu() and dtype != "float32":
        raise ModelConfigError(
            f"{dtype} is for GPUs: a CPU computes in float32, which is several times faster there, also with weights"
            " stored in another type"
        )
    return dtype
