"""A speech model as a whole: network, frontend and token list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from parastream.model.calibration import Calibration
from parastream.model.computing import INT8_KEY, Compute, ComputeType, Computing, choose
from parastream.model.config import ChunkSize, ModelConfig, Precision
from parastream.model.directory import ModelDirectory
from parastream.model.errors import ModelConfigError
from parastream.model.frontend import Frontend
from parastream.model.hotword_terms import NO_TERM
from parastream.model.hugging_face import name_of
from parastream.model.sensevoice.config import MODEL, is_sensevoice
from parastream.model.tokenizer import Tokenizer

if TYPE_CHECKING:  # they import MLX, which has to wait for prepare_process
    from parastream.model.network import Network
    from parastream.model.quantization import Quantization

_WARM_UP_SECONDS = 2.0
_ON_GPU: Precision = "bfloat16"
"""float16 is finer, but published encoders outgrow its range: FunASR scales them down for its own float16 export."""


@dataclass(frozen=True)
class SpeechModel:
    """Everything that recognition needs; immutable and shared by all sessions.

    Load, warm up and use a model on one thread: MLX arrays belong to the thread that made them.
    """

    name: str
    config: ModelConfig
    frontend: Frontend
    network: Network
    tokenizer: Tokenizer
    parameters: int
    """Number of weights."""
    computing: Computing
    """How the network is computed."""
    quantization: Quantization | None
    """How the linear layers are stored in the model's directory; None if they are not quantised."""
    calibration: Calibration = Calibration()
    """What its confidences mean in whole utterances."""
    streaming_calibration: Calibration = Calibration()

    @classmethod
    def from_directory(
        cls,
        directory: ModelDirectory,
        *,
        chunk: ChunkSize,
        compute: Compute | None = None,
        dtype: ComputeType | None = None,
    ) -> SpeechModel:
        """Load a FunASR model directory; see `parastream.model.load`.

        Raises:
            ModelConfigError: The directory's configuration cannot be used, or not computed as asked for.
            CheckpointError: The weights are damaged or do not fit the configuration.
        """
        from parastream.model import checkpoint
        from parastream.model.device import on_cuda
        from parastream.model.quantization import Quantization

        if is_sensevoice(directory):
            raise ModelConfigError(f"{directory.path}: {MODEL} transcribes whole utterances only: it is a final model")
        measured = INT8_KEY in directory.configuration
        computing = choose(compute, dtype, on_gpu=_ON_GPU, measured_in_bytes=measured)
        config = replace(ModelConfig.from_directory(directory), chunk=chunk)
        network = checkpoint.load_network(config, directory, computing)
        on_device = computing.compute == "mlx" and on_cuda()
        return cls(
            name=name_of(directory.path),
            config=config,
            frontend=Frontend(config.frontend, *directory.cmvn, on_device=on_device),
            network=network,
            tokenizer=Tokenizer(directory.tokens, directory.merges, directory.cuts if config.seaco else {}),
            parameters=network.size,
            computing=computing,
            quantization=Quantization.of(directory.configuration),
            calibration=Calibration.of(directory.configuration),
            streaming_calibration=Calibration.of(directory.configuration, "streaming"),
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

    @cached_property
    def _own_state(self) -> Any:
        """For `warm_up`, which needs no more memory for it later on than it did at first."""
        return self.network.new_state()

    def warm_up(self) -> None:
        """Run each form once, so that the first client does not wait for kernels and buffers."""
        silence = np.zeros(int(_WARM_UP_SECONDS * self.config.frontend.fs), np.float32)
        (rows,) = self.frontend.wholes([silence], [()])
        self.network.transcribe([rows])
        if self.config.seaco is not None:
            for _ in self.network.transcribe_in_slices([rows], layers=1 << 16, terms=[(NO_TERM,)]):
                pass
        if self.config.streams:
            state = self._own_state.copy()
            hop = self.config.chunk.hop
            self.network.step([rows[:hop]], [state], [False])
            self.network.step([rows[hop : 2 * hop]], [state], [True])
