"""vLLM's own balancer over data-parallel engines (`--data-parallel-size` with internal load balancing).

Source: vllm/v1/engine/core_client.py (`DPLBAsyncMPClient.get_core_engine_for_request`) and
vllm/v1/engine/coordinator.py of vLLM 0.24.0 to 0.33.0. Three rules by version:

    0.24         score = 4 * waiting + running; the scan begins at a fixed engine; dense engines report
                 nothing
    0.25, 0.26   the same; the scan's begin moves on by one with each choice
    0.27 on      score = max(clients * in_flight, waiting + running), and with requests waiting
                 + waiting * 6 * max(0, kv_usage - 0.5); dense engines report

Each of C API servers keeps a state of its own. It adds C to what it believes to wait on the engine that it
has chosen, until the next message. Requests come to the API servers in turn.
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from simsched.errors import InputError
from simsched.routers.base import Replicas, Reporting, RoutedRequest, Router, register
from simsched.vllm_versions import DEFAULT, parse_version, rules_of


class Client:
    """What one API server keeps."""

    __slots__ = ("in_flight", "scores", "start", "waiting")

    def __init__(self, start: int, num_engines: int) -> None:
        self.start = start
        self.in_flight = [0] * num_engines
        self.waiting = [0] * num_engines  # as reported, and what was sent since
        self.scores: list[float] = [0] * num_engines  # of all that is known


def _supported(version: object) -> str:
    if not isinstance(version, str):
        raise ValueError(f"expected three numbers, such as {DEFAULT}")  # 0.30 would be 0.3
    try:
        parse_version(version)
    except InputError as error:
        raise ValueError(str(error)) from None
    return version


@register("vllm-dp")
@dataclass(eq=False)
class VllmDp(Router):
    """`version`: which of the three rules."""

    version: Annotated[str, BeforeValidator(_supported)] = DEFAULT
    """vLLM's version."""
    api_servers: int = Field(default=1, ge=1, le=1024)
    """API server processes (vLLM starts as many as there are engines, unless told otherwise)."""
    interval: float = Field(default=0.1, ge=0, lt=inf)
    """Seconds at least between two messages of the coordinator."""

    def __post_init__(self) -> None:
        rules = rules_of(self.version)
        self._counts_in_flight, self._rotates = rules.balancer_counts_in_flight, rules.balancer_rotates

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        count = self.api_servers
        self._clients = [Client(num_replicas * client // count, num_replicas) for client in range(count)]
        self._next_client = 0
        self._client_of: dict[str, Client] = {}
        self._num_reports = 0
        self._view = Replicas.idle(num_replicas)

    def reporting(self) -> Reporting:
        return Reporting("on-change", self.interval, engines_report=self._counts_in_flight)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        # First, take in the latest message: it replaces what each API server has added itself.
        if replicas.num_reports != self._num_reports:
            self._num_reports = replicas.num_reports
            self._view = replicas
            for client in self._clients:
                client.waiting = list(replicas.waiting)
                client.scores = self._all_scores(client)
        client = self._clients[self._next_client]
        self._next_client = (self._next_client + 1) % self.api_servers
        # Next, scan the engines from `start` on: the first with the smallest score.
        start, scores = client.start, client.scores
        best = min(scores)
        try:
            chosen = scores.index(best, start)
        except ValueError:
            chosen = scores.index(best)
        client.waiting[chosen] += self.api_servers
        client.in_flight[chosen] += 1
        scores[chosen] = self._score(client, chosen)
        if self._rotates:
            client.start = (start + 1) % len(scores)
        if self.api_servers > 1:
            self._client_of[request.request_id] = client
        return chosen

    def _all_scores(self, client: Client) -> list[float]:
        """`_score` of each engine, in one go."""
        view = self._view
        if not self._counts_in_flight:
            return [4 * each + view.running[engine] for engine, each in enumerate(client.waiting)]
        return [
            self._score(client, engine)
            if waiting
            else max(self.api_servers * client.in_flight[engine], running)
            for engine, (waiting, running) in enumerate(zip(client.waiting, view.running, strict=True))
        ]

    def _score(self, client: Client, engine: int) -> float:
        """Computed again only where something has changed: there may be many engines."""
        waiting, running = client.waiting[engine], self._view.running[engine]
        if not self._counts_in_flight:
            return 4 * waiting + running
        score: float = self.api_servers * client.in_flight[engine]
        if waiting + running > score:
            score = waiting + running
        if waiting:
            usage = self._view.kv_usage[engine]
            if usage > 0.5:
                score += waiting * 6.0 * (usage - 0.5)
        return score

    def on_finish(self, request: RoutedRequest, replica: int, now: float) -> None:
        client = self._client_of.pop(request.request_id) if self.api_servers > 1 else self._clients[0]
        client.in_flight[replica] -= 1
        client.scores[replica] = self._score(client, replica)
