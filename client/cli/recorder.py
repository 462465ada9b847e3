"""Write what is recorded into a file while it lasts."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

_CODECS = {".wav": "pcm_s16le", ".flac": "flac"}
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""FFmpeg's names for so many channels."""


class Recorder:
    """A WAV or FLAC file of int16 samples that grows. A context manager.

    If the process dies, what was written can still be read, by `parastream transcribe` too.
    """

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        """Make the file.

        Args:
            path: it is overwritten; its name ends with .wav or .flac.
            rate: Hz.
            channels: 1 to 8.

        Raises:
            OSError: the file cannot be made.
            ValueError: its name ends with something else.
        """
        codec = _CODECS.get(path.suffix.lower())
        if codec is None:
            raise ValueError(f"{path}: audio is recorded as {' or '.join(_CODECS)} only")
        self._file = path.open("wb")
        self._container = av.open(self._file, "w", format=path.suffix[1:].lower())
        self._layout = _LAYOUTS[channels - 1]
        stream = self._container.add_stream(codec, rate=rate, layout=self._layout)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.format = "s16"
        self._stream = stream
        self._rate = rate
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, block: NDArray[np.int16]) -> None:
        """Append samples, (n,) or (n, channels).

        Raises:
            OSError: the disk does not take them.
        """
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block).reshape(1, -1), format="s16", layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.pts = self._written
        self._written += len(block)
        self._mux(frame)

    def close(self) -> None:
        """Write the rest and close the file."""
        try:
            self._mux(None)
            self._container.close()
        finally:
            self._file.close()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
