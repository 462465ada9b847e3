"""The command line as users and scripts call it: the embedded model on real speech, through real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pysubs2
import pytest
import soundfile
import soxr
from parastream.client.cli.main import main
from parastream.client.cli.mic import _Sound
from websockets.sync.client import connect

import mlx.core as mx

from .cutting_proxy import CuttingProxy

SAMPLE = Path(str(files("parastream.client") / "assets" / "sample.flac"))
SAID = ["enter one seventy six", "rubout gmef three nine", "ten twenty seven sixty two"]
EMBEDDED = Path(str(files("parastream.model") / "assets"))


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in list(os.environ):
        if name.startswith("PARASTREAM_"):
            monkeypatch.delenv(name)
    return Run(capfd)


@dataclass(frozen=True)
class Run:
    """Runs a command in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Result:
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        out, err = self.capture.readouterr()
        assert isinstance(exit.value.code, int)
        return Result(exit.value.code, out, err)


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


class Served:
    """`parastream serve` in a process of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "parastream.client.cli", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self.log = ""
        self.url = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"ws://\S+", line):
                self.url = found[0]
            if line.startswith("ready"):
                break

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=30)
        self.log += rest or ""
        return self.process.returncode


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    server = Served()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log


# --- help, versions, wrong usage ------------------------------------------------------------------


def test_help_lists_the_commands_without_importing_what_they_need(run: Run) -> None:
    result = run("--help")
    assert result.status == 0
    assert re.findall(r"^  (\w+)  ", result.out, re.M) == [
        "serve", "transcribe", "subtitles", "mic", "demo", "doctor", "version", "models", "bench",
    ]  # fmt: skip
    code = "import sys, parastream.client.cli.main; print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"mlx", "numpy", "onnxruntime", "websockets", "rich"} & set(imported)


@pytest.mark.parametrize("command", [("version",), ("--version",)])
def test_version(run: Run, command: Sequence[str]) -> None:
    result = run(*command)
    assert result.status == 0
    assert re.fullmatch(r"parastream \d+\.\d+\.\d+\n", result.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "No such command"),
        ("transcribe", "Missing argument"),
        ("transcribe a.wav --format ass", "'ass'"),
        ("transcribe a.wav --pace 1", "--pace: needs --server"),
        ("transcribe a.wav --jobs 2", "--jobs: needs --server"),
        ("transcribe a.wav --server ws://h --pace -1", "--pace"),
        ("transcribe a.wav --server ws://h --final-model x", "--final-model: cannot be chosen by a client"),
        ("transcribe a.wav --server ws://h --punctuation ct-punc", "--punctuation: cannot be chosen"),
        ("transcribe a.wav --server ws://h --dtype float32", "--dtype: cannot be chosen by a client"),
        ("transcribe a.wav --server ws://h --offline", "--offline: has no use with --server"),
        ("transcribe a.wav --streaming --final-model x", "--final-model: has no use with --streaming"),
        ("transcribe a.wav b.wav --format srt", "--output: is needed to write srt for several recordings"),
        ("transcribe a.wav b/a.flac --output d", "a.wav and b/a.flac would both become a.txt"),
        ("transcribe a.wav --channel one", "--channel: needs a number or all"),
        ("transcribe a.wav --label Alice", "--label: needs --channel all"),
        ("transcribe a.wav --save d", "--save: needs --server"),
        ("transcribe a.wav --lines 1", "--lines: is for the formats srt and vtt"),
        ("transcribe a.wav --format srt --lines 0", "--lines: is 0; allowed is 1 or more"),
        ("subtitles a.jsonl --min-cue 9", "--max-cue: is 7; allowed is min_cue (9) or more"),
        ("mic --record sound.mp3", "must end in .wav or .flac"),
        ("mic --label Alice --label Bob", "--label: more names than channels (1)"),
        ("mic --server ws://h --final-model x", "--final-model: cannot be chosen by a client"),
        ("models convert a b --dtype int4", "'--dtype'"),
        ("serve --port many", "'--port'"),
        ("serve --log-level loud", "'--log-level'"),
        ("serve --verbose --log-level debug", "--verbose: has no use with --log-level"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, message: str) -> None:
    result = run(*arguments.split())
    assert result.status == 2
    assert message in result.err
    assert result.out == ""


# --- transcribe -----------------------------------------------------------------------------------


def test_transcribe_as_text(run: Run) -> None:
    result = run("transcribe", SAMPLE)
    assert (result.status, result.err) == (0, "")
    assert result.out.count("\n") == 1
    assert words(result.out) == " ".join(SAID)
    assert result.out.rstrip()[-1] in ".?"


def test_transcribe_as_json_lines(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--format", "jsonl", "--no-punctuation")
    assert result.status == 0
    transcript = json.loads(result.out)
    assert list(transcript) == ["file", "text", "utterances"]
    assert transcript["file"] == str(SAMPLE)
    assert [words(utterance["text"]) for utterance in transcript["utterances"]] == SAID
    assert transcript["text"] == " ".join(utterance["text"] for utterance in transcript["utterances"])
    end = 0.0
    for utterance in transcript["utterances"]:
        assert list(utterance) == ["text", "start", "end", "words"]
        assert end <= utterance["start"] < utterance["end"] <= 12.0
        end = utterance["end"]
        for word in utterance["words"]:
            assert list(word) == ["text", "start", "end", "confidence"]
            assert utterance["start"] <= word["start"] < word["end"] <= utterance["end"]
            assert 0 < word["confidence"] <= 1
    # Where the speech lies in the sample, with 0.3 s before and after it.
    places = [(utterance["start"], utterance["end"]) for utterance in transcript["utterances"]]
    np.testing.assert_allclose(places, [(0.9, 3.3), (4.0, 8.2), (9.0, 11.2)], atol=0.1)


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_transcribe_as_subtitles(run: Run, form: str) -> None:
    result = run("transcribe", SAMPLE, "--format", form)
    assert result.status == 0
    cues = pysubs2.SSAFile.from_string(result.out, form)
    assert [words(cue.plaintext) for cue in cues] == SAID


def test_transcribe_in_another_style(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--format", "srt", "--line-length", "12", "--lines", "1", "--min-cue", "0")
    lines = [cue.plaintext for cue in pysubs2.SSAFile.from_string(result.out, "srt")]
    assert max(map(len, lines)) <= 12
    assert words(" ".join(lines)) == " ".join(SAID)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample on two channels, four seconds later on the second one."""
    samples = soundfile.read(SAMPLE, dtype="int16")[0]
    pause = np.zeros(4 * 16_000, np.int16)
    path = tmp_path_factory.mktemp("call") / "call.flac"
    soundfile.write(path, np.stack([np.append(samples, pause), np.append(pause, samples)], axis=1), 16_000)
    return path


def test_channels_apart(run: Run, call: Path) -> None:
    result = run("transcribe", call, "--channel", "all", "--label", "Alice")
    assert (result.status, result.err) == (0, "")
    lines = [line.split(": ") for line in result.out.splitlines()]
    # The second speaker says the same four seconds later.
    assert [speaker for speaker, _ in lines] == ["Alice", "Alice", "Channel 2", "Channel 2", "Alice", "Channel 2"]
    assert [words(text) for speaker, text in lines if speaker == "Alice"] == SAID
    assert [words(text) for speaker, text in lines if speaker != "Alice"][:2] == SAID[:2]
    several = run("transcribe", call, call, "--channel", "all").out.splitlines()
    assert {line.rpartition(": ")[0] for line in several} == {f"{call}: Channel 1", f"{call}: Channel 2"}
    too_many = run("transcribe", call, "--channel", "all", *["--label", "A", "--label", "B", "--label", "C"])
    assert too_many.status == 1
    assert too_many.err == f"error: {call}: 3 names (A, B, C) for 2 channels\n"


def test_progress_on_a_terminal() -> None:
    """The bars are drawn on stderr only, and gone at the end."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "parastream.client.cli", "transcribe", str(SAMPLE), str(SAMPLE)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "90"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, env=environment) as process:
        os.close(end)
        drawn = b""
        with contextlib.suppress(OSError):  # how Linux tells that nobody writes to it any more
            while piece := os.read(terminal, 4096):
                drawn += piece
        assert process.stdout is not None
        transcripts = process.stdout.read().decode().splitlines()
        assert process.wait() == 0
    os.close(terminal)
    assert [words(line.partition(": ")[2]) for line in transcripts] == [" ".join(SAID)] * 2
    shown = re.sub(r"\x1b\[[\d;]*m", "", drawn.decode())  # colours
    assert re.search(r"2 recordings +━+ 24 of 24 s \d+\.\d× left 00:00", shown)
    assert re.search(r"sample\.flac +━+ 12 of 12 s ", shown)
    assert shown.endswith("\x1b[2K")  # the last thing done is to erase


def test_streaming_pass_alone(run: Run) -> None:
    heard = run("transcribe", SAMPLE, "--streaming", "--no-punctuation", "--format", "jsonl")
    assert heard.status == 0
    first = json.loads(heard.out)["utterances"][0]["words"]
    final = json.loads(run("transcribe", SAMPLE, "--no-punctuation", "--format", "jsonl").out)
    assert [word["text"] for word in first] == ["enter", "one", "seventy", "six"]
    # The same words, but heard with less context: the confidences tell that it was another pass.
    assert first != final["utterances"][0]["words"]


def test_failed_recording_leaves_the_others_alone(run: Run, tmp_path: Path) -> None:
    broken, absent, damaged = tmp_path / "broken.wav", tmp_path / "absent.wav", tmp_path / "damaged.flac"
    broken.write_bytes(b"no sound")
    damaged.write_bytes(SAMPLE.read_bytes()[:60_000])
    result = run("transcribe", broken, SAMPLE, absent, damaged, SAMPLE)
    assert result.status == 1
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(SAMPLE)] * 2
    assert words(lines[0].removeprefix(f"{SAMPLE}: ")) == " ".join(SAID)
    errors = result.err.splitlines()
    assert errors[0].startswith(f"error: {broken}: not a recording")
    assert errors[1] == f"error: {absent}: No such file or directory"
    assert errors[2].startswith(f"error: {damaged}: damaged audio")
    assert len(errors) == 3


def test_not_a_number_in_a_recording_is_named(run: Run, tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="float32")[0]
    samples[30_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    result = run("transcribe", tmp_path / "nan.wav")
    assert result.status == 1
    assert re.match(rf"error: {tmp_path}/nan.wav: .*30000", result.err)


def test_files_of_any_kind_into_a_directory(run: Run, tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="float32")[0]
    silent = np.zeros_like(samples)
    soundfile.write(tmp_path / "stereo.ogg", np.stack([silent, samples], axis=1), 16_000)
    telephone = soxr.resample(samples, 16_000, 8_000)
    soundfile.write(tmp_path / "telephone.wav", telephone, 8_000, subtype="ULAW")
    soundfile.write(tmp_path / "empty.wav", samples[:0], 16_000)
    result = run("transcribe", *sorted(tmp_path.iterdir()), "--format", "vtt", "--output", tmp_path / "out" / "vtt")
    assert (result.status, result.out, result.err) == (0, "", "")
    written = {path.name: path.read_text() for path in (tmp_path / "out" / "vtt").iterdir()}
    assert set(written) == {"stereo.vtt", "telephone.vtt", "empty.vtt"}
    assert "one seventy six" in words(written["stereo.vtt"])
    assert "seventy six" in words(written["telephone.vtt"])
    assert written["empty.vtt"].strip() == "WEBVTT"
    assert run("transcribe", tmp_path / "stereo.ogg", "--channel", "0").out == "\n"
    picked = run("transcribe", tmp_path / "stereo.ogg", "--channel", "2")
    assert picked.status == 1
    assert "there is no channel 2, only 0 to 1" in picked.err


def test_unknown_model_is_one_line(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--model", "no-such-model", "--offline")
    assert result.status == 1
    assert re.fullmatch(r"error: .*no-such-model.*\n", result.err)


# --- through a server -----------------------------------------------------------------------------


def test_server_hears_what_a_local_run_hears(run: Run, served: Served, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "copy.flac")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    here = run("transcribe", SAMPLE, "--format", "jsonl")
    there = run(
        "transcribe",
        SAMPLE,
        tmp_path / "broken.wav",
        tmp_path / "copy.flac",
        "--server",
        served.url,
        "-f",
        "jsonl",
    )
    assert there.status == 1
    assert there.err.startswith(f"error: {tmp_path}/broken.wav: ")
    first, second = map(json.loads, there.out.splitlines())
    assert first == json.loads(here.out)
    assert second == {**first, "file": str(tmp_path / "copy.flac")}


def test_choices_reach_the_server(run: Run, served: Served) -> None:
    options = ("--no-punctuation", "--streaming", "--format", "jsonl")
    there = run("transcribe", SAMPLE, "--server", served.url, *options)
    assert there.status == 0
    assert json.loads(there.out) == json.loads(run("transcribe", SAMPLE, *options).out)
    refused = run("transcribe", SAMPLE, "--server", served.url, "--model", "paraformer-zh-streaming")
    assert refused.status == 1
    assert re.fullmatch(rf"error: {SAMPLE}: .*paraformer-zh-streaming.*asr-small-en.*\n", refused.err)


def test_channels_apart_through_a_server_and_saved(run: Run, served: Served, call: Path, tmp_path: Path) -> None:
    options = ("--channel", "all", "--label", "Alice", "--label", "Bob")
    here = run("transcribe", call, *options, "--format", "jsonl")
    there = run("transcribe", call, *options, "-f", "jsonl", "--server", served.url, "--save", tmp_path)
    assert (there.status, there.err) == (0, "")
    assert json.loads(there.out) == json.loads(here.out)
    saved = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(saved) == {".jsonl", ".txt", ".srt", ".vtt"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[\w-]{6}", saved[".txt"].stem)
    assert saved[".txt"].read_text() == run("transcribe", call, *options).out
    for form in ("srt", "vtt"):
        assert saved[f".{form}"].read_text() == run("transcribe", call, *options, "--format", form).out
    again = run("subtitles", saved[".jsonl"], "--format", "vtt", "--label", "Carol")
    assert again.out == saved[".vtt"].read_text().replace("<v Alice>", "<v Carol>")
    assert run("subtitles", saved[".jsonl"], "-f", "text").out == saved[".txt"].read_text()
    as_objects = json.loads(run("subtitles", saved[".jsonl"], "-f", "jsonl").out)
    assert as_objects["utterances"] == json.loads(here.out)["utterances"]
    short = run("subtitles", saved[".jsonl"], "--line-length", "20").out
    assert max(map(len, short.splitlines())) < 30  # the lines with times
    assert run("subtitles", tmp_path / "absent.jsonl").status == 1
    assert "not the journal of a session" in run("subtitles", saved[".srt"]).err


def test_no_server_there(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--server", "ws://127.0.0.1:9")
    assert result.status == 1
    assert result.err.startswith(f"error: {SAMPLE}: ")
    assert result.err.count("\n") == 1


def test_readyz_answers_once_warm(served: Served) -> None:
    with urllib.request.urlopen(served.url.replace("ws://", "http://").replace("/v1/stream", "/readyz")) as answer:
        assert answer.status == 200


def test_serve_refuses_wrong_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("prot = 1\n")
    result = run("serve", "--config", tmp_path / "settings.toml")
    assert result.status == 1
    assert "unknown setting 'prot'; did you mean port?" in result.err
    result = run("serve", "--host", "0.0.0.0")
    assert result.status == 1
    assert "set a token" in result.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], False), (["--log-level", "error"], False), (["--verbose"], True), (["--log-level", "debug"], True)],
)
def test_the_log_level_chooses_what_is_logged(arguments: list[str], told: bool) -> None:
    server = Served(*arguments)
    with connect(server.url) as websocket:
        websocket.send('{"type":"start"}')
        websocket.recv()
    assert server.stop() == 0
    assert ("INFO session" in server.log) == told
    assert "websockets" not in server.log  # libraries speak up from warnings on


# --- demo and mic ---------------------------------------------------------------------------------


def test_demo(run: Run) -> None:
    result = run("demo", "--pace", "4")
    assert (result.status, result.err) == (0, "")
    finals = [line.partition("✓ ")[2] for line in result.out.splitlines() if "✓" in line]
    assert [words(final) for final in finals] == SAID
    partials = [line for line in result.out.splitlines() if re.match(r" +\d:\d\d\.\d   ", line)]
    assert len(partials) >= 6
    assert re.search(
        r"3 utterances through ws://127\.0\.0\.1:\d+/v1/stream: real-time factor \d\.\d\d, "
        r"first partial \d\.\d\d s after the start of speech, final -?\d\.\d\d s after the last word",
        result.out,
    )


def test_interrupt_ends_the_demo() -> None:
    command = [sys.executable, "-m", "parastream.client.cli", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith("streaming"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == ""


def test_interrupt_ends_a_long_recording(tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="int16")[0]
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 100), 16_000)
    command = [sys.executable, "-m", "parastream.client.cli", "transcribe", str(SAMPLE), str(tmp_path / "long.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # of the sample; the long one has begun
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stdout.read() == ""


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
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SAMPLE": str(recording)},
    )


@pytest.mark.parametrize("own_server", [True, False])
def test_mic(run: Run, served: Served, tmp_path: Path, own_server: bool) -> None:
    recorded, saved = tmp_path / "recorded.flac", tmp_path / "saved"
    server = [] if own_server else ["--server", served.url]
    result = mic(tmp_path, SAMPLE, "--record", recorded, "--save", saved, *server)
    assert (result.returncode, result.stderr) == (0, "")
    finals = [line.partition("✓ ")[2] for line in result.stdout.splitlines() if "✓" in line]
    assert [words(final) for final in finals] == SAID
    np.testing.assert_array_equal(soundfile.read(recorded)[0], soundfile.read(SAMPLE)[0])
    text = next(saved.glob("*.txt"))
    assert text.read_text().splitlines() == finals
    assert run("subtitles", text.with_suffix(".jsonl"), "--format", "text").out.splitlines() == finals
    assert f"saving to {text.with_suffix('')}.jsonl, .txt, .srt, .vtt" in result.stdout.replace("\n", "")


def test_a_microphone_for_each_person(served: Served, call: Path, tmp_path: Path) -> None:
    options = ("--channels", 2, "--label", "Alice", "--server", served.url)
    result = mic(tmp_path, call, *options)
    assert (result.returncode, result.stderr) == (0, "")
    finals = [line.partition("✓ ")[2].split(": ") for line in result.stdout.splitlines() if "✓" in line]
    assert [words(text) for speaker, text in finals if speaker == "Alice"] == SAID
    assert [words(text) for speaker, text in finals if speaker == "Channel 2"][:2] == SAID[:2]


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


def test_mic_knows_when_the_server_does_not_hear() -> None:
    client: Any = SimpleNamespace(acknowledged=32_000)  # a second of one channel
    microphone: Any = SimpleNamespace(channels=1, rate=16_000)
    sound = _Sound(microphone, None, client)
    sound.meter.hear(np.zeros(3 * 16_000, np.int16), 16_000)
    assert sound.meter.line(80).plain.endswith("  connected")
    sound.meter.hear(np.zeros(2 * 16_000, np.int16), 16_000)
    assert sound.meter.line(80).plain.endswith("  waiting for the server: 4 s")


def test_list_of_microphones(tmp_path: Path) -> None:
    result = mic(tmp_path, SAMPLE, "--list-devices")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-2].split() == ["*", "0", "Recording", "2", "16000", "Hz"]


def test_mic_without_portaudio(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    for options in ((), ("--list-devices",)):
        result = run("mic", *options)
        assert result.status == 1
        assert re.fullmatch(r"error: the microphone needs the PortAudio library: .*\n", result.err)


# --- models ---------------------------------------------------------------------------------------


def test_models_list(run: Run) -> None:
    result = run("models", "list")
    assert result.status == 0
    for name in ("asr-small-en", "paraformer-zh-streaming", "paraformer-zh", "ct-punc"):
        assert re.search(rf"^ *{name} ", result.out, re.M)


def test_models_download_of_what_is_here(run: Run) -> None:
    result = run("models", "download", "asr-small-en")
    assert (result.status, result.out) == (0, f"{EMBEDDED / 'asr-small-en'}\n")


def test_models_convert_and_check(run: Run, tmp_path: Path) -> None:
    converted = tmp_path / "converted"
    assert run("models", "convert", "asr-small-en", converted, "--dtype", "float32").status == 0
    checked = run("models", "check", converted)
    assert checked.status == 0
    assert "12.21 million" in checked.out
    again = run("models", "convert", "asr-small-en", converted)
    assert again.status == 1
    assert str(converted) in again.err


def test_models_quantize_and_transcribe(run: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    made = run("models", "quantize", "asr-small-en", small, "--bits", "4", "--group-size", "32")
    assert made.status == 0
    assert re.fullmatch(rf"{small}: 8\.\d MB instead of 24\.4\n", made.out)
    checked = run("models", "check", small)
    assert checked.status == 0
    assert "12.21 million" in checked.out
    assert re.search(r"^stored +4 bits in groups of 32$", checked.out, re.M)
    assert re.search(r"^computed +in b?float(16|32)$", checked.out, re.M)
    heard = run("transcribe", SAMPLE, "--model", small, "--dtype", "float32")
    assert heard.status == 0
    assert words(heard.out) == " ".join(SAID)
    again = run("models", "quantize", small, tmp_path / "smaller")
    assert again.status == 1
    assert "is quantised already (4 bits in groups of 32)" in again.err


@pytest.mark.parametrize(
    ("option", "value", "allowed"), [("--bits", "3", "'8', '4'"), ("--group-size", "48", "'32', '64', '128'")]
)
def test_models_quantize_says_what_is_allowed(run: Run, tmp_path: Path, option: str, value: str, allowed: str) -> None:
    refused = run("models", "quantize", "asr-small-en", tmp_path / "new", option, value)
    assert refused.status == 2
    assert f"'{value}' is not one of {allowed}" in refused.err


@pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="refused on CPUs only")
def test_half_precision_on_a_cpu_is_refused(run: Run) -> None:
    refused = run("transcribe", SAMPLE, "--dtype", "float16")
    assert refused.status == 1
    assert "float16 is for GPUs" in refused.err


def test_models_check_compares_with_known_texts(run: Run, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    golden = {"source": "AN4", "asr-small-en": {SAMPLE.name: " ".join(SAID)}}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    right = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert right.status == 0
    assert "passed" in right.out
    golden["asr-small-en"] = {SAMPLE.name: "something else altogether"}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    wrong = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert wrong.status == 1
    assert "failed" in wrong.out


@pytest.mark.parametrize("content", [None, "[]", '{"source": "x"}', "{"])
def test_models_check_without_known_texts(run: Run, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "golden.json").write_text(content)
    result = run("models", "check", "asr-small-en", "--recordings", tmp_path)
    assert result.status == 1
    assert f"{tmp_path}/golden.json: " in result.err


def test_models_check_of_a_damaged_model(run: Run, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED / "asr-small-en", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = run("models", "check", tmp_path / "model")
    assert result.status == 1
    assert re.fullmatch(r"error: .*model\.safetensors.*\n", result.err)


def test_models_check_of_a_punctuation_model(run: Run) -> None:
    result = run("models", "check", "punc-small-realtime")
    assert result.status == 0
    assert re.search(r"example +How are you\?", result.out)


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor(run: Run) -> None:
    result = run("doctor")
    assert result.status == 0
    assert "BLAS" in result.out
