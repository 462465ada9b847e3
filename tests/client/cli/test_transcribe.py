"""`parastream transcribe`, with models of its own and through a server, on real speech."""

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
from collections.abc import AsyncGenerator, Sequence
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlx.core as mx
import numpy as np
import pysubs2
import pytest
import soundfile
import soxr
from parastream.client.cli import backends, transcribe
from parastream.client.cli.backends import ChannelChoice, Outcome, RemoteBackend, Watcher
from parastream.client.cli.progress import ProgressBars
from parastream.client.errors import ConnectionFailedError
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.wire.messages import PROTOCOL, Error, Final, Ready, encode
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.client.cli.command import BOTH, SAID, SAMPLE, TRANSCRIBE, Run, Served, words
from tests.client.cutting_proxy import CuttingProxy
from tests.server.fakes import (
    UTTERANCE,
    FakeEngine,
    FakeStream,
    TimedEngine,
    asynchronous,
    expected_texts,
    serving,
)
from tests.waiting import until, wait_until


def test_two_ears_hear_unless_one_is_named(run: Run) -> None:
    transcript = json.loads(run("transcribe", SAMPLE, "--format", "jsonl").out)
    assert [words(utterance["text"]) for utterance in transcript["utterances"]] == BOTH
    ears = [utterance["ear"] for utterance in transcript["utterances"]]
    assert ears == ["whisper-tiny-en", "asr-small-en", "asr-small-en"]
    assert words(run("transcribe", SAMPLE, "--model", "asr-small-en").out) == " ".join(SAID)
    assert words(run("transcribe", SAMPLE, "--final-model", "whisper-tiny-en").out).startswith(BOTH[0])


SENSEVOICE = Path(__file__).parents[2] / "reference" / "sensevoice" / "model"


def test_a_model_for_whole_utterances_hears_alone(run: Run) -> None:
    """A small one with random weights: what it writes means nothing."""
    transcript = json.loads(run("transcribe", SAMPLE, "--model", SENSEVOICE, "--format", "jsonl").out)
    assert {(each["ear"], each["language"]) for each in transcript["utterances"]} <= {
        ("model", language) for language in ("zh", "en", "yue", "ja", "ko")
    }
    assert transcript["text"]
    result = run("transcribe", SAMPLE, "--model", SENSEVOICE, "--final-model", "whisper-tiny-en")
    assert result.status == 1
    assert "transcribes whole utterances only, and so does whisper-tiny-en: name one of them" in result.err
    result = run("transcribe", SAMPLE, "--model", SENSEVOICE, "--streaming")
    assert result.status == 1
    assert "the model has no streaming form" in result.err


def test_transcribe_as_text(run: Run) -> None:
    result = run(*TRANSCRIBE, SAMPLE)
    assert (result.status, result.err) == (0, "")
    assert result.out.count("\n") == 1
    assert words(result.out) == " ".join(SAID)
    assert result.out.rstrip()[-1] in ".?"


def test_transcribe_as_json_lines(run: Run) -> None:
    result = run(*TRANSCRIBE, SAMPLE, "--format", "jsonl", "--no-punctuation")
    assert result.status == 0
    transcript = json.loads(result.out)
    assert list(transcript) == ["file", "text", "utterances"]
    assert transcript["file"] == str(SAMPLE)
    assert [words(utterance["text"]) for utterance in transcript["utterances"]] == SAID
    assert transcript["text"] == " ".join(utterance["text"] for utterance in transcript["utterances"])
    end = 0.0
    for utterance in transcript["utterances"]:
        assert list(utterance) == ["text", "start", "end", "words", "ear", "language"]
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
    result = run(*TRANSCRIBE, SAMPLE, "--format", form)
    assert result.status == 0
    cues = pysubs2.SSAFile.from_string(result.out, form)
    assert [words(cue.plaintext) for cue in cues] == SAID


def test_transcribe_in_another_style(run: Run) -> None:
    result = run(*TRANSCRIBE, SAMPLE, "--format", "srt", "--line-length", "12", "--lines", "1", "--min-cue", "0")
    lines = [cue.plaintext for cue in pysubs2.SSAFile.from_string(result.out, "srt")]
    assert max(map(len, lines)) <= 12
    assert words(" ".join(lines)) == " ".join(SAID)


def test_channels_apart(run: Run, call: Path) -> None:
    result = run(*TRANSCRIBE, call, "--channel", "all", "--label", "Alice")
    assert (result.status, result.err) == (0, "")
    lines = [line.split(": ") for line in result.out.splitlines()]
    # The second speaker says the same four seconds later.
    assert [speaker for speaker, _ in lines] == ["Alice", "Alice", "Channel 2", "Channel 2", "Alice", "Channel 2"]
    assert [words(text) for speaker, text in lines if speaker == "Alice"] == SAID
    assert [words(text) for speaker, text in lines if speaker != "Alice"][:2] == SAID[:2]
    several = run(*TRANSCRIBE, call, call, "--channel", "all").out.splitlines()
    assert {line.rpartition(": ")[0] for line in several} == {f"{call}: Channel 1", f"{call}: Channel 2"}
    too_many = run(*TRANSCRIBE, call, "--channel", "all", *["--label", "A", "--label", "B", "--label", "C"])
    assert too_many.status == 1
    assert too_many.err == f"error: {call}: 3 names (A, B, C) for 2 channels\n"


@pytest.mark.process
def test_progress_on_a_terminal() -> None:
    """The bars are drawn on stderr only, and gone at the end."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "parastream.client.cli", *TRANSCRIBE, str(SAMPLE), str(SAMPLE)]
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


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the usual size, without colours."""
    for name, value in {"COLUMNS": "80", "LINES": "24", "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("name", "shown"), [("interview " * 9 + "part 2.flac", r"rt 2\.flac"), ("录音" * 30 + "2", "录音录音2")]
)
def test_long_names_leave_room_for_the_bar(
    tmp_path: Path, name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(SAMPLE, tmp_path / name)
    with ProgressBars([tmp_path / name, SAMPLE]) as bars:
        bars.advance(0, 6.0, 12.0)
        bars.advance(1, 3600.0, 36_000.0)
    drawn = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().err)
    assert re.search(rf"…{shown} +━{{8,}}╸? +6 of 12 s ", drawn)
    assert " 3600 of 36000 s " in drawn


@pytest.mark.usefixtures("terminal")
def test_progress_has_a_sensible_total_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBars([SAMPLE, tmp_path / "absent"]) as bars:
        bars.advance(0, 6.0, None)
    assert re.search(r"2 recordings .* 6 s ", drawn := capsys.readouterr().err)
    assert re.search(r"sample.flac .* 6 s ", drawn)
    with ProgressBars([SAMPLE, SAMPLE]) as bars:
        bars.advance(0, 18.0, 36.0)  # it is longer than its header says
    assert re.search(r"2 recordings .* 18 of 24 s ", drawn := capsys.readouterr().err)
    assert re.search(r"sample.flac .* 18 of 36 s ", drawn)


def test_streaming_pass_alone(run: Run) -> None:
    transcribed = run("transcribe", SAMPLE, "--streaming", "--no-punctuation", "--format", "jsonl")
    assert transcribed.status == 0
    first = json.loads(transcribed.out)["utterances"][0]["words"]
    final = json.loads(run(*TRANSCRIBE, SAMPLE, "--no-punctuation", "--format", "jsonl").out)
    assert [word["text"] for word in first] == ["enter", "one", "seventy", "six"]
    # The same words, but transcribed with less context: the confidences tell that it was another pass.
    assert first != final["utterances"][0]["words"]


def test_failed_recording_leaves_the_others_alone(run: Run, tmp_path: Path) -> None:
    broken, absent, damaged = tmp_path / "broken.wav", tmp_path / "absent.wav", tmp_path / "damaged.flac"
    broken.write_bytes(b"no sound")
    damaged.write_bytes(SAMPLE.read_bytes()[:60_000])
    result = run(*TRANSCRIBE, broken, SAMPLE, absent, damaged, SAMPLE)
    assert result.status == 1
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(SAMPLE), str(damaged), str(SAMPLE)]
    assert words(lines[1].removeprefix(f"{damaged}: ")).startswith(SAID[0])  # up to the damage
    assert words(lines[0].removeprefix(f"{SAMPLE}: ")) == " ".join(SAID)
    errors = result.err.splitlines()
    assert errors[0].startswith(f"error: {broken}: not a recording")
    assert errors[1] == f"error: {absent}: No such file or directory"
    assert errors[2].startswith(f"error: {damaged}: damaged audio")
    assert len(errors) == 3


def test_not_a_number_in_a_recording_costs_no_word(run: Run, tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="float32")[0]
    samples[30_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    result = run(*TRANSCRIBE, tmp_path / "nan.wav", "--format", "jsonl")
    assert result.status == 1
    assert re.fullmatch(rf"error: {tmp_path}/nan.wav: .*30000.*\n", result.err)
    transcript = json.loads(result.out)
    assert words(transcript["text"]) == " ".join(SAID)
    assert f"error: {transcript['error']}\n" == result.err


def test_files_of_any_kind_into_a_directory(run: Run, tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="float32")[0]
    silent = np.zeros_like(samples)
    soundfile.write(tmp_path / "stereo.ogg", np.stack([silent, samples], axis=1), 16_000)
    telephone = soxr.resample(samples, 16_000, 8_000)
    soundfile.write(tmp_path / "telephone.wav", telephone, 8_000, subtype="ULAW")
    soundfile.write(tmp_path / "empty.wav", samples[:0], 16_000)
    result = run(*TRANSCRIBE, *sorted(tmp_path.iterdir()), "--format", "vtt", "--output", tmp_path / "out" / "vtt")
    assert (result.status, result.out, result.err) == (0, "", "")
    written = {path.name: path.read_text() for path in (tmp_path / "out" / "vtt").iterdir()}
    assert set(written) == {"stereo.vtt", "telephone.vtt", "empty.vtt"}
    assert "one seventy six" in words(written["stereo.vtt"])
    assert "seventy six" in words(written["telephone.vtt"])
    assert written["empty.vtt"].strip() == "WEBVTT"
    assert run(*TRANSCRIBE, tmp_path / "stereo.ogg", "--channel", "0").out == "\n"
    picked = run(*TRANSCRIBE, tmp_path / "stereo.ogg", "--channel", "2")
    assert picked.status == 1
    assert "there is no channel 2, only 0 to 1" in picked.err


def test_unknown_model_is_one_line(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--model", "no-such-model", "--offline")
    assert result.status == 1
    assert re.fullmatch(r"error: .*no-such-model.*\n", result.err)


@pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="refused on CPUs only")
def test_half_precision_on_a_cpu_is_refused(run: Run) -> None:
    refused = run("transcribe", SAMPLE, "--dtype", "float16")
    assert refused.status == 1
    assert "float16 is for GPUs" in refused.err


@pytest.mark.process
def test_interrupt_ends_a_long_recording(tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="int16")[0]
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 100), 16_000)
    command = [sys.executable, "-m", "parastream.client.cli", *TRANSCRIBE, str(SAMPLE), str(tmp_path / "long.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # of the sample; the long one has begun
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stdout.read() == ""


def test_inverted_stereo_is_heard(run: Run, tmp_path: Path) -> None:
    samples = soundfile.read(SAMPLE, dtype="int16")[0]
    soundfile.write(tmp_path / "inverted.flac", np.stack([samples, -samples], axis=1), 16_000)
    result = run(*TRANSCRIBE, tmp_path / "inverted.flac")
    assert (result.status, words(result.out)) == (0, " ".join(SAID))


def test_a_name_that_is_not_utf_8_is_a_name(run: Run, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.flac"))
    shutil.copy(SAMPLE, odd)
    result = run(*TRANSCRIBE, odd, SAMPLE)
    assert result.status == 0
    assert [words(line.rpartition(": ")[2]) for line in result.out.splitlines()] == [" ".join(SAID)] * 2
    assert result.out.startswith(f"{tmp_path}/\\xff.flac: ")
    written = run(*TRANSCRIBE, odd, SAMPLE, "--format", "jsonl", "--output", tmp_path)
    assert (written.status, written.err) == (0, "")
    assert json.loads(odd.with_suffix(".jsonl").read_text("utf-8"))["file"] == str(odd)
    assert json.loads(run(*TRANSCRIBE, odd, "--format", "jsonl").out)["file"] == str(odd)


def test_an_output_that_cannot_be_written_leaves_the_others_alone(run: Run, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "taken.flac")
    shutil.copy(SAMPLE, tmp_path / "free.flac")
    (tmp_path / "out" / "taken.txt").mkdir(parents=True)
    result = run(*TRANSCRIBE, tmp_path / "taken.flac", tmp_path / "free.flac", "--output", tmp_path / "out")
    assert result.status == 1
    assert re.fullmatch(rf"error: {tmp_path}/taken.flac: .*Is a directory.*\n", result.err)
    assert words((tmp_path / "out" / "free.txt").read_text("utf-8")) == " ".join(SAID)


@pytest.mark.process
@pytest.mark.parametrize("options", [(), ("--format", "jsonl")])
def test_a_terminal_that_is_not_utf_8(tmp_path: Path, options: tuple[str, ...]) -> None:
    shutil.copy(SAMPLE, tmp_path / "录音.flac")
    command = [sys.executable, "-m", "parastream.client.cli", *TRANSCRIBE, "录音.flac", str(SAMPLE), *options]
    result = subprocess.run(
        command, capture_output=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    lines = result.stdout.decode("ascii").splitlines()
    if options:
        assert (result.returncode, [json.loads(line)["file"] for line in lines]) == (0, ["录音.flac", str(SAMPLE)])
    else:  # the names are shown as they can be
        assert [words(line.rpartition(": ")[2]) for line in lines] == [" ".join(SAID)] * 2
        assert lines[0].startswith("\\u5f55\\u97f3.flac: ")
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert b"ascii" in result.stderr


@pytest.mark.process
def test_the_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "parastream.client.cli", *TRANSCRIBE, "-", "--output", str(tmp_path)]
    with SAMPLE.open("rb") as sample, subprocess.Popen(["cat"], stdin=sample, stdout=subprocess.PIPE) as pipe:
        assert subprocess.run(command, stdin=pipe.stdout, check=False).returncode == 0
    assert words((tmp_path / "stdin.txt").read_text("utf-8")) == " ".join(SAID)


@pytest.mark.process
def test_interrupt_keeps_what_is_finished(served: Served, tmp_path: Path) -> None:
    """Though a pipe before it does not end."""
    os.mkfifo(tmp_path / "endless")
    transcript = tmp_path / "sample.txt"
    command = [sys.executable, "-m", "parastream.client.cli", "transcribe", str(tmp_path / "endless"), str(SAMPLE)]
    with (
        subprocess.Popen([*command, "--server", served.url, "--output", str(tmp_path)]) as process,
        (tmp_path / "endless").open("wb") as pipe,
    ):
        pipe.write(b"RIFF")
        pipe.flush()
        wait_until(lambda: transcript.exists() and transcript.read_text("utf-8"))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert words(transcript.read_text("utf-8")) == " ".join(SAID)
    assert not (tmp_path / "endless.txt").exists()


class Stuck:
    """A backend that finishes the second recording and never the first."""

    at_once = 2

    def prepare(self) -> None: ...

    def close(self) -> None: ...

    async def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        yield Outcome(1, [AttributedUtterance("Finished.", 0.0, 1.0, ())])
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()


def test_interrupt_prints_what_waits_for_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "first.wav", tmp_path / "second.wav"]
    assert transcribe.run(files, Stuck(), transcribe.Form(TranscriptFormat.TEXT, SubtitleStyle()), None) == 130
    assert capsys.readouterr().out == f"{files[1]}: Finished.\n"


# --- through a server ---


@pytest.mark.process
def test_server_hears_what_a_local_run_hears(run: Run, served: Served, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "copy.flac")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    here = run(*TRANSCRIBE, SAMPLE, "--format", "jsonl")
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


@pytest.mark.process
def test_choices_reach_the_server(run: Run, served: Served) -> None:
    options = ("--no-punctuation", "--streaming", "--format", "jsonl")
    there = run("transcribe", SAMPLE, "--server", served.url, *options)
    assert there.status == 0
    assert json.loads(there.out) == json.loads(run("transcribe", SAMPLE, *options).out)
    refused = run("transcribe", SAMPLE, "--server", served.url, "--model", "paraformer-zh-streaming")
    assert refused.status == 1
    assert re.fullmatch(rf"error: {SAMPLE}: .*paraformer-zh-streaming.*asr-small-en.*\n", refused.err)


def test_no_server_there(run: Run) -> None:
    result = run("transcribe", SAMPLE, "--server", "ws://127.0.0.1:9")
    assert result.status == 1
    assert result.err.startswith(f"error: {SAMPLE}: ")
    assert result.err.count("\n") == 1


@pytest.mark.process
def test_a_full_server_is_waited_for(run: Run, tmp_path: Path) -> None:
    files = [shutil.copy(SAMPLE, tmp_path / f"{number}.flac") for number in range(6)]
    server = Served("--max-sessions", "1")
    try:
        result = run("transcribe", *files, "--server", server.url, "--jobs", 5)
    finally:
        server.stop()
    assert result.status == 0
    assert [words(line.rpartition(": ")[2]) for line in result.out.splitlines()] == [" ".join(SAID)] * 6
    assert "waiting for the server" in result.err
    assert "error" not in result.err


def remote(url: str, at_once: int = 1) -> RemoteBackend:
    channels = ChannelChoice(None)
    return RemoteBackend(
        url, token=None, model="", punctuate=True, final_pass=True, channels=channels, pace=0, at_once=at_once
    )


class Notes(ProgressBars):
    """Keeps what users are told."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(files)
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


@asynchronous
async def test_finals_that_had_come_are_kept_when_the_server_ends_the_session_for_good() -> None:
    async def end(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.send(encode(Ready("x", PROTOCOL, "model", "s16le", 16000, 1, 0, 0, 20.0, 20.0)), text=True)
        await websocket.recv()
        await websocket.send(encode(Final(0, 0.5, 1.5, "Heard.", (), 0.9, seq=1)), text=True)
        await websocket.send(encode(Error("invalid_audio", "it is no sound", seq=2)), text=True)

    async with serve(end, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as server:
        backend = remote(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        (outcome,) = [outcome async for outcome in backend.outcomes([SAMPLE], ProgressBars([SAMPLE]))]
    assert [utterance.text for utterance in outcome.utterances or ()] == ["Heard."]
    assert str(outcome.error) == "it is no sound [invalid_audio]"


@pytest.mark.parametrize(("encoding", "engine"), [("PCM_16", FakeEngine), ("FLOAT", TimedEngine)])
@asynchronous
async def test_a_recording_goes_on_at_a_server_that_knows_nothing_of_it(
    tmp_path: Path, encoding: str, engine: type[FakeEngine]
) -> None:
    """As after a crash, or when this machine slept for longer than a session is kept."""
    file = tmp_path / "long.wav"
    soundfile.write(file, np.random.default_rng(1).integers(-9000, 9000, 400_000, np.int16), 16_000, encoding)
    notes = Notes([file])
    async with serving(engine()) as first, serving(engine()) as second:
        (whole,) = [outcome async for outcome in remote(second.url).outcomes([file], notes)]

        def allowance() -> float:
            proxy.target = second.port
            return inf if proxy.connections > 1 else 300_000

        proxy = CuttingProxy(first.port, allowance)
        async with proxy.running() as url:
            (cut,) = [outcome async for outcome in remote(url).outcomes([file], notes)]
    assert cut.error is None
    assert cut.utterances
    assert [each.text for each in cut.utterances] == [each.text for each in whole.utterances or ()]
    assert [each.start for each in cut.utterances] == pytest.approx([each.start for each in whole.utterances or ()])
    assert len(notes.told) == 1
    assert "going on in a new session" in notes.told[0]


class NeverDone(FakeEngine):
    """Hears everything but says of no session that it is over."""

    def open(self, *arguments: Any) -> FakeStream:
        stream = super().open(*arguments)
        stream.hold_end = True
        return stream


@pytest.mark.parametrize("comes_back", [True, False])
@asynchronous
async def test_recordings_that_wait_for_a_place_wait_for_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    monkeypatch.setattr(backends, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(backends, "_LONGEST_DELAY", 0.02)
    monkeypatch.setattr(backends, "_PATIENCE", 1e6 if comes_back else 0.1)
    recordings = [np.random.default_rng(seed).bytes(3 * UTTERANCE) for seed in range(3)]
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    for file, audio in zip(files, recordings, strict=True):
        soundfile.write(file, np.frombuffer(audio, np.int16), 16_000)
    full = NeverDone()
    async with serving(full, max_sessions=1, resume_window=0.1) as first, serving(FakeEngine()) as second:
        proxy = CuttingProxy(first.port, lambda: inf)
        notes = Notes(files)

        async def all_outcomes(url: str) -> dict[int, Outcome]:
            return {outcome.index: outcome async for outcome in remote(url, at_once=3).outcomes(files, notes)}

        async with proxy.running() as url:
            running = asyncio.create_task(all_outcomes(url))
            await until(lambda: notes.told and full.streams and full.streams[0].utterances == 3)
            proxy.target = 9
            proxy.cut()
            asked = proxy.connections
            await until(lambda: proxy.connections > asked + 5 if comes_back else running.done())
            proxy.target = second.port
            outcomes = await running
    if comes_back:
        heard = {index: [each.text for each in outcome.utterances or ()] for index, outcome in outcomes.items()}
        assert heard == dict(enumerate(map(expected_texts, recordings)))
        assert {outcome.error for outcome in outcomes.values()} == {None}
    else:
        assert {type(outcome.error) for outcome in outcomes.values()} == {ConnectionFailedError}


@pytest.mark.process
@pytest.mark.slow
def test_a_recording_goes_on_when_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    server = Served()
    command = [sys.executable, "-m", "parastream.client.cli", "transcribe", str(SAMPLE), "--server", server.url]
    with subprocess.Popen([*command, "--pace", "1", "--save", str(tmp_path)], stdout=subprocess.PIPE, text=True) as run:
        wait_until(lambda: [line for file in tmp_path.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()])
        server.process.kill()
        server.process.communicate()
        server = Served("--port", str(urlsplit(server.url).port))
        out, _ = run.communicate()
    server.stop()
    assert run.returncode == 0
    assert words(out) == " ".join(SAID)
    (journal,) = tmp_path.glob("*.txt")
    assert words(journal.read_text("utf-8")) == " ".join(SAID)
