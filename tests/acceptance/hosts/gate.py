"""A gate into a network: `python -m tests.acceptance.hosts.gate FD HOST PORT`.

It runs inside, but FD is a socket that was made outside and is listened on there; whoever connects to it is led to
HOST and PORT.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import closing
from functools import partial

PIECE_BYTES = 2**16


async def lead(host: str, port: int, from_outside: asyncio.StreamReader, to_outside: asyncio.StreamWriter) -> None:
    """Passes on what both sides say, until one of them is done."""
    with closing(to_outside):
        try:
            from_inside, to_inside = await asyncio.open_connection(host, port)
        except OSError:
            return
        with closing(to_inside):
            ways = [
                asyncio.create_task(_pass_on(*way)) for way in ((from_outside, to_inside), (from_inside, to_outside))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        return


async def main(fd: int, host: str, port: int) -> None:
    """Serves for ever."""
    gate = await asyncio.start_server(partial(lead, host, port), sock=socket.socket(fileno=fd))
    await gate.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
