"""`parastream mic`: live transcription of microphones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from parastream.client.cli.composition import ModelChoice, local_server, sendable
from parastream.client.cli.duplex import new_journal
from parastream.client.cli.interrupts import on_interrupt, run_interruptible
from parastream.client.cli.long_session import LongSession
from parastream.client.cli.recorder import Recorder
from parastream.client.cli.terminal import LevelMeter, LiveTranscript
from parastream.client.client import AsyncClient, Reconnected, connect
from parastream.client.microphone import MicrophoneSource, list_devices
from parastream.client.session import ClientEvent
from parastream.model.hotwords import Hotwords
from parastream.server.transcripts.journal import Journal
from parastream.server.transcripts.labels import channel_labels, clean_label
from parastream.streaming import Encoding
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LATE = 3.0  # seconds of sound that the server may not have acknowledged; it does so about every second


def print_devices() -> int:
    """List the microphones and return the exit status: 1 if there is none.

    Raises:
        MicrophoneError: there is no PortAudio.
    """
    devices = list_devices()
    if not devices:
        print("no microphone was found")
        return 1
    table = Table("", "device", "name", "channels", "rate", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("device", "channels", "rate"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for device in devices:
        table.add_row(
            "*" if device.default else "",
            str(device.index),
            Text(device.name, overflow="fold"),
            str(device.channels),
            f"{device.rate:g} Hz",
        )
    Console(highlight=False).print(table)
    return 0


@dataclass(frozen=True)
class Capture:
    """What is recorded, and where it is saved."""

    device: str | None
    """Index or name; None for the default one."""
    channels: int
    labels: Sequence[str]
    """Names of the speakers by channel. If empty, a single channel has no name and several have numbers."""
    record: Path | None
    """File for the audio."""
    save: Path | None
    """Directory for the transcript."""


def run(
    choice: ModelChoice, capture: Capture, *, server: str | None, token: str | None, hotwords: Hotwords = ()
) -> int:
    """Transcribe until a signal comes and return the exit status.

    Raises:
        MicrophoneError: the microphone cannot be used.
        ClientError: the session failed.
        ParastreamError: a server of its own cannot start.
        OSError: audio or transcript cannot be saved.
    """
    return run_interruptible(_run(choice, capture, server=server, token=token, hotwords=hotwords))


async def _run(
    choice: ModelChoice, capture: Capture, *, server: str | None, token: str | None, hotwords: Hotwords
) -> int:
    console = Console(highlight=False)
    # First, since it fails fast: without a microphone the rest is useless.
    device = int(capture.device) if capture.device is not None and capture.device.isdigit() else capture.device
    microphone = MicrophoneSource(device, channels=capture.channels)
    labels = (
        channel_labels(capture.channels, capture.labels)
        if capture.channels > 1
        else tuple(map(clean_label, capture.labels))
    )
    async with contextlib.AsyncExitStack() as stack:
        recording = None
        if capture.record is not None:
            recording = stack.enter_context(Recorder(capture.record, microphone.rate, capture.channels))
        model = choice.model or ""
        if server is None:
            model = ""  # the server's only one
            console.print("loading the model")
            server = (await stack.enter_async_context(local_server(choice))).url
        url = server

        def new_client() -> AsyncClient:
            return connect(
                url,
                token=token,
                format=microphone.format,
                rate=microphone.rate,
                channels=capture.channels,
                channel="all" if capture.channels > 1 else 0,
                labels=labels,
                model=model,
                language=choice.language or "",
                punctuation=choice.punctuation != "none",
                hotwords=sendable(hotwords),
                on_reconnect=lambda broken: live.note(_reconnected(broken)),
            )

        journal: Journal | None = None

        told = False

        def on_open(client: AsyncClient) -> None:
            nonlocal journal, told
            if client.ready.ears and not told:
                told = True
                live.note(f"heard by {' and '.join(ear.name for ear in client.ready.ears)}")
            if capture.save is not None and journal is None:
                journal = stack.enter_context(new_journal(capture.save, client, labels, report=live.note))
                live.note(f"saving to {journal.path.with_suffix('')}.jsonl, .txt, .srt, .vtt")

        def on_event(event: ClientEvent) -> None:
            if journal is not None:
                journal.add(event)
            live.show(event)

        session = LongSession(
            new_client,
            rate=microphone.rate,
            frame_bytes=Encoding(microphone.format).sample_bytes * capture.channels,
            on_open=on_open,
            on_event=on_event,
            note=lambda text: live.note(text),
            on_forget=lambda utterance: live.forget(utterance),
        )
        sound = _Sound(microphone, recording, session)
        live = LiveTranscript(console, labels=labels, meter=sound.meter)
        microphone.on_lost = lambda: live.note(f"{microphone.name} is gone; waiting for it to come back")
        microphone.on_found = lambda: live.note(f"listening to {microphone.name} again")
        await stack.enter_async_context(microphone)
        on_interrupt(microphone.stop)
        console.print(f"listening to {microphone.name}; Ctrl-C ends", markup=False)

        with live:
            await session.run(sound)
    if microphone.dropped:
        console.print(f"{microphone.dropped:.1f} s of sound were lost: the server did not keep up")
    return 0


class _Sound:
    """The microphone's blocks, which it measures and records as they pass by."""

    def __init__(self, microphone: MicrophoneSource, recording: Recorder | None, session: LongSession) -> None:
        self._microphone = microphone
        self._recording = recording
        self._session = session
        self.meter = LevelMeter(microphone.channels, self._state)

    async def __aiter__(self) -> AsyncIterator[NDArray[Any]]:
        async for block in self._microphone:
            if self._recording is not None:
                self._recording.write(block)
            self.meter.measure(block, self._microphone.rate)
            yield block

    def _state(self) -> Text:
        """Describe the connection by how much audio has reached the server."""
        if self._microphone.lost:
            return Text("no microphone", style="bold red")
        late = self.meter.seconds - self._session.acknowledged
        if late > _LATE:
            return Text(f"waiting for the server: {late:.0f} s", style="bold yellow")
        return Text("connected", style="green")


def _reconnected(broken: Reconnected) -> str:
    return f"the connection was lost for {broken.seconds:.1f} s; nothing that was said is"
