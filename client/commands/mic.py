"""`parastream mic`: the microphone, transcribed live."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import soundfile
from numpy.typing import NDArray
from parastream.client.client import connect
from parastream.client.commands.composition import ModelChoice, local_server, on_interrupt, run_interruptible
from parastream.client.commands.conversation import converse
from parastream.client.live import LiveTranscript
from parastream.client.microphone import MicrophoneSource, list_devices
from rich.console import Console


def print_devices() -> int:
    """List the microphones; exit status 1 when there is none. Raises `MicrophoneError` without PortAudio."""
    devices = list_devices()
    for device in devices:
        mark = "*" if device.default else " "
        print(f"{mark} {device.index:3d}  {device.name}  ({device.channels} channels, {device.rate:g} Hz)")
    if not devices:
        print("no microphone was found")
    return 0 if devices else 1


def run(choice: ModelChoice, *, server: str | None, token: str | None, device: str | None, save: Path | None) -> int:
    """Transcribe until a signal comes and return the exit status.

    Raises `MicrophoneError`, `ClientError` or `ParastreamError`.
    """
    return run_interruptible(_run(choice, server=server, token=token, device=device, save=save))


async def _run(
    choice: ModelChoice, *, server: str | None, token: str | None, device: str | None, save: Path | None
) -> int:
    console = Console(highlight=False)
    # Before anything that takes its time: without a microphone nothing else is of use.
    microphone = MicrophoneSource(int(device) if device is not None and device.isdigit() else device)
    async with contextlib.AsyncExitStack() as stack:
        model = choice.model or ""
        if server is None:
            model = ""  # the server's only one
            console.print("loading the model")
            server = (await stack.enter_async_context(local_server(choice))).url
        recording = None
        if save is not None:
            recording = stack.enter_context(soundfile.SoundFile(save, "w", microphone.rate, 1, "PCM_16"))
        client = await stack.enter_async_context(
            connect(
                server,
                token=token,
                format=microphone.format,
                rate=microphone.rate,
                model=model,
                punctuation=choice.punctuation != "none",
            )
        )
        await stack.enter_async_context(microphone)
        on_interrupt(microphone.stop)
        console.print(f"listening to {microphone.name}; Ctrl-C ends", markup=False)
        with LiveTranscript(console) as live:
            await converse(client, _saved(microphone, recording), live.show)
    if microphone.dropped:
        console.print(f"{microphone.dropped:.1f} s of sound were lost: the server did not keep up")
    return 0


async def _saved(microphone: MicrophoneSource, recording: soundfile.SoundFile | None) -> AsyncIterator[NDArray[Any]]:
    async for block in microphone:
        if recording is not None:
            recording.write(block)
        yield block
