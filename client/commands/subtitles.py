"""`parastream subtitles`: a saved session, written in another form or style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parastream.server.journal import read_journal
from parastream.server.subtitles import SubtitleStyle, TranscriptFormat, render


def run(journal: Path, form: TranscriptFormat, style: SubtitleStyle, labels: Sequence[str]) -> None:
    """Print the transcript.

    Raises:
        JournalError: the file is not a journal.
        OSError: it cannot be read.
    """
    print(render(read_journal(journal, labels).utterances, form, file=str(journal), style=style), end="")
