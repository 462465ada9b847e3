"""Run one system in a process of its own, which computes only when asked.

    python worker.py SYSTEM DIR RECORDING THREADS

Requests are lines of JSON on stdin: `{"streams", "windows"}` hears that many more windows of 600 ms in each of the
named streams, `{"tokens"}` asks for the tokens of a stream so far. Each gets a line of JSON on stdout.

The worker runs in the peers' environment or in ours. The only packages it needs are NumPy and those of its system.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from parastream.model.computing import Compute, ComputeType

Samples = NDArray[np.float32]

HOP = 9600
"""Samples that a window adds."""
STREAMS = 16
"""Number of places in the recording at which streams begin."""
SPECIAL = frozenset({"<blank>", "<s>", "</s>", "<unk>"})
"""Tokens that FunASR leaves out of its texts."""


class System(Protocol):
    """Something that recognises streams."""

    skipped: int
    """Samples at the beginning of a stream that it is not given."""

    def new_stream(self) -> Any:
        """Make a stream that has heard nothing yet."""

    def hear(self, streams: list[Any], pieces: list[Samples]) -> None:
        """Feed the next 600 ms of each stream, and compute all windows that are complete with it."""

    def tokens(self, stream: Any) -> list[str]:
        """Return the tokens of a stream so far."""


class FunASR:
    """`AutoModel.generate`: frontend, network and text. It takes no batch, so one stream follows the other."""

    skipped = 0

    def __init__(self, directory: Path, threads: int, device: str = "cpu") -> None:
        os.environ["MODELSCOPE_OFFLINE"] = "1"
        import torch
        from funasr import AutoModel

        if device != "cpu" and not torch.cuda.is_available():
            sys.exit("PyTorch finds no GPU")  # FunASR would take the CPU instead
        self._model = AutoModel(
            model=str(directory), device=device, ncpu=threads, disable_update=True, disable_pbar=True
        )

    def new_stream(self) -> Any:
        """Return a cache and the texts so far."""
        return {}, []

    def hear(self, streams: list[Any], pieces: list[Samples]) -> None:
        """See `System.hear`."""
        for (cache, texts), piece in zip(streams, pieces, strict=True):
            (result,) = self._model.generate(
                input=piece,
                cache=cache,
                is_final=False,
                chunk_size=[0, 10, 5],
                encoder_chunk_look_back=4,
                decoder_chunk_look_back=1,
            )
            texts.append(result["text"])

    def tokens(self, stream: Any) -> list[str]:
        """Return the characters of the text, which are the tokens of the random model."""
        return list("".join(stream[1]))


class SherpaOnnx:
    """`OnlineRecognizer`: frontend and network. It takes several streams, and runs one after the other."""

    skipped = 0
    suffix = ""

    def __init__(self, directory: Path, threads: int) -> None:
        import sherpa_onnx

        self._recognizer = sherpa_onnx.OnlineRecognizer.from_paraformer(
            tokens=str(directory / "tokens.txt"),
            encoder=str(directory / f"encoder{self.suffix}.onnx"),
            decoder=str(directory / f"decoder{self.suffix}.onnx"),
            num_threads=threads,
        )

    def new_stream(self) -> Any:
        """Return a stream of the recognizer."""
        return self._recognizer.create_stream()

    def hear(self, streams: list[Any], pieces: list[Samples]) -> None:
        """See `System.hear`."""
        for stream, piece in zip(streams, pieces, strict=True):
            stream.accept_waveform(16000, piece)
        while ready := [stream for stream in streams if self._recognizer.is_ready(stream)]:
            self._recognizer.decode_streams(ready)

    def tokens(self, stream: Any) -> list[str]:
        """See `System.tokens`."""
        return list(self._recognizer.tokens(stream))


class SherpaOnnxInt8(SherpaOnnx):
    """The same, with the weights of most matrix products in 8 bits."""

    suffix = "_quant"


class Parastream:
    """Frontend and network, all streams in one batch."""

    skipped = 0

    def __init__(
        self, directory: Path, threads: int, dtype: ComputeType = "float32", compute: Compute | None = None
    ) -> None:
        os.environ.setdefault("MLX_ENABLE_TF32", "0")  # as in PyTorch, float32 is what it says, on a GPU too
        import parastream.model

        parastream.model.prepare_process()
        self._speech = parastream.model.load(directory, compute=compute, dtype=dtype)
        self._network = self._speech.network
        self._tokens = self._speech.tokenizer.tokens

    def new_stream(self) -> Any:
        """Return the states of frontend and network, and the token ids so far."""
        return self._speech.frontend.new_state(), self._network.new_state(), []

    def hear(self, streams: list[Any], pieces: list[Samples]) -> None:
        """See `System.hear`."""
        audio, states, ids = zip(*streams, strict=True)
        rows = [self._speech.frontend.step(piece, state) for piece, state in zip(pieces, audio, strict=True)]
        for place, tokens in zip(ids, self._network.step(rows, states, [False] * len(rows)), strict=True):
            place.extend(tokens.ids.tolist())

    def tokens(self, stream: Any) -> list[str]:
        """See `System.tokens`."""
        return [self._tokens[number] for number in stream[2]]


class ParastreamAsSherpa(Parastream):
    """The windows that sherpa-onnx computes: 5 rows before and 3 after the 10 new ones, and no look-back.

    Its first row also begins with the first frame, whereas FunASR puts three copies of that frame in front.
    """

    skipped = 3 * 160

    def __init__(self, directory: Path, threads: int) -> None:
        super().__init__(directory, threads)
        from dataclasses import replace

        from parastream.model import checkpoint
        from parastream.model.config import ChunkSize
        from parastream.model.directory import ModelDirectory

        other = replace(self._speech.config, chunk=ChunkSize(5, 10, 3), encoder_look_back=0, decoder_look_back=0)
        self._network = checkpoint.load_network(other, ModelDirectory(directory), self._speech.computing)


SYSTEMS: dict[str, Callable[[Path, int], System]] = {
    "funasr": FunASR,
    "funasr-cuda": partial(FunASR, device="cuda"),
    "sherpa-fp32": SherpaOnnx,
    "sherpa-int8": SherpaOnnxInt8,
    "parastream": Parastream,
    "parastream-bfloat16": partial(Parastream, dtype="bfloat16"),
    "parastream-int8": partial(Parastream, dtype="int8"),
    "parastream-mlx": partial(Parastream, compute="mlx"),
    "parastream-as-sherpa": ParastreamAsSherpa,
}


def excerpt(recording: Samples, stream: int, begin: int) -> Samples:
    """Cut out the 600 ms that begin at a sample of a stream: a window of silence, then the recording, repeated."""
    places = np.arange(begin, begin + HOP)
    heard = recording[(places + stream * len(recording) // STREAMS) % len(recording)]
    return np.where(places < HOP, np.float32(0), heard)


def main() -> None:
    """Answer requests until there are no more."""
    system, directory, file, threads = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # The systems write to stdout.
    running = SYSTEMS[system](Path(directory), int(threads))
    recording: Samples = np.load(file)
    streams: dict[str, Any] = {}
    fed: dict[str, int] = {}
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "tokens" in request:
            tokens = [token for token in running.tokens(streams[request["tokens"]]) if token not in SPECIAL]
            print(json.dumps(tokens), file=replies, flush=True)
            continue
        names = request["streams"]
        for name in names:
            if name not in streams:
                streams[name], fed[name] = running.new_stream(), running.skipped
        for _ in range(request["windows"]):
            pieces = [excerpt(recording, int(name.split()[-1]), fed[name]) for name in names]
            running.hear([streams[name] for name in names], pieces)
            fed |= {name: fed[name] + HOP for name in names}
        print(json.dumps("heard"), file=replies, flush=True)


if __name__ == "__main__":
    main()
