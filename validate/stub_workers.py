"""Workers of a router under test, without a model: they answer a completion when they are told to.

Small HTTP servers of the standard library, in the process of the test, so that what is in flight at each is
known at any time.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

_MODELS = {"object": "list", "data": [{"id": "model", "object": "model", "owned_by": "stub"}]}
_ANSWER = {
    "id": "cmpl-0",
    "object": "text_completion",
    "created": 0,
    "model": "model",
    "choices": [{"index": 0, "text": "x", "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class StubWorkers:
    """So many workers on free ports of this machine. A request is known by its `seed`."""

    def __init__(self, count: int) -> None:
        self.urls: list[str] = []
        self.reported: list[int] | None = None
        """What each says of its load, in tokens; None: nothing, as vLLM does."""
        self._count = count
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._came: dict[int, asyncio.Future[int]] = {}
        self._answer: dict[int, asyncio.Event] = {}

    async def start(self) -> None:
        """Listen."""
        for number in range(self._count):
            server = await asyncio.start_server(partial(self._serve, number), "127.0.0.1", 0)
            self._servers.append(server)
            self.urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    def expect(self, request: int) -> asyncio.Future[int]:
        """Becomes the number of the worker that gets this request."""
        self._answer[request] = asyncio.Event()
        self._came[request] = asyncio.get_running_loop().create_future()
        return self._came[request]

    def answer(self, request: int) -> None:
        """Let whoever has it answer it."""
        self._answer.pop(request).set()

    async def stop(self) -> None:
        """Answer all that waits, and close."""
        for event in self._answer.values():
            event.set()
        for server in self._servers:
            server.close()
        for writer in list(self._connections):
            writer.close()
        await asyncio.sleep(0.05)  # their tasks end

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            stays = True
            while stays:
                method, path, body, stays = await _request(reader)
                status, content = 200, b"{}"
                if path.startswith("/v1/models"):
                    content = json.dumps(_MODELS).encode()
                elif method == "POST" and path.startswith("/v1/completions"):
                    content = await self._complete(number, json.loads(body))
                elif path.startswith("/get_load") and self.reported is not None:
                    content = json.dumps([{"num_tokens": self.reported[number]}]).encode()
                elif path.startswith(("/get_load", "/metrics", "/tokenize")):
                    status = 404
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # it has hung up, or speaks something else than HTTP/1.1
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _complete(self, number: int, body: dict[str, Any]) -> bytes:
        request = body["seed"]
        event = self._answer[request]
        if not self._came[request].done():
            self._came[request].set_result(number)
        await event.wait()
        return json.dumps(_ANSWER).encode()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, bytes, bool]:
    """Method, path and body of the next request of a connection, and whether others may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    stays = headers.get("connection", "").lower() != "close"
    if "chunked" not in headers.get("transfer-encoding", ""):
        return method, path, await reader.readexactly(int(headers.get("content-length", 0))), stays
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return method, path, body, stays


async def post(url: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> int:
    """Send a request and read the whole answer; its status."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**26)
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", "Connection: close"]
    lines += [f"Content-Length: {len(content)}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])
