"""A relay between workers and PostgreSQL that cuts connections, also between a commit and its answer."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from typing import Self

from sqlalchemy.engine import make_url

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Forwards until ``cutting`` is set; from then on connections are cut at random points."""

    def __init__(self, url: str, seed: int) -> None:
        """``url``: of the database, on a socket file or a port."""
        self._url = make_url(url)
        self._chance = random.Random(seed)
        self.cutting = False
        self.cuts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def num_cuts(self) -> int:
        return self.cuts.total()

    @property
    def url(self) -> str:
        """What workers connect to."""
        there = self._url.set(host="127.0.0.1", port=self._port, query={})
        return there.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _database(self) -> Streams:
        host = self._url.query.get("host")
        if host is not None:
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        return await asyncio.open_connection(self._url.host, self._url.port or 5432)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reader_there, writer_there = await self._database()
        except OSError:
            writer.close()
            return
        lost = asyncio.Event()
        """What the database answers from now on is lost."""

        async def asked() -> None:
            while data := await reader.read(65536):
                if fate := self._fate(data):
                    self.cuts[fate] += 1
                    if fate != "after a commit":
                        return
                    lost.set()
                writer_there.write(data)
                await writer_there.drain()

        async def answered() -> None:
            while data := await reader_there.read(65536):
                if lost.is_set():
                    return
                writer.write(data)
                await writer.drain()

        both = [asyncio.ensure_future(asked()), asyncio.ensure_future(answered())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for stream in (writer, writer_there):
                with suppress(OSError):
                    stream.transport.abort()

    def _fate(self, data: bytes) -> str:
        """How the connection is cut at what a worker has sent; empty where it is not."""
        drawn = self._chance.random() if self.cutting else 1.0
        if b"COMMIT" in data:
            return "after a commit" if drawn < 0.04 else "before a commit" if drawn < 0.06 else ""
        return "elsewhere" if drawn < 0.004 else ""
