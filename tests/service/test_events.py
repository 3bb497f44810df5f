"""The reader of changes, on a connection that breaks without a word."""

from __future__ import annotations

import asyncio
from contextlib import closing

from service.events import Changes


def test_a_server_that_falls_silent_is_asked_again() -> None:
    asyncio.run(_connect_twice())


async def _connect_twice() -> None:
    connections = asyncio.Semaphore(0)

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.release()
        with closing(writer):
            while await reader.read(1024):
                pass

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reading = asyncio.create_task(Changes(f"redis://127.0.0.1:{port}", "changes", block_s=0.1).read())
        for _ in range(2):
            await asyncio.wait_for(connections.acquire(), 20)
        reading.cancel()
        await asyncio.wait([reading])
