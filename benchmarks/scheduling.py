"""Measure what the engine's scheduling does by itself, with models that recognise nothing and only take time.

    ./run python benchmarks/scheduling.py --clients 10,20,30 [--full-size] [--uploads 4] [--seconds 30]

Paced clients speak two seconds in three, with a short pause in each utterance; `--uploads` more sessions send a long
recording as fast as the engine takes it. The script prints by how many milliseconds partials and finals are late
(median and 95th percentile). A partial counts from when the last audio that it covers was sent, a final from when the
end of its utterance could be decided. The models only sleep, so the processor's speed does not affect the figures.
"""

from __future__ import annotations

import argparse
import heapq
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import parastream.model
from numpy.typing import NDArray
from parastream.client.cli.bench.latency import percentile
from parastream.model.lanes import finish
from parastream.model.lattice import Wanted
from parastream.model.tokens import Tokens
from parastream.streaming import Engine, EngineConfig, EngineStats, Models, SessionConfig
from parastream.streaming.events import Event, Final, Partial
from parastream.streaming.vad import FRAME, Vad, VadState

Float32 = NDArray[np.float32]

RATE = 16000
BLOCK = 0.1
HANGOVER, MIN_SILENCE = 0.3, 0.6
BACKLOG = 10.0
"""Seconds that an upload may be ahead of the engine."""
FRAME_SECONDS = 0.00006


@dataclass(frozen=True)
class Size:
    """How long a model takes, in seconds."""

    batch: float
    """For each batch of windows."""
    window: float
    """In addition, for each window in the batch."""
    layers: int
    row: float
    """For each row in each layer of a full-context pass. What follows the layers takes a fifth of that again."""


SMALL = Size(batch=0.0115, window=0.0054, layers=10, row=0.00004)
FULL = Size(batch=0.065, window=0.034, layers=50, row=0.00005)


class State:
    """A placeholder: there is nothing to remember."""

    def copy(self) -> State:
        """Return the same."""
        return self


class Network:
    """A network that takes the time a Paraformer takes."""

    size = 0
    lanes = 1
    value_bytes = 4

    def __init__(self, size: Size) -> None:
        self._size = size

    def plan(self) -> None:
        """There is nothing to plan."""

    def new_state(self) -> State:
        """Return the state of an utterance."""
        return State()

    def step(
        self,
        features: Sequence[Float32],
        states: Sequence[State],
        last: Sequence[bool],
        wanted: Sequence[Wanted | None] | None = None,
    ) -> list[Tokens]:
        """Give one token for each window."""
        time.sleep(self._size.batch + self._size.window * len(features))
        return [Tokens(np.array([5], np.int32), np.ones(1, np.float32), np.zeros(1, np.int64)) for _ in features]

    def transcribe_in_slices(
        self, features: Sequence[Float32], *, layers: int, **_: object
    ) -> Generator[None, None, list[Tokens]]:
        """Give no tokens, a few layers at a time."""
        size, rows = self._size, len(features) * max(map(len, features))
        for done in range(0, size.layers, layers):
            time.sleep(min(layers, size.layers - done) * rows * size.row)
            yield
        time.sleep(size.layers * rows * size.row / 5)
        return [Tokens.none() for _ in features]

    def transcribe(self, features: Sequence[Float32]) -> list[Tokens]:
        """Take the time of a whole pass at once."""
        return finish(self.transcribe_in_slices(features, layers=self._size.layers))


class LoudnessVad(Vad):
    """A VAD that takes loud frames for speech."""

    def __init__(self) -> None:
        pass

    def __call__(self, samples: Sequence[Float32], states: Sequence[VadState]) -> list[Float32]:
        """Give 1 for each loud frame and 0 for the others."""
        time.sleep(FRAME_SECONDS * sum(map(len, samples)) / FRAME)
        return [(np.abs(run.reshape(-1, FRAME)).max(axis=1) > 0.1).astype(np.float32) for run in samples]


def recording() -> bytes:
    """Make an utterance of three seconds with a short pause, and silence after it."""
    loud = [(1.4, 1), (0.4, 0), (1.2, 1), (1.5, 0)]
    return np.concatenate([np.full(round(seconds * RATE), 9000 * on, "<i2") for seconds, on in loud]).tobytes()


@dataclass
class Client:
    """A client that notes when its events come."""

    began: float = 0.0
    partials: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    send: Callable[[bytes], None] = lambda data: None

    def take(self, events: list[Event]) -> None:
        """Take events of its session."""
        late = time.monotonic() - self.began
        for event in events:
            if isinstance(event, Partial):
                self.partials.append(1000 * (late - sent_at(event.end)))
            elif isinstance(event, Final):
                self.finals.append(1000 * (late - sent_at(event.end - HANGOVER + MIN_SILENCE)))


def sent_at(position: float) -> float:
    """Return when the last of the frames before a position has been sent: at the end of its block."""
    frames = math.ceil(round(position * RATE) / FRAME)
    return math.ceil(round(frames * FRAME / RATE / BLOCK, 6)) * BLOCK


def measure(
    engine: Engine, clients: int, uploads: int, seconds: float
) -> tuple[list[Client], list[float], EngineStats]:
    """Return the paced clients, the seconds of audio that each upload got through, and the engine's last stats."""
    audio = recording()
    size = round(BLOCK * RATE) * 2
    speakers = [Client() for _ in range(clients)]
    sessions = [engine.open(SessionConfig(), speaker.take) for speaker in speakers]
    stop = threading.Event()
    amounts = [0.0] * uploads

    def upload(number: int) -> None:
        session = engine.open(SessionConfig(), lambda events: None)
        while not stop.is_set():
            if session.backlog < BACKLOG:
                session.send(audio)
                amounts[number] += len(audio) / 2 / RATE
            else:
                time.sleep(0.01)
        amounts[number] -= session.backlog
        session.cancel()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(uploads)]
    for thread in threads:
        thread.start()
    start = time.monotonic() + 0.1
    queue = []
    for number, speaker in enumerate(speakers):
        speaker.began = start + (number * 0.618) % 1 * len(audio) / 2 / RATE
        queue.append((speaker.began + BLOCK, number, 0))
    heapq.heapify(queue)
    while queue:
        at, number, place = heapq.heappop(queue)
        time.sleep(max(0.0, at - time.monotonic()))
        sessions[number].send(audio[place : place + size])
        if at + BLOCK < start + seconds:
            heapq.heappush(queue, (at + BLOCK, number, (place + size) % len(audio)))
    stats = engine.stats()
    stop.set()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.cancel()
    return speakers, amounts, stats


def percentiles(values: list[float]) -> str:
    """Format the median and the 95th percentile."""
    return " ".join(f"{percentile(values, percent):7.0f}" for percent in (50, 95)) if values else "      –       –"


def main() -> None:
    """Run each number of clients and print a line for it."""
    parser = argparse.ArgumentParser(description="The engine's scheduling, with models that only take time.")
    parser.add_argument("--clients", default="10,20,30", help="numbers of paced clients")
    parser.add_argument("--uploads", type=int, default=0, help="sessions that send as fast as they are let")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each run")
    parser.add_argument("--full-size", action="store_true", help="the times of a model of 220 M parameters")
    options = parser.parse_args()
    size = FULL if options.full_size else SMALL
    parastream.model.prepare_process()
    loaded = parastream.model.load()
    encoder = replace(loaded.config.encoder, num_blocks=size.layers)
    speech = replace(loaded, config=replace(loaded.config, encoder=encoder), network=Network(size))
    engine = Engine(lambda: Models(speech, LoudnessVad()), EngineConfig(target_utilisation=math.inf))
    engine.start()
    engine.wait_ready()
    print("clients   partials: 50%     95%     finals: 50%     95%   windows in a batch   busy   uploads: × real time")
    for clients in map(int, options.clients.split(",")):
        before = engine.stats()
        speakers, amounts, after = measure(engine, clients, options.uploads, options.seconds)
        windows = (after.windows - before.windows) / max(1, after.window_batches - before.window_batches)
        partials = percentiles([late for speaker in speakers for late in speaker.partials])
        finals = percentiles([late for speaker in speakers for late in speaker.finals])
        busy = (after.busy - before.busy) / options.seconds
        rates = ", ".join(f"{amount / options.seconds:.1f}" for amount in amounts) or "–"
        print(f"{clients:7d}    {partials}         {finals}   {windows:18.1f}   {busy:4.0%}   {rates}", flush=True)
        while engine.stats().sessions:
            time.sleep(0.05)
    engine.close()


if __name__ == "__main__":
    main()
