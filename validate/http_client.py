"""The load generator's processes: each sends its share of the requests when due, and notes their tokens.

A process plays the requests of its rows from a `Source`: those with time stamps, and turns when what they
wait for has been answered. Where there are several servers, one process plays all, and a router of ours in
it chooses the server from what it sees: its own requests in flight, and what the servers' metrics say, as
often as it asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

import numpy as np

from simsched.engine.arrival import Arrival
from simsched.engine.source import Source, source_of
from simsched.routers.base import Replicas, Router
from simsched.vllm.view import HINT
from simsched.workload.trace import Trace
from validate.hints import Hints
from validate.prompts import TokenIds

_LEAST_POLL = 0.05
"""Seconds between two looks at the servers' metrics, at least."""
_COUNTS = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_usage": "vllm:kv_cache_usage_perc",
}


@dataclass(frozen=True)
class Share:
    """What a process plays, and where."""

    urls: tuple[str, ...]
    trace: Trace
    """All requests: a prompt may go on from one of another process."""
    rows: tuple[int, ...]
    """Those that are its own, rising."""
    vocabulary: int
    router: Router | None = None
    """Chooses one of several servers."""
    seed: int = 0


class Answer(NamedTuple):
    """What came back. Times in seconds from the start."""

    request: int
    """Its row in the trace."""
    due: float
    """When it arrived: by its time stamp, or after the answers that it waited for."""
    lateness: float
    """Sent so much after it was due: the load generator's own fault."""
    tokens: list[tuple[float, int]]
    """(when, how many came then)."""
    error: str | None
    replica: int = 0
    """The server that it was sent to."""
    cached: int | None = None
    """Prompt tokens that the server found in its prefix cache."""


@dataclass
class _Sent:
    """A request under way."""

    row: int
    due: float
    replica: int
    arrival: Arrival
    lateness: float = 0.0
    tokens: list[tuple[float, int]] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    cached: int | None = None

    def answer(self, error: str | None) -> Answer:
        return Answer(self.row, self.due, self.lateness, self.tokens, error, self.replica, self.cached)


def payload_of(prompt: list[int], max_tokens: int, hints: dict[str, Any]) -> dict[str, Any]:
    """A request to `/v1/completions` that is answered with so many tokens, as they come."""
    return {
        "model": "model",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
        "vllm_xargs": hints,
    }


def run_client(share: Share, start: float) -> list[Answer]:
    """Play a share, in a process of its own; `start` is on the machine's monotonic clock."""
    return asyncio.run(_Client(share, start).run())


class _Client:
    def __init__(self, share: Share, start: float) -> None:
        self._share, self._start = share, start
        self._tokens = TokenIds(share.trace, share.vocabulary)
        self._hints = Hints(share.trace)
        self._source: Source = source_of(share.trace.take(np.array(share.rows)))
        # a prompt that goes on from an answer is made when it is due
        self._bodies = {} if self._tokens.share else {row: self._body(row) for row in share.rows}
        self._router = share.router
        self._view = Replicas.idle(len(share.urls))
        if self._router is not None:
            self._router.start(len(share.urls), share.seed)
        self._changed = asyncio.Event()
        self._num_in_flight = 0
        self._answers: list[Answer] = []

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _body(self, row: int) -> bytes:
        trace = self._share.trace
        hints = {**self._hints.of(row), HINT + "request_id": trace.request_ids()[row]}
        prompt = self._tokens.prompt(row)
        return json.dumps(payload_of(prompt, int(trace.num_output_tokens[row]), hints)).encode()

    async def run(self) -> list[Answer]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_read=600)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            polls = asyncio.create_task(self._poll(session))
            sends = set()
            source = self._source
            while source.next_time < inf or self._num_in_flight:
                # until the next request is due, or an answer has brought an earlier one
                wait = source.next_time - self._now()
                if wait > 0:
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), None if wait == inf else wait)
                    continue
                sends.add(asyncio.create_task(self._send(session, self._pop())))
            await asyncio.gather(*sends)
            polls.cancel()
        return self._answers

    def _pop(self) -> _Sent:
        """The next request, and where it is sent."""
        due = self._source.next_time
        arrival = self._source.pop()
        replica = 0
        if self._router is not None:
            replica = self._router.choose(arrival, self._view, self._now())
        self._view.in_flight[replica] += 1
        self._num_in_flight += 1
        return _Sent(self._share.rows[arrival.row], due, replica, arrival)

    async def _send(self, session: Any, sent: _Sent) -> None:
        import aiohttp

        body = self._bodies.pop(sent.row, None) or self._body(sent.row)
        sent.lateness = self._now() - sent.due
        error = None
        try:
            error = await self._stream(session, sent, body)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        now = sent.tokens[-1][0] if sent.tokens else self._now()
        self._view.in_flight[sent.replica] -= 1
        self._num_in_flight -= 1
        if error is None:
            self._tokens.answered(sent.row, sent.said)
            if self._router is not None:
                self._router.on_finish(sent.arrival, sent.replica, now)
            self._source.finished(sent.arrival.row, now)
        self._answers.append(sent.answer(error))
        self._changed.set()

    async def _stream(self, session: Any, sent: _Sent, body: bytes) -> str | None:
        """Send it and take its tokens down as they come; what went wrong, or None."""
        url = self._share.urls[sent.replica]
        headers = {"Content-Type": "application/json"}
        seen = 0
        async with session.post(f"{url}/v1/completions", data=body, headers=headers) as response:
            if response.status != 200:
                text = (await response.text()).strip().replace("\n", " ")
                return f"HTTP {response.status}: {text[:200]}"
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or {}
                for choice in chunk.get("choices", ()):
                    sent.said += choice.get("token_ids") or ()
                found = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
                sent.cached = sent.cached if found is None else int(found)
                count = int(usage.get("completion_tokens", seen)) - seen
                if count > 0:
                    if not seen and self._router is not None:
                        self._router.on_first_token(sent.arrival, sent.replica, self._now())
                    sent.tokens.append((self._now(), count))
                    seen += count
        return None

    async def _poll(self, session: Any) -> None:
        """What the servers report, as often as the router asks."""
        reporting = None if self._router is None else self._router.reporting()
        if reporting is None or reporting.mode == "never":
            return
        while True:
            if reporting.engines_report:
                for number, url in enumerate(self._share.urls):
                    async with session.get(f"{url}/metrics") as response:
                        found = counts_in(await response.text())
                    for name, value in found.items():
                        getattr(self._view, name)[number] = value
            self._view.num_reports += 1
            await asyncio.sleep(max(_LEAST_POLL, reporting.interval))


def counts_in(metrics: str) -> dict[str, float]:
    """`running`, `waiting` and `kv_usage` in the text of a server's /metrics, as far as they are there."""
    found: dict[str, float] = {}
    for name, metric in _COUNTS.items():
        values: Sequence[str] = re.findall(rf"^{metric}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
        if values:
            total = sum(map(float, values))
            found[name] = total if name == "kv_usage" else int(total)
    return found
