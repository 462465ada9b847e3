"""Transcripts as text, JSON lines, SubRip (SRT) and WebVTT."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum

from parastream.model.text import join
from parastream.server.transcripts.cues import Cue, SubtitleStyle, cues
from parastream.server.transcripts.text import speaker_prefix, text_line
from parastream.server.transcripts.utterance import SpokenUtterance, speaker_of


class TranscriptFormat(StrEnum):
    """The forms that a transcript can be written in; the value is also the name on the command line."""

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
    style: SubtitleStyle = SubtitleStyle(),
) -> str:
    """The whole transcript as one string, by the time at which utterances begin.

    It ends with a newline, unless it is empty SRT. As text it is one line, or, when speakers are named, one line for
    each utterance. `file` names the recording in the `jsonl` form.
    """
    utterances = sorted(utterances, key=lambda utterance: utterance.start)
    match form:
        case TranscriptFormat.TEXT:
            if any(map(speaker_of, utterances)):
                return "".join(map(text_line, utterances))
            return join(utterance.text for utterance in utterances) + "\n"
        case TranscriptFormat.JSONL:
            return json.dumps(_as_object(utterances, file), ensure_ascii=False) + "\n"
        case TranscriptFormat.SRT:
            return srt_file(cues(utterances, style))
        case TranscriptFormat.VTT:
            return vtt_file(cues(utterances, style))


VTT_HEADER = "WEBVTT\n\n"


def srt_file(timed: Iterable[Cue]) -> str:
    """A whole SRT file of cues with their times, as `cues` and `time_cues` give them."""
    return "".join(srt_entry(number, cue) for number, cue in enumerate(timed, 1))


def vtt_file(timed: Iterable[Cue]) -> str:
    """A whole WebVTT file of cues with their times, as `cues` and `time_cues` give them."""
    return VTT_HEADER + "".join(map(vtt_entry, timed))


def srt_entry(number: int, cue: Cue) -> str:
    """A cue as SRT has it, with the empty line after it. `number` counts from 1."""
    text = "\n".join((speaker_prefix(cue.speaker) + cue.lines[0], *cue.lines[1:]))
    return f"{number}\n{_times(cue, ',')}\n{text}\n\n"


def vtt_entry(cue: Cue) -> str:
    """A cue as WebVTT has it, with the empty line after it."""
    voice = f"<v {_escape(cue.speaker)}>" if cue.speaker else ""
    return f"{_times(cue, '.')}\n{voice}{_escape(chr(10).join(cue.lines))}\n\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _times(cue: Cue, mark: str) -> str:
    start = round(cue.start * 1000)
    end = max(round(cue.end * 1000), start + 1)  # a cue of no length would be invalid
    return f"{_clock(start, mark)} --> {_clock(end, mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


def _as_object(utterances: Sequence[SpokenUtterance], file: str) -> dict[str, object]:
    return {
        "file": file,
        "text": join(utterance.text for utterance in utterances),
        "utterances": [
            ({"speaker": speaker_of(utterance)} if speaker_of(utterance) else {})
            | {
                "text": utterance.text,
                "start": round(utterance.start, 3),
                "end": round(utterance.end, 3),
                "words": [
                    {
                        "text": word.text,
                        "start": round(word.start, 3),
                        "end": round(word.end, 3),
                        "confidence": round(word.confidence, 4),
                    }
                    for word in utterance.words
                ],
            }
            for utterance in utterances
        ],
    }
