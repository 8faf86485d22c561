"""Plays a Service of Kubernetes: forwards connections, new ones to whoever is an endpoint now."""

import asyncio
from contextlib import suppress
from typing import Self

_PIECE = 1 << 16


class Balancer:
    """Listens on a free port of 127.0.0.1. A connection stays with the endpoint it was given."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        host, port = self.endpoint.removeprefix("http://").split(":")
        there, back = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            for side in (back, writer):
                side.close()
                with suppress(OSError):
                    await side.wait_closed()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_PIECE):
            sink.write(data)
            await sink.drain()
    sink.close()
