"""Measure how late the sound of encoded audio is, and what decoding it costs.

    ./run python -m benchmarks.encoded

The sample goes to a `Decoding` as WebM and as MP4, in pieces of 100 ms as `MediaRecorder` makes them, one after the
other. For each piece: the milliseconds until its samples, at the model's rate, are back on the event loop. CPU time is
given as a share of a core for one speaker.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from itertools import pairwise

import av
import numpy as np
import soundfile
from parastream.client.cli.bench.latency import percentile
from parastream.client.sources import sample_recording
from parastream.server.sessions.decoding import Decoding
from parastream.server.wire.refusals import RefusalError
from parastream.streaming.audio import SAMPLE_RATE

_PIECE = 0.1  # seconds
_RATE = 48_000
_WEBM = {"live": "1", "cluster_time_limit": "100"}  # clusters of unknown size
_MP4 = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}
_FRAMES = {"libopus": 960, "aac": 1024}
"""Samples of a packet."""
_KINDS = [("webm", "libopus", _WEBM), ("mp4", "libopus", _MP4), ("mp4", "aac", _MP4)]


def pieces(container: str, codec: str, options: dict[str, str]) -> list[bytes]:
    """Return the sample in pieces of about 100 ms; the first has the header."""
    with sample_recording() as sample:
        samples, rate = soundfile.read(sample, dtype="int16")
    file = io.BytesIO()
    ends: list[int] = []
    with av.open(file, "w", format=container, container_options=options) as output:
        stream = output.add_stream(codec, rate=_RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        size = _FRAMES[codec]
        resampler = av.AudioResampler(stream.codec_context.format, "mono", _RATE, frame_size=size)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = rate
        for number, each in enumerate(resampler.resample(frame), 1):
            output.mux(stream.encode(each))
            if number % round(_PIECE * _RATE / size) == 0:
                ends.append(file.tell())
    data = file.getvalue()
    bounds = [0, *(end for end in dict.fromkeys(ends) if end), len(data)]
    return [data[first:last] for first, last in pairwise(bounds) if first < last]


class Clock:
    """Takes the samples, and notes when they come."""

    def __init__(self) -> None:
        self.samples = 0
        self.flushed = asyncio.Event()
        self.ended = asyncio.Event()

    def hear(self, samples: bytes) -> None:
        """See `Decoded`."""
        self.samples += len(samples) // np.dtype("<f4").itemsize

    def mark_flush(self) -> None:
        """See `Decoded`."""
        self.flushed.set()

    def mark_end(self) -> None:
        """See `Decoded`."""
        self.ended.set()

    def fail(self, refusal: RefusalError) -> None:
        """See `Decoded`."""
        raise refusal


async def measure(audio: list[bytes], rounds: int) -> str:
    """Decode a recording some times, and return the figures."""
    loop, late, seconds = asyncio.get_running_loop(), list[float](), 0.0
    used = time.process_time()
    for _ in range(rounds):
        clock = Clock()
        decoding = Decoding(loop.call_soon_threadsafe, channels=1, live=True, most=1 << 30)
        decoding.attach(clock)
        for piece in audio:
            began = time.perf_counter()
            clock.flushed.clear()
            decoding.send(piece)
            decoding.flush()  # answered when all before it has been decoded
            await clock.flushed.wait()
            late.append(1000 * (time.perf_counter() - began))
            decoding.look(clock.samples / SAMPLE_RATE)
        decoding.end()
        await clock.ended.wait()
        seconds += clock.samples / SAMPLE_RATE
    share = (time.process_time() - used) / seconds
    figures = ", ".join(f"p{percent} {percentile(late, percent):.2f} ms" for percent in (50, 95, 99))
    return f"{len(late)} pieces of {1000 * _PIECE:.0f} ms: {figures}; {share:.2%} of a core for each speaker"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    for container, codec, options in _KINDS:
        print(f"{container}, {codec}:", asyncio.run(measure(pieces(container, codec, options), rounds)), flush=True)


if __name__ == "__main__":
    main()
