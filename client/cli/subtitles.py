"""`parastream subtitles`: print a saved session in another form or style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parastream.server.transcripts.cues import SubtitleStyle
from parastream.server.transcripts.formats import TranscriptFormat, render
from parastream.server.transcripts.journal import read_journal


def run(journal: Path, form: TranscriptFormat, style: SubtitleStyle, labels: Sequence[str]) -> None:
    """Print the transcript.

    Args:
        journal: The `.jsonl` file of the session.
        form: Form of the transcript.
        style: Look of subtitles.
        labels: Names that replace the saved ones, one for each channel.

    Raises:
        JournalError: The file is not a journal.
        OSError: The file cannot be read.
    """
    print(render(read_journal(journal, labels).utterances, form, file=str(journal), style=style), end="")
