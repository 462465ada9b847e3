"""`parastream subtitles`: a saved session, written in another form or style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render
from parastream.server.transcripts.journal import read_journal
from parastream.server.transcripts.text import text_line


def run(journal: Path, form: TranscriptFormat, style: SubtitleStyle, labels: Sequence[str]) -> None:
    """Print the transcript; as text, a line for each utterance.

    Raises:
        JournalError: the file is not a journal.
        OSError: it cannot be read.
    """
    utterances = read_journal(journal, labels).utterances
    if form is TranscriptFormat.TEXT:
        print("".join(map(text_line, utterances)), end="")
    else:
        print(render(utterances, form, file=str(journal), style=style), end="")
