"""Saved sessions: complete after every event, whatever happens to the process or the disk."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from parastream.server.transcripts import journal as module
from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render
from parastream.server.transcripts.journal import Journal, JournalError, journal_name, read_journal
from parastream.server.transcripts.utterance import AttributedUtterance
from parastream.server.wire.messages import Done, Final, Partial, ServerMessage, SpeechEnded, SpeechStarted, Word

SUFFIXES = [".jsonl", ".srt", ".txt", ".vtt"]
LABELS = ("Alice", "Bob")


def final(text: str, start: float, channel: int = 0, *, utterance: int = 0) -> Final:
    """Words of 0.3 s."""
    spoken = text.split()
    words = tuple(Word(word, start + 0.3 * i, start + 0.3 * (i + 1), 0.9) for i, word in enumerate(spoken))
    return Final(utterance, start, start + 0.3 * len(spoken), text, words, 0.9, channel)


SESSION: list[ServerMessage] = [
    SpeechStarted(0, 0.5),
    Partial(0, 0.5, 1.0, "", "hello", ()),
    SpeechEnded(0, 2.0),
    final("Hello there, this is the first sentence.", 0.5),
    SpeechStarted(1, 3.0),
    final("", 3.0, utterance=1),
    final("This is what comes after it.", 4.0, utterance=2),
    Done(8.0),
]


def expected(finals: Sequence[Final], labels: Sequence[str], form: TranscriptFormat) -> str:
    utterances = [
        AttributedUtterance(f.text, f.start, f.end, f.words, labels[f.channel] if labels else "")
        for f in finals
        if f.text
    ]
    return render(utterances, form)


def assert_complete(path: Path, finals: Sequence[Final], labels: Sequence[str] = ()) -> None:
    for form in (TranscriptFormat.TEXT, TranscriptFormat.SRT, TranscriptFormat.VTT):
        assert path.with_suffix(form.suffix).read_text("utf-8") == expected(finals, labels, form)


def finals_of(messages: Sequence[ServerMessage]) -> list[Final]:
    return [message for message in messages if isinstance(message, Final)]


def test_every_file_is_complete_after_every_event(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "directory", "meeting") as journal:
        for count, message in enumerate(SESSION, 1):
            journal.add(message)
            assert_complete(journal.path, finals_of(SESSION[:count]))
    assert sorted(path.suffix for path in journal.path.parent.iterdir()) == SUFFIXES
    events = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [event["type"] for event in events] == [
        "session", "speech_started", "speech_ended", "final", "speech_started", "final", "final", "done",
    ]  # fmt: skip
    assert [caption.text for caption in webvtt.read(str(journal.path.with_suffix(".vtt"))).captions] == [
        "Hello there, this is the first sentence.",
        "This is what comes after it.",
    ]


def test_reads_back(tmp_path: Path) -> None:
    with Journal(tmp_path, "meeting", labels=LABELS) as journal:
        for message in (final("And I second.", 2.0, 1), final("I came first.", 1.0, 0), final("", 3.0)):
            journal.add(message)
    saved = read_journal(journal.path)
    assert abs(saved.started - datetime.now(UTC)) < timedelta(minutes=1)
    assert saved.labels == LABELS
    assert [(each.speaker, each.text) for each in saved.utterances] == [
        ("Alice", "I came first."),
        ("Bob", "And I second."),
    ]
    assert saved.utterances[0].words == final("I came first.", 1.0).words
    assert [each.speaker for each in read_journal(journal.path, ["Carol"]).utterances] == ["Carol", "Bob"]
    assert_complete(journal.path, [final("I came first.", 1.0, 0), final("And I second.", 2.0, 1)], LABELS)


def test_cut_off_last_line_is_not_missed(tmp_path: Path) -> None:
    with Journal(tmp_path, "meeting") as journal:
        for message in SESSION[:-1]:
            journal.add(message)
    whole = journal.path.read_bytes()
    last = len(whole.splitlines()[-1])
    for cut in (1, 2, 10, last, last + 1):
        journal.path.write_bytes(whole[:-cut])
        # Without its line break the last line is still whole.
        assert len(read_journal(journal.path).utterances) == (2 if cut == 1 else 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jsonl: not the journal of a session"),
        (b'{"file":"a.wav","text":"","utterances":[]}\n', "not the journal of a session"),
        (b'{"type":"session","started":"2026-01-01T00:00:00Z"}\n{"type":\n{"type":"done","duration":1.0}\n', "line 2"),
        (b"\xff\xfe\n", "not the journal of a session"),
    ],
)
def test_files_that_are_no_journals(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(JournalError, match=message):
        read_journal(tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError):
        read_journal(tmp_path / "absent.jsonl")


def test_names() -> None:
    moment = datetime(2026, 3, 1, 10, 30, tzinfo=timezone(timedelta(hours=1)))
    assert journal_name(moment, "Xk3-Q9_tooLong") == "2026-03-01T09-30-00Z-Xk3-Q9"
    assert journal_name(moment, "../a b") == "2026-03-01T09-30-00Z-ab"


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "meeting.srt").write_text("mine")
    paths = []
    for _ in range(2):
        with Journal(tmp_path, "meeting") as journal:
            paths.append(journal.path.name)
    assert paths == ["meeting-2.jsonl", "meeting-3.jsonl"]
    assert (tmp_path / "meeting.srt").read_text() == "mine"
    assert not (tmp_path / "meeting.jsonl").exists()


def test_style(tmp_path: Path) -> None:
    style = SubtitleStyle(line_length=20, lines=1)
    with Journal(tmp_path, "meeting", style=style) as journal:
        journal.add(final("Hello there, this is the first sentence.", 0.5))
    captions = webvtt.read(str(journal.path.with_suffix(".vtt"))).captions
    assert [caption.text for caption in captions] == ["Hello there, this is", "the first sentence."]


@st.composite
def conversations(draw: st.DrawFn) -> list[Final]:
    """Two people who speak at any time and whose finals come in any order."""
    finals = []
    for channel in range(2):
        clock = 0.0
        for _ in range(draw(st.integers(0, 5))):
            clock += draw(st.sampled_from([0.2, 0.7, 3.0, 30.0]))
            text = draw(st.sampled_from(["Yes.", "I do not think so.", "", "Hello there & welcome, my <friends>."]))
            finals.append(said := final(text, clock, channel))
            clock = said.end
    return draw(st.permutations(finals))


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from([300.0, 10.0]))
def test_finals_in_any_order(finals: list[Final], horizon: float) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(module, "HORIZON", horizon)
        patch.setattr(os, "fsync", lambda file: None)  # thousands of them take their time
        with Journal(Path(directory), "meeting", labels=LABELS) as journal:
            for count, message in enumerate(finals, 1):
                journal.add(message)
                assert_complete(journal.path, finals[:count], LABELS)


def test_memory_does_not_grow_and_old_text_is_left_alone(tmp_path: Path) -> None:
    finals = [final(f"Sentence number {number}.", 10.0 * number) for number in range(100)]
    with Journal(tmp_path, "meeting") as journal:
        inode = journal.path.with_suffix(".srt").stat().st_ino
        for message in finals:
            journal.add(message)
        # What can still change: 300 s.
        assert len(journal._spoken) == len(journal._cues) == 31
        assert journal.path.with_suffix(".srt").stat().st_ino == inode  # only ever appended to
    assert_complete(journal.path, finals)


@contextmanager
def full_disk(allowed: int) -> Iterator[None]:
    """No file of this process may become longer than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    """Reported once; what was final meanwhile is not lost."""
    reports: list[str] = []
    messages = [final(f"Sentence number {number}.", 10.0 * number) for number in range(6)]
    with Journal(tmp_path, "meeting", report=reports.append) as journal:
        journal.add(messages[0])
        size = journal.path.stat().st_size
        with full_disk(size + 7):
            for message in messages[1:4]:
                journal.add(message)
        assert journal.path.stat().st_size == size + 7
        assert_complete(journal.path, messages[:1])
        assert len(reports) == 1
        assert re.fullmatch(rf"{journal.path}: the session cannot be saved for now: File too large", reports[0])
        journal.add(messages[4])
        assert_complete(journal.path, messages[:5])
        journal.add(messages[5])
    assert_complete(journal.path, messages)
    assert len(read_journal(journal.path).utterances) == 6
    assert len(reports) == 1


def test_disk_that_is_full_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for in memory either is lost, and nothing after it."""
    monkeypatch.setattr(module, "MOST_UNWRITTEN", 300)
    messages = [final(f"Sentence number {number}.", 10.0 * number) for number in range(5)]
    with Journal(tmp_path, "meeting", report=lambda text: None) as journal:
        with full_disk(journal.path.stat().st_size):
            for message in messages[:4]:
                journal.add(message)
        journal.add(messages[4])
    kept = [utterance.text for utterance in read_journal(journal.path).utterances]
    assert kept == ["Sentence number 0.", "Sentence number 4."]
    assert_complete(journal.path, [messages[0], messages[4]])


def test_text_that_cannot_be_written_is_made_up_for(tmp_path: Path) -> None:
    """The journal goes on, another file does not; a final that comes out of order has it replaced."""
    reports: list[str] = []
    finals = [final("This came second.", 5.0), final("This came first.", 1.0), final("This came last.", 9.0)]
    obstacle = tmp_path / "meeting.srt.new"
    obstacle.mkdir()
    with Journal(tmp_path, "meeting", report=reports.append) as journal:
        for message in finals:
            journal.add(message)
        assert len(read_journal(journal.path).utterances) == 3
        assert len(reports) == 1
        obstacle.rmdir()
    assert_complete(journal.path, finals)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == SUFFIXES


def test_journal_that_somebody_damages(tmp_path: Path) -> None:
    """Files that would have to be made from it stay as they were."""
    reports: list[str] = []
    with Journal(tmp_path, "meeting", report=reports.append) as journal:
        journal.add(final("This came second.", 500.0))
        with journal.path.open("ab") as file:
            file.write(b"nonsense\n")
        journal.add(final("This came first.", 1.0))
        journal.add(Done(600.0))
    (report,) = reports
    assert "the session cannot be saved for now" in report
    assert "line 3 is damaged" in report
    assert journal.path.with_suffix(".txt").read_text() == "This came second.\n"
    assert journal.path.read_bytes().count(b"This came") == 2


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file", "meeting")
    with full_disk(3), pytest.raises(OSError, match="File too large"):
        Journal(tmp_path, "meeting")


PROGRAM = """
import sys, itertools
import soundfile
import parastream.model
from pathlib import Path
from parastream.server.wire import messages
from parastream.server.transcripts.journal import Journal
from parastream.streaming import Transcriber
from parastream.streaming.events import Final

parastream.model.prepare_process()
samples = soundfile.read(sys.argv[1], dtype="float32")[0]
transcriber = Transcriber(parastream.model.load(dtype="float32"))
heard = [event for event in transcriber.events(samples) if isinstance(event, Final)]
journal = Journal(Path(sys.argv[2]), "meeting", labels=("Alice", "Bob"))
for turn in itertools.count():
    for event in heard:
        after = 12.0 * turn
        words = tuple(messages.Word(w.text, after + w.start, after + w.end, w.confidence) for w in event.words)
        journal.add(messages.Final(turn, after + event.start, after + event.end, event.text, words, 0.9, turn % 2))
        print(event.text, flush=True)
"""


@pytest.mark.process
def test_killed_process_leaves_everything_that_was_final(tmp_path: Path) -> None:
    sample = Path(__file__).parents[3] / "client" / "assets" / "sample.flac"
    command = [sys.executable, "-c", PROGRAM, str(sample), str(tmp_path)]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in itertools.islice(process.stdout, 25):
            said.append(line.strip())
        process.send_signal(signal.SIGKILL)
        said += [line.strip() for line in process.stdout]
        assert process.wait() == -signal.SIGKILL
    assert said[:3] == ["Enter one seventy six.", "Rubout GMEF three nine.", "Ten, twenty seven sixty two."]
    path = tmp_path / "meeting.jsonl"
    texts = [utterance.text for utterance in read_journal(path).utterances]
    # The one that was being written may be there or not.
    assert texts[: len(said)] == said
    assert len(texts) <= len(said) + 1
    lines = [f"{LABELS[index // 3 % 2]}: {text}" for index, text in enumerate(said)]
    assert path.with_suffix(".txt").read_text().splitlines()[: len(said)] == lines
    srt = path.with_suffix(".srt").read_text().split("\n\n")
    assert [entry.split("\n", 2)[2] for entry in srt[: len(said)]] == lines
    captions = webvtt.read(str(path.with_suffix(".vtt"))).captions[: len(said)]
    assert [f"{caption.voice}: {caption.text}" for caption in captions] == lines
