"""The load generator's processes: each sends its share of the requests when due, and notes their tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple


class Send(NamedTuple):
    """A request, and when it is due (seconds from the start)."""

    request: int
    """Its index in the trace."""
    due: float
    payload: dict[str, Any]


class Answer(NamedTuple):
    """What came back. Times in seconds from the start."""

    request: int
    """Its index in the trace."""
    lateness: float
    """Sent so much after it was due: the load generator's own fault."""
    tokens: list[tuple[float, int]]
    """(when, how many came then)."""
    error: str | None


def run_client(url: str, sends: Sequence[Send], start: float) -> list[Answer]:
    """Send all of them, in a process of its own; `start` is on the machine's monotonic clock."""
    return asyncio.run(_run(url, sends, start))


async def _run(url: str, sends: Sequence[Send], start: float) -> list[Answer]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_read=600)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        return await asyncio.gather(*(_send(session, url, send, start) for send in sends))


async def _send(session: Any, url: str, send: Send, start: float) -> Answer:
    import aiohttp

    body = json.dumps(send.payload).encode()
    await asyncio.sleep(max(0.0, start + send.due - time.monotonic()))
    lateness = time.monotonic() - start - send.due
    tokens: list[tuple[float, int]] = []
    seen = 0
    try:
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{url}/v1/completions", data=body, headers=headers) as response:
            if response.status != 200:
                text = (await response.text()).strip().replace("\n", " ")
                return Answer(send.request, lateness, tokens, f"HTTP {response.status}: {text[:200]}")
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                usage = json.loads(line[6:]).get("usage") or {}
                count = int(usage.get("completion_tokens", seen)) - seen
                if count > 0:
                    tokens.append((time.monotonic() - start, count))
                    seen += count
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        return Answer(send.request, lateness, tokens, f"{type(error).__name__}: {error}")
    return Answer(send.request, lateness, tokens, None)
