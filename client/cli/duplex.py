"""One session with a server: audio goes in while messages come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from parastream.client.client import AsyncClient
from parastream.client.session import ClientEvent
from parastream.server.transcripts.journal import Journal, journal_name


async def run_duplex(
    client: AsyncClient,
    blocks: AsyncIterable[NDArray[Any]],
    receive: Callable[[ClientEvent], None],
    journal: Journal | None = None,
) -> None:
    """Send all blocks and then the end of the audio, and hand over every message until the server is done; a journal
    gets it first.

    When the blocks fail, what was sent before is still recognised; then their error is raised.
    """
    sending = asyncio.create_task(_send(client, blocks))
    try:
        async for message in client:
            if journal is not None:
                journal.add(message)
            receive(message)
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(client: AsyncClient, blocks: AsyncIterable[NDArray[Any]]) -> None:
    try:
        async for block in blocks:
            await client.send(block)
    except Exception:
        await client.stop()
        raise
    await client.stop()


def new_journal(
    directory: Path, client: AsyncClient, labels: Sequence[str], *, report: Callable[[str], None]
) -> Journal:
    """A journal for the client's open session. Raises `OSError`."""
    name = journal_name(datetime.now(UTC), client.ready.session)
    return Journal(directory, name, labels=labels, report=report)
