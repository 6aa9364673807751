"""Program-level attained service of Autellix (Luo et al., NSDI 2026, arXiv 2502.13965)."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.request import RequestView


@register("plas")
@dataclass(eq=False)
class Plas(Policy):
    """The session that has been served least goes first, in levels, as the multi-level queue has requests.

    A call starts in the level of the service that earlier calls of its session have attained, and goes down
    as it attains its own: level i ends at `quantum` (2^(i + 1) - 1) seconds. In a level, the earliest call
    goes first. A call goes to the top once its session has waited `starvation_ratio` times as long as it has
    been served, both with the call itself (the paper's W / T >= beta), and counts anew from there. The paper
    gives no numbers for levels, quanta and beta: the defaults are ours. A request without a session is one of
    its own.
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
        # of each call as it went to the top: its service for the level, its session's service and waiting
        self._counts_from: dict[str, tuple[float, float, float]] = {}

    def service_before(self, request: RequestView) -> float:
        """Seconds that a call starts with."""
        return request.session_service

    def _service(self, request: RequestView) -> float:
        return self.service_before(request) + request.attained_service

    def _level(self, request: RequestView) -> int:
        service = self._service(request) - self._counts_from[request.request_id][0]
        return sum(service > end for end in self._ends)

    def _served(self, request: RequestView) -> float:
        """The paper's T."""
        return request.session_service + request.attained_service

    def _waited(self, request: RequestView, now: float) -> float:
        """The paper's W."""
        return request.session_wait + (now - request.arrival_time - request.attained_service)

    def _waits_for(self, request: RequestView, now: float) -> float:
        """Seconds until it has waited for too long."""
        _, served, waited = self._counts_from[request.request_id]
        ratio = self.starvation_ratio
        return ratio * (self._served(request) - served) - (self._waited(request, now) - waited)

    def _is_waiting(self, request: RequestView) -> bool:
        """Does it wait, now or since it arrived?"""
        return request.steps_idle > 0 or not request.steps_run

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._counts_from[request.request_id] = 0.0, 0.0, 0.0

    def priority(self, request: RequestView, now: float) -> int:
        return self._level(request)

    def next_change(self, request: RequestView, now: float) -> Change:
        level = self._level(request)
        service = self._service(request) - self._counts_from[request.request_id][0]
        down = max(0.0, self._ends[level] - service) if level < len(self._ends) else None
        up = None
        if level and self.starvation_ratio < inf and self._is_waiting(request):
            up = max(0.0, self._waits_for(request, now))
        return Change(after_service=down, after_time=up)

    def on_change(self, request: RequestView, now: float) -> None:
        if self._is_waiting(request) and self._level(request) and self._waits_for(request, now) <= 0.0:
            waited = self._waited(request, now)
            self._counts_from[request.request_id] = self._service(request), self._served(request), waited

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._counts_from[request.request_id]
