"""`parastream demo`: a server, a sample recording of real speech, and what comes back."""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

from parastream.client.cli.composition import ModelChoice, local_server
from parastream.client.cli.duplex import run_duplex
from parastream.client.cli.interrupts import run_interruptible
from parastream.client.cli.terminal import LiveTranscript
from parastream.client.client import connect
from parastream.client.sources import FileSource, sample_recording
from parastream.model import blas
from parastream.server.wire.messages import Final, Partial, ServerMessage
from rich.console import Console


class CaptionDelays:
    """Seconds from when audio was sent to when its text came."""

    def __init__(self, began: float, pace: float) -> None:
        """Begin to measure.

        Args:
            began: when the first sample was sent, on the monotonic clock.
            pace: how many times faster than real time samples are sent.
        """
        self._began = began
        self._pace = pace
        self._first: dict[int, float] = {}
        self.partials: list[float] = []
        """From the start of each utterance to its first partial with text."""
        self.finals: list[float] = []
        """From the end of the last word of each utterance to its final."""

    def note(self, message: ServerMessage, now: float) -> None:
        """Take a message that came at `now` on the monotonic clock."""
        match message:
            case Partial() if (message.stable or message.draft) and message.utterance not in self._first:
                self._first[message.utterance] = now
                self.partials.append(now - self._sent(message.start))
            case Final() if message.words:
                self.finals.append(now - self._sent(message.words[-1].end))

    def _sent(self, position: float) -> float:
        return self._began + position / self._pace


def command_line() -> str:
    """Return how to call the command line: through `./run` in its environment, which is not on the PATH."""
    environment = Path(sys.prefix)
    made_by_run = environment.name == ".venv" and (environment.parent / "run").is_file()
    return "./run parastream" if made_by_run else "parastream"


def run(pace: float) -> int:
    """Show the demonstration and return the exit status: 1 if nothing was recognised.

    Raises:
        ParastreamError: the server cannot start.
        ClientError: the session failed.
    """
    with sample_recording() as sample:
        return run_interruptible(_run(sample, pace))


async def _run(sample: Path, pace: float) -> int:
    console = Console(highlight=False)

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    choice = ModelChoice()
    say(f"parastream {version('parastream')}, {blas.info()}")
    loading = time.perf_counter()
    finals = 0
    async with local_server(choice) as server:
        url = server.url
        say(f"server {url} is ready after {time.perf_counter() - loading:.1f} s")
        say(f"{' and '.join(ear.name for ear in server.ears)} listen")
        source = FileSource(sample, pace=pace)
        seconds = source.duration
        assert seconds is not None  # FLAC
        async with connect(url, format=source.format, rate=source.rate) as client:
            speed = "real-time pace" if pace == 1 else f"{pace:g} times real time"
            say(f"streaming {seconds:.0f} s of real speech at {speed}\n")
            delays = CaptionDelays(time.monotonic(), pace)
            with LiveTranscript(console) as live:

                def on_event(message: ServerMessage) -> None:
                    nonlocal finals
                    delays.note(message, time.monotonic())
                    live.show(message)
                    finals += isinstance(message, Final) and bool(message.text)

                await run_duplex(client, source, on_event)
        busy = server.engine.stats().busy
    if not finals:
        say("nothing was recognised")
        return 1
    say(
        f"\n{finals} utterances through {url}: real-time factor {busy / seconds:.2f}, "
        f"first partial {median(delays.partials):.2f} s after the start of speech, "
        f"final {median(delays.finals):.2f} s after the last word"
    )
    command = command_line()
    say(f"next: `{command} serve` in one terminal, and in another")
    say(f"  {command} mic --server ws://127.0.0.1:8765")
    say(f"  {command} transcribe FILE --server ws://127.0.0.1:8765")
    return 0
