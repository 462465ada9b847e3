"""What does the process with the connections take for each message of audio, with all that it entails?

    ./run python -m benchmarks.front --sessions 200

An engine without a model takes part, in a process of its own as with `serve --engines`. It tells as much as a real one:
a partial of a growing utterance three times a second, a final every four seconds, and progress for each message. So the
front does all that it does for people who speak, and computing does not stand in its way. Clients speak at real-time
pace, ten messages a second. Only CPU time counts, which other programs disturb less than any delay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys

import psutil
from parastream.client.cli.bench.load import run_load
from parastream.client.cli.bench.processes import Usage
from parastream.client.cli.bench.results import hardware
from parastream.server.config import ServerConfig
from parastream.server.engines.channel import Cancel, Channel, End, Open, Ready, Setup, ToEngine, told
from parastream.server.main import serve
from parastream.server.wire.messages import Done
from parastream.streaming import EngineStats, Models
from parastream.streaming.events import Event, Final, Partial, Progress, SessionEnded, SpeechEnded, SpeechStarted, Word

_RATE = 32_000
"""Bytes of audio in a second."""
_MESSAGES = 10
_UTTERANCE, _BETWEEN_PARTIALS, _WORD = 4.0, 0.3, 0.2  # seconds
_PLENTY = 100_000


class _StandIn:
    """Tells of speech without listening."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.channel = Channel(ToEngine, self._receive, self._hear, self.ended.set)
        self._heard: dict[int, int] = {}

    def _receive(self, message: ToEngine) -> None:
        match message:
            case Setup():
                self.channel.send(Ready("none", ("en",), (), "CPU", "none", EngineStats(capacity=_PLENTY)))
            case Open():
                self._heard[message.stream] = 0
            case End():
                seconds = self._heard.pop(message.stream) / _RATE
                self.channel.send(told(message.stream, [*_ended(seconds), SessionEnded(seconds)]))
            case Cancel():
                self._heard.pop(message.stream, None)

    def _hear(self, stream: int, data: bytes) -> None:
        before = self._heard[stream] / _RATE
        self._heard[stream] += len(data)
        self.channel.send(told(stream, _events(before, self._heard[stream] / _RATE)))


def _events(before: float, now: float) -> list[Event]:
    """Return what is told when audio up to `now` has come."""
    events: list[Event] = []
    if int(before / _UTTERANCE) < int(now / _UTTERANCE):
        events += _ended(before)
    number = int(now / _UTTERANCE)
    start = number * _UTTERANCE
    if not before or len(events):
        events.append(SpeechStarted(number, start))
    if int(before / _BETWEEN_PARTIALS) < int(now / _BETWEEN_PARTIALS):
        words = _words(start, now)
        stable = " ".join(word.text for word in words[:-1])
        events.append(Partial(number, start, now, stable, " word" if words else "", words))
    return [*events, Progress(now, now)]


def _ended(now: float) -> list[Event]:
    number = int(now / _UTTERANCE)
    start = number * _UTTERANCE
    words = _words(start, now)
    text = " ".join(word.text for word in words)
    return [SpeechEnded(number, now, "silence"), Final(number, start, now, text, words, 0.9)]


def _words(start: float, end: float) -> tuple[Word, ...]:
    count = int((end - start) / _WORD)
    return tuple(Word("word", start + place * _WORD, start + (place + 1) * _WORD, 0.9) for place in range(count))


async def stand_in(descriptor: int) -> None:
    """Be the engine at the other end of a socket."""
    engine = _StandIn()
    front = socket.socket(fileno=descriptor)
    await asyncio.get_running_loop().create_unix_connection(lambda: engine.channel, sock=front)
    await engine.ended.wait()


def no_models() -> Models:
    """Load nothing: there is no engine in the server's own process."""
    raise AssertionError


async def measure(sessions: int, seconds: float) -> dict[str, object]:
    """Run a server and its clients."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.front", "--serve"]
    process = await asyncio.create_subprocess_exec(*command, stderr=pipe)
    assert process.stderr is not None
    url, line = "", ""
    while not line.startswith("ready"):
        line = (await process.stderr.readline()).decode()
        url = found[0] if (found := re.search(r"ws://\S+", line)) else url
    front = psutil.Process(process.pid)

    def usage() -> Usage:
        user, system = front.cpu_times()[:2]
        memory = front.memory_info().rss / 1e6
        return Usage(user + system, memory, memory)

    load = await run_load([url], None, bytes(_RATE), clients=sessions, seconds=seconds, usage=usage)
    process.terminate()
    await process.communicate()
    assert load.cpu_cores is not None
    return {
        "hardware": hardware(),
        "sessions": sessions,
        "sessions_lost": sum(
            not trace.received or not isinstance(trace.received[-1][1], Done) for trace in load.traces
        ),
        "front_cpu_cores": round(load.cpu_cores, 3),
        "us_per_message": round(1e6 * load.cpu_cores / sessions / _MESSAGES, 1),
        "largest_send_delay_ms": round(1000 * load.largest_send_delay),
    }


def main() -> None:
    """Measure, or be one of the other processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--engine", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine is not None:
        asyncio.run(stand_in(options.engine))
    elif options.serve:
        command = [sys.executable, "-m", "benchmarks.front", "--engine"]
        config = ServerConfig(port=0, engines=1, max_sessions=_PLENTY)
        sys.exit(serve(config, no_models, command))
    else:
        print(json.dumps(asyncio.run(measure(options.sessions, options.seconds)), indent=2))


if __name__ == "__main__":
    main()
