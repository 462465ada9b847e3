"""Write transcripts as text, JSON lines, SubRip (SRT) and WebVTT."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum

from parastream.model.text import join
from parastream.server.transcripts.cues import Cue, SubtitleStyle, cues
from parastream.server.transcripts.labels import speaker_prefix
from parastream.server.transcripts.utterance import SpokenUtterance, ear_of, language_of, speaker_of


class TranscriptFormat(StrEnum):
    """The forms in which transcripts are written; the value is also the name on the command line."""

    TEXT = "text"
    JSONL = "jsonl"
    SRT = "srt"
    VTT = "vtt"

    @property
    def suffix(self) -> str:
        """What the name of such a file ends in, with the dot."""
        return ".txt" if self is TranscriptFormat.TEXT else f".{self.value}"


def render(
    utterances: Iterable[SpokenUtterance],
    form: TranscriptFormat,
    *,
    file: str = "",
    error: str = "",
    style: SubtitleStyle = SubtitleStyle(),
) -> str:
    """Return a whole transcript, by the time at which utterances begin.

    Args:
        utterances: In any order.
        form: Form of the transcript.
        file: Name of the recording, for JSON lines.
        error: Why this is not the whole transcript, for JSON lines; empty if it is.
        style: Look of subtitles.
    """
    utterances = sorted(utterances, key=lambda utterance: utterance.start)
    match form:
        case TranscriptFormat.TEXT:
            return text_file(utterances)
        case TranscriptFormat.JSONL:
            return json_line(utterances, file, error)
        case TranscriptFormat.SRT:
            return srt_file(cues(utterances, style))
        case TranscriptFormat.VTT:
            return vtt_file(cues(utterances, style))


VTT_HEADER = "WEBVTT\n\n"


def text_file(utterances: Iterable[SpokenUtterance]) -> str:
    """Return a line for each utterance in which something was said."""
    return "".join(map(text_line, utterances))


def running_text(utterances: Iterable[SpokenUtterance]) -> str:
    """Return all utterances, by start time, on one line without the names of speakers."""
    ordered = sorted(utterances, key=lambda utterance: utterance.start)
    return join(utterance.text for utterance in ordered) + "\n"


def json_line(utterances: Sequence[SpokenUtterance], file: str, error: str = "") -> str:
    """Return a transcript as one line of JSON; `file` names the recording, and `error` says why it is incomplete."""
    told = {"error": error} if error else {}
    return json.dumps(_as_object(utterances, file) | told, ensure_ascii=False) + "\n"


def srt_file(timed: Iterable[Cue]) -> str:
    """Return a whole SRT file of timed cues."""
    return "".join(srt_entry(number, cue) for number, cue in enumerate(timed, 1))


def vtt_file(timed: Iterable[Cue]) -> str:
    """Return a whole WebVTT file of timed cues."""
    return VTT_HEADER + "".join(map(vtt_entry, timed))


def text_line(utterance: SpokenUtterance) -> str:
    """Return an utterance as a line of text; nothing if nothing was said."""
    text = utterance.text.strip()
    return f"{speaker_prefix(speaker_of(utterance))}{text}\n" if text else ""


def srt_entry(number: int, cue: Cue) -> str:
    """Return a cue as in SRT, with the empty line after it. `number` counts from 1."""
    text = "\n".join((speaker_prefix(cue.speaker) + cue.lines[0], *cue.lines[1:]))
    return f"{number}\n{_times(cue, ',')}\n{text}\n\n"


def vtt_entry(cue: Cue) -> str:
    """Return a cue as in WebVTT, with the empty line after it."""
    voice = f"<v {_escape(cue.speaker)}>" if cue.speaker else ""
    return f"{_times(cue, '.')}\n{voice}{_escape(chr(10).join(cue.lines))}\n\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _times(cue: Cue, mark: str) -> str:
    return f"{_clock(cue.start, mark)} --> {_clock(cue.end, mark)}"


def _clock(time: float, mark: str) -> str:
    """Write a time in seconds, which is a whole number of milliseconds."""
    seconds, milliseconds = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{milliseconds:03d}"


def _as_object(utterances: Sequence[SpokenUtterance], file: str) -> dict[str, object]:
    return {
        "file": file,
        "text": join(utterance.text for utterance in utterances),
        "utterances": [
            ({"speaker": speaker_of(utterance)} if speaker_of(utterance) else {})
            | {
                "text": utterance.text,
                "start": utterance.start,
                "end": utterance.end,
                "words": [
                    {"text": word.text, "start": word.start, "end": word.end, "confidence": word.confidence}
                    for word in utterance.words
                ],
            }
            | ({"ear": ear_of(utterance)} if ear_of(utterance) else {})
            | ({"language": language_of(utterance)} if language_of(utterance) else {})
            for utterance in utterances
        ],
    }
