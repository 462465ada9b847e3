"""`parastream mic`, with a microphone that plays a recording."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from parastream.client.cli.mic import _Sound

from tests.client.cli.command import BOTH, SAID, SAMPLE, Run, Served, words
from tests.client.cutting_proxy import CuttingProxy

FAKE_PORTAUDIO = '''
"""Plays a recording into whoever records, then asks for the end as Ctrl-C does."""
import os, signal, threading, time
import soundfile

class PortAudioError(Exception): ...

def query_devices(device=None, kind=None):
    info = {"name": "Recording", "max_input_channels": 2, "default_samplerate": 16000.0}
    return [info] if kind is None else info

def check_input_settings(*_, **__): ...

class default:
    device = (0, 0)

class RawInputStream:
    def __init__(self, blocksize, callback, **_):
        self.blocksize, self.callback = blocksize, callback
        self.thread = threading.Thread(target=self.run)

    def run(self):
        samples = soundfile.read(os.environ["SAMPLE"], dtype="int16")[0]
        for start in range(0, len(samples), self.blocksize):
            self.callback(samples[start : start + self.blocksize].tobytes(), self.blocksize, None, None)
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def start(self):
        self.thread.start()

    def stop(self):
        self.thread.join()

    def close(self): ...
'''


def mic(tmp_path: Path, recording: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sounddevice.py").write_text(FAKE_PORTAUDIO)
    return subprocess.run(
        [sys.executable, "-m", "parastream.client.cli", "mic", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SAMPLE": str(recording)},
    )


@pytest.mark.process
@pytest.mark.parametrize("own_server", [True, False])
def test_mic(run: Run, served: Served, tmp_path: Path, own_server: bool) -> None:
    recorded, saved = tmp_path / "recorded.flac", tmp_path / "saved"
    server = ["--lm", "none"] if own_server else ["--server", served.url]
    (tmp_path / "words.txt").write_text("RubOut 2\n")
    result = mic(tmp_path, SAMPLE, "--record", recorded, "--save", saved, "--hotwords", tmp_path / "words.txt", *server)
    assert (result.returncode, result.stderr) == (0, "")
    finals = [line.partition("✓ ")[2] for line in result.stdout.splitlines() if "✓" in line]
    assert [words(final) for final in finals] == (BOTH if own_server else SAID)
    assert finals[1].startswith("RubOut ")
    np.testing.assert_array_equal(soundfile.read(recorded)[0], soundfile.read(SAMPLE)[0])
    text = next(saved.glob("*.txt"))
    assert text.read_text().splitlines() == finals
    assert run("subtitles", text.with_suffix(".jsonl"), "--format", "text").out.splitlines() == finals
    assert f"heard by {'asr-small-en and whisper-tiny-en' if own_server else 'asr-small-en'}\n" in result.stdout
    assert f"saving to {text.with_suffix('')}.jsonl, .txt, .srt, .vtt" in result.stdout.replace("\n", "")


@pytest.mark.process
def test_a_microphone_for_each_person(served: Served, call: Path, tmp_path: Path) -> None:
    options = ("--channels", 2, "--label", "Alice", "--server", served.url)
    result = mic(tmp_path, call, *options)
    assert (result.returncode, result.stderr) == (0, "")
    finals = [line.partition("✓ ")[2].split(": ") for line in result.stdout.splitlines() if "✓" in line]
    assert [words(text) for speaker, text in finals if speaker == "Alice"] == SAID
    assert [words(text) for speaker, text in finals if speaker == "Channel 2"][:2] == SAID[:2]


@pytest.mark.process
def test_mic_when_the_connection_breaks(served: Served, tmp_path: Path) -> None:
    """After some 5 s of speech, in the middle of a sentence: nothing is lost, and it is told."""
    allowances = iter([160_000.0, inf])

    async def through_proxy() -> subprocess.CompletedProcess[str]:
        port = int(served.url.rpartition(":")[2].partition("/")[0])
        async with CuttingProxy(port, lambda: next(allowances)).running() as url:
            return await asyncio.to_thread(mic, tmp_path, SAMPLE, "--save", tmp_path / "saved", "--server", url)

    result = asyncio.run(through_proxy())
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^the connection was lost for \d+\.\d s; nothing that was said is$", result.stdout, re.M)
    finals = [line.partition("✓ ")[2] for line in result.stdout.splitlines() if "✓" in line]
    assert [words(final) for final in finals] == SAID
    assert next((tmp_path / "saved").glob("*.txt")).read_text().splitlines() == finals


@pytest.mark.process
def test_mic_goes_on_when_a_session_has_lasted_too_long(tmp_path: Path) -> None:
    """One second here, in which some sentences are spoken; the rest is in the same files."""
    server = Served("--max-session", "1")
    try:
        result = mic(tmp_path, SAMPLE, "--save", tmp_path / "saved", "--server", server.url)
    finally:
        server.stop()
    assert (result.returncode, result.stderr) == (0, "")
    _, _, after = result.stdout.partition("going on in a new session\n")
    assert "✓" in after
    finals = [line.partition("✓ ")[2] for line in result.stdout.splitlines() if "✓" in line]
    (saved,) = (tmp_path / "saved").glob("*.txt")
    assert saved.read_text().splitlines() == finals


def test_mic_knows_when_the_server_does_not_hear() -> None:
    session: Any = SimpleNamespace(acknowledged=1.0)
    microphone: Any = SimpleNamespace(channels=1, rate=16_000, lost=False)
    sound = _Sound(microphone, None, session)
    sound.meter.measure(np.zeros(3 * 16_000, np.int16), 16_000)
    assert sound.meter.line(80).plain.endswith("  connected")
    sound.meter.measure(np.zeros(2 * 16_000, np.int16), 16_000)
    assert sound.meter.line(80).plain.endswith("  waiting for the server: 4 s")
    microphone.lost = True
    assert sound.meter.line(80).plain.endswith("  no microphone")


@pytest.mark.process
def test_list_of_microphones(tmp_path: Path) -> None:
    result = mic(tmp_path, SAMPLE, "--list-devices")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-2].split() == ["*", "0", "Recording", "2", "16000", "Hz"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--server", "ws://127.0.0.1:1", "--lm", "none"), 2, "the server chooses it"),
        (("--hotwords", "absent.txt"), 1, "cannot read the hotwords in absent.txt"),
    ],
)
def test_what_mic_refuses(run: Run, options: tuple[str, ...], status: int, message: str) -> None:
    result = run("mic", *options)
    assert result.status == status
    assert message in result.err.replace("\n", " ")


def test_mic_without_portaudio(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    for options in ((), ("--list-devices",)):
        result = run("mic", *options)
        assert result.status == 1
        assert re.fullmatch(r"error: the microphone needs the PortAudio library: .*\n", result.err)
