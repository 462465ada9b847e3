"""Full duplex with a server: audio goes out while events come in."""

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
    on_event: Callable[[ClientEvent], None],
) -> None:
    """Send all blocks and the end of the audio, and hand over every event until the session has ended.

    When the blocks raise an error, the server still recognises what was sent before; the error is raised after that.

    Args:
        client: an open client.
        blocks: samples, or bytes in the session's format.
        on_event: called with each event.

    Raises:
        ClientError: the session failed.
    """
    sending = asyncio.create_task(_send(client, blocks))
    try:
        async for event in client:
            on_event(event)
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
    """Begin a journal for the client's open session.

    Args:
        directory: where the journal's files are created.
        client: an open client.
        labels: names of the speakers by channel.
        report: called with what goes wrong later.

    Raises:
        OSError: the files cannot be created.
    """
    name = journal_name(datetime.now(UTC), client.ready.session)
    return Journal(directory, name, labels=labels, report=report)
