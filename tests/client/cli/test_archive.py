"""`parastream transcribe` with directories and lists."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import psutil
import pytest
from parastream.client.cli import archive
from parastream.client.cli.archive import recordings
from parastream.client.cli.backends import ChannelChoice, LocalBackend, Outcome, Watcher
from parastream.client.cli.composition import ModelChoice
from parastream.client.cli.transcribe import Form
from parastream.client.cli.workers import ProcessesBackend, Silent
from parastream.media.decoding import SourceError
from parastream.model.errors import ParastreamError
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat
from parastream.server.transcripts.utterance import AttributedUtterance

from tests.client.cli.command import TRANSCRIBE, Run
from tests.server.fakes import asynchronous

AN4 = Path(__file__).parents[2] / "data" / "an4"
SHORT = AN4 / "an402-mdms2-b.flac"
FORM = Form(TranscriptFormat.TEXT, SubtitleStyle())
LOCAL = LocalBackend(ModelChoice(model="asr-small-en"), final_pass=True, channels=ChannelChoice(None))


class Told:
    """A backend that says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Path] = []
        self.together: list[int] = []
        self.closed = False
        self.at_once = 0

    def prepare(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    async def outcomes(self, files: Sequence[Path], watcher: Watcher) -> AsyncGenerator[Outcome, None]:
        self.together.append(len(files))
        for index, file in enumerate(files):
            self.asked.append(file)
            if file.read_bytes() == b"bad":
                yield Outcome(index, None, SourceError("damaged"))
            elif file.read_bytes() == b"break":
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            else:
                yield Outcome(index, [AttributedUtterance(file.stem.title(), 0.0, 1.0, ())])


def tree(directory: Path, *names: str, data: bytes = b"") -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def found(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_what_is_there_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tree(tmp_path / "in", "a.wav", "b/a.MP3", "b/c.mkv", "b/notes.txt", ".hidden.wav"), tmp_path / "out"
    tree(out, "b/c.txt", data=b"Mine.")
    backend = Told()
    assert archive.run([source], backend, FORM, out, force=False) == 0
    assert backend.asked == [source / "a.wav", source / "b/a.MP3"]
    assert found(out) == ["a.txt", "b/a.txt", "b/c.txt"]
    assert (out / "b/a.txt").read_text() == "A\n"
    assert (out / "b/c.txt").read_text() == "Mine."
    assert capsys.readouterr().err == "2 transcribed, 1 had been there\n"
    assert backend.closed
    assert archive.run([source], untouched := Told(), FORM, out, force=False) == 0
    assert untouched.asked == []
    assert archive.run([source], Told(), FORM, out, force=True) == 0
    assert (out / "b/c.txt").read_text() == "C\n"


def test_failures_are_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MOST_NAMED", 2)
    source, out = tree(tmp_path / "in", *(f"{name}.wav" for name in "abc"), data=b"bad"), tmp_path / "out"
    tree(source, "d.wav")
    tree(source, "d.mp3")  # would become d.txt, too
    assert archive.run([source], Told(), FORM, out, force=False) == 1
    told = capsys.readouterr().err
    assert f"error: {source}/a.wav: damaged" in told
    assert f"error: {source}/d.wav: another recording becomes {out}/d.txt, too" in told
    assert told.endswith("1 transcribed, 4 failed, at least in part:\n" + told[told.index(f"  {source}") :])
    assert told.endswith("and 2 more\n")
    assert found(out) == ["d.txt"]


def test_an_interrupt_leaves_whole_transcripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tree(tmp_path / "in", "a.wav", "c.wav"), tmp_path / "out"
    tree(source, "b.wav", data=b"break")
    assert archive.run([source], Told(), FORM, out, force=False) == 130
    assert found(out) == ["a.txt"]
    assert "transcribed" in capsys.readouterr().err


def test_only_so_many_are_looked_at_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_TOGETHER", 3)
    monkeypatch.setattr(archive, "_EACH", 2)
    source = tree(tmp_path / "in", *(f"{number}.wav" for number in range(7)))
    backend = Told()
    assert archive.run([source], backend, FORM, tmp_path / "out", force=False) == 0
    assert backend.together == [3, 3, 1]
    backend = Told()
    backend.at_once = 2
    assert archive.run([source], backend, FORM, tmp_path / "out", force=True) == 0
    assert backend.together == [4, 3]


def test_the_places_of_transcripts(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "x/y.wav")
    (source / "loop").symlink_to(source)
    listing = tmp_path / "list"
    listing.write_bytes(b"a/b.wav\r\n\n../c.flac\n/d/e.m4a\nodd\xff.wav\n")
    out = Path("out")
    entries = recordings([source, Path(f"@{listing}"), Path("f/g.wav")], out, ".srt")
    assert [str(entry.target) for entry in entries] == [
        "out/x/y.srt",
        "out/a/b.srt",
        "out/c.srt",
        "out/d/e.srt",
        "out/odd\udcff.srt",
        "out/g.srt",
    ]


def test_a_directory_of_real_recordings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(SHORT, tmp_path / "in")
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF")
    listing = tmp_path / "list"
    listing.write_text("no/such.wav\n")
    result = run(*TRANSCRIBE, tmp_path / "in", f"@{listing}", "-o", tmp_path / "out", "-f", "jsonl")
    assert result.status == 1
    assert result.err.endswith(f"2 failed, at least in part:\n  {tmp_path}/in/broken.wav\n  no/such.wav\n")
    assert found(tmp_path / "out") == [f"{SHORT.stem}.jsonl"]


@pytest.mark.process
@pytest.mark.slow
@asynchronous
async def test_a_process_that_is_killed_is_replaced_and_its_recording_done_again(tmp_path: Path) -> None:
    backend = ProcessesBackend(LOCAL, 2)
    backend.prepare()
    try:
        files = [SHORT, SHORT, tmp_path / "missing.wav", SHORT]
        psutil.Process(backend._processes[0]._process.pid).kill()
        outcomes = [outcome async for outcome in backend.outcomes(files, Silent())]
    finally:
        backend.close()
    by_index = {outcome.index: outcome for outcome in outcomes}
    assert sorted(by_index) == [0, 1, 2, 3]
    texts = [[each.text for each in by_index[index].utterances or ()] for index in (0, 1, 3)]
    assert texts[0] == texts[1] == texts[2] != []
    assert "missing.wav" in str(by_index[2].error)
    assert not any(process._process.is_alive() for process in backend._processes)


@pytest.mark.process
def test_models_that_cannot_be_loaded_are_found_out_at_once(tmp_path: Path) -> None:
    choice = ModelChoice(model=str(tmp_path))
    backend = ProcessesBackend(LocalBackend(choice, final_pass=True, channels=ChannelChoice(None)), 1)
    try:
        with pytest.raises(ParastreamError, match=str(tmp_path)):
            backend.prepare()
    finally:
        backend.close()
