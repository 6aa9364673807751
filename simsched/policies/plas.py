"""Program-level attained service of Autellix (Luo et al., NSDI 2026, arXiv 2502.13965)."""

from __future__ import annotations

from bisect import bisect_left
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.request import RequestView


@register("plas")
@dataclass(eq=False)
class Plas(Policy):
    """The session that has been served least goes first, in levels, as the multi-level queue has requests.

    A call starts in the level of the service that earlier calls of its session have attained: level i begins
    at `quantum` (2^i - 1) seconds. It goes down a level each time that it has had the level's time, `quantum`
    2^i seconds, by itself. In a level, the earliest call goes first. A call goes to the top once its session
    has waited `starvation_ratio` times as long as it has been served, both with the call itself (the paper's
    W / T >= beta); of both what is the call's own counts anew from there, what its session's earlier calls
    have had stays. So the paper's algorithm 1 and section 4.2.2 are read by two implementations of it
    (Crystalclear9/Autellix; a scheduler for vLLM that cites them). The paper gives no numbers for levels,
    quanta and beta: the defaults are ours. A request without a session is one of its own.
    """

    preemptive: bool = True
    levels: int = Field(default=8, ge=1, le=64)
    quantum: float = Field(default=0.5, gt=0, lt=inf)
    """Seconds of the top level; each further one is twice as long."""
    starvation_ratio: float = Field(default=10.0, gt=0)
    """inf: nobody is taken to the top."""

    orders_by = ("session_id",)
    reads_sessions = True

    def __post_init__(self) -> None:
        self._ends = [self.quantum * (2.0 ** (level + 1) - 1) for level in range(self.levels - 1)]
        # of each call: the level where it counts from, and its own service and waiting then
        self._counts_from: dict[str, tuple[int, float, float]] = {}

    def service_before(self, request: RequestView) -> float:
        """Seconds that a call starts with."""
        return request.session_service

    def _level(self, request: RequestView) -> tuple[int, float]:
        """Its level, and for how many more seconds of service it stays there."""
        level, served, _ = self._counts_from[request.request_id]
        service = request.attained_service - served
        begin = self._ends[level - 1] if level else 0.0
        while level < len(self._ends) and service > self._ends[level] - begin:
            level += 1
        return level, self._ends[level] - begin - service if level < len(self._ends) else inf

    def _waits_for(self, request: RequestView, now: float) -> float:
        """Seconds until its session has waited for too long: the paper's beta T - W."""
        _, served, waited = self._counts_from[request.request_id]
        service = request.session_service + request.attained_service - served
        wait = request.session_wait + self._waited(request, now) - waited
        return self.starvation_ratio * service - wait

    def _waited(self, request: RequestView, now: float) -> float:
        """Seconds that the call itself has waited."""
        return now - request.arrival_time - request.attained_service

    def _is_waiting(self, request: RequestView) -> bool:
        """Does it wait, now or since it arrived?"""
        return request.steps_idle > 0 or not request.steps_run

    def on_arrival(self, request: RequestView, now: float) -> None:
        service = self.service_before(request)
        self._counts_from[request.request_id] = bisect_left(self._ends, service), 0.0, 0.0

    def priority(self, request: RequestView, now: float) -> int:
        return self._level(request)[0]

    def next_change(self, request: RequestView, now: float) -> Change:
        level, left = self._level(request)
        up = None
        if level and self.starvation_ratio < inf and self._is_waiting(request):
            up = max(0.0, self._waits_for(request, now))
        return Change(after_service=None if left == inf else max(0.0, left), after_time=up)

    def on_change(self, request: RequestView, now: float) -> None:
        if self._is_waiting(request) and self._level(request)[0] and self._waits_for(request, now) <= 0.0:
            self._counts_from[request.request_id] = 0, request.attained_service, self._waited(request, now)

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._counts_from[request.request_id]
