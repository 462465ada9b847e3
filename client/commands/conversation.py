"""One session with a server: audio goes in while messages come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

from numpy.typing import NDArray
from parastream.client.client import AsyncClient, ClientEvent


async def converse(
    client: AsyncClient, blocks: AsyncIterable[NDArray[Any]], receive: Callable[[ClientEvent], None]
) -> None:
    """Send all blocks and then the end of the audio, and hand over every message until the server is done.

    When the blocks fail, what was sent before is still recognised; then their error is raised.
    """
    sending = asyncio.create_task(_send(client, blocks))
    try:
        async for message in client:
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
