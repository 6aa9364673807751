"""The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024)."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_steps_idle=1)
_MANY = 1024


@register("vtc")
@dataclass(eq=False)
class Vtc(Policy):
    """The tenant that has been served least goes first; among its requests, the earliest.

    A tenant's counter grows by `input_weight` for each prompt token of a request that is admitted, and by
    `output_weight` for each token that it generates (algorithm 2 of the paper, and its weights). A tenant of
    which nothing waits is lifted when it comes back, so that no credit is saved up: to the least counter of
    those of which something waits, or if there are none, to that of the tenant that was admitted last. All
    that one step admits is in the order of the counters as that step begins; in the paper each admission
    counts at once. Requests without a tenant share one.

    Only the queue is ordered; who has run goes first, in order of arrival, also back in the queue.
    """

    preemptive: bool = False
    input_weight: float = Field(default=1.0, ge=0, lt=inf)
    output_weight: float = Field(default=2.0, ge=0, lt=inf)

    orders_by = ("tenant",)
    shares_state = True

    def __post_init__(self) -> None:
        self._base: dict[str | None, float] = {}  # tenant -> service of its finished requests, and lifts
        self._waiting: dict[str | None, deque[RequestView]] = {}  # by arrival, in which each tenant's start
        self._started: dict[str | None, Started] = {}
        self._order = count()  # in which requests are seen to have started
        # heap of who has started: steps run when it was looked at last, minus arrival, and who comes first
        self._latest: list[tuple[int, float, int, int, RequestView]] = []
        self._most_latest = _MANY  # entries, beyond which those that are done are taken out
        self._finished_last: tuple[float, int, float, str] = (-inf, 0, 0.0, "")
        self._finished_tenant: str | None = None
        self._known: dict[str | None, float] = {}  # counters as of this time
        self._as_of = -inf

    def counter(self, tenant: str | None, now: float) -> float:
        """What a tenant has been served up to now, in weighted tokens."""
        if now != self._as_of:
            self._known.clear()
            self._as_of = now
        if tenant not in self._known:
            self._settle(tenant)
            served = self._base.get(tenant, 0.0)
            started = self._started.get(tenant)
            if started is not None and started.requests:
                served += self._charge(started)
            self._known[tenant] = served
        return self._known[tenant]

    def _charge(self, started: Started) -> float:
        """What a tenant's unfinished requests have been served."""
        generated = sum([each.num_output_tokens for each in started.requests.values()])
        return self.input_weight * started.prompt_tokens + self.output_weight * generated

    def _charge_of(self, request: RequestView) -> float:
        return self.input_weight * request.num_prompt_tokens + self.output_weight * request.num_output_tokens

    def _settle(self, tenant: str | None) -> None:
        """Tell those of a tenant that have started from those that wait."""
        waiting = self._waiting.get(tenant)
        if waiting is None:
            return
        while waiting and waiting[0].steps_run:
            self._starts(waiting.popleft())
        if not waiting:
            del self._waiting[tenant]

    def _starts(self, request: RequestView) -> None:
        started = self._started.get(request.tenant)
        if started is None:
            started = self._started[request.tenant] = Started(len(self._started))
        started.requests[request.request_id] = request
        started.prompt_tokens += request.num_prompt_tokens
        place = request.steps_run, -request.arrival_time, started.number, next(self._order), request
        heappush(self._latest, place)
        if len(self._latest) > self._most_latest:
            self._latest = [each for each in self._latest if self._is_started(each[-1])]
            heapify(self._latest)
            self._most_latest = 2 * len(self._latest) + _MANY

    def _is_started(self, request: RequestView) -> bool:
        """Has it run, and is not done?"""
        return self._started[request.tenant].requests.get(request.request_id) is request

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._as_of = -inf
        tenant = request.tenant
        for each in [*self._waiting]:
            self._settle(each)
        waiting = self._waiting.get(tenant)
        if waiting is None:
            self._lift(tenant, now)
            waiting = self._waiting[tenant] = deque()
        waiting.append(request)

    def _lift(self, tenant: str | None, now: float) -> None:
        """It comes back, and brings no credit."""
        floor = self._floor(tenant, now)
        if floor is not None:
            lift = floor - self.counter(tenant, now)
            if lift > 0.0:
                self._base[tenant] = self._base.get(tenant, 0.0) + lift
                self._as_of = -inf

    def _floor(self, tenant: str | None, now: float) -> float | None:
        """The least counter of a tenant that comes back; None: its own."""
        if self._waiting:
            return min([self.counter(each, now) for each in self._waiting])
        latest = self._admitted_last()
        return None if latest == tenant else self.counter(latest, now)

    def _admitted_last(self) -> str | None:
        """The tenant of the request that has run for the fewest steps; if none runs, of the one done last."""
        latest = self._latest
        while latest:
            steps_run, arrival, tenant, order, request = latest[0]
            if not self._is_started(request):
                heappop(latest)
            elif request.steps_run != steps_run:  # it has run on: others may have run for fewer
                heapreplace(latest, (request.steps_run, arrival, tenant, order, request))
            else:
                return request.tenant
        return self._finished_tenant

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return 1, self.counter(request.tenant, now)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _MOVES

    def on_finish(self, request: RequestView, now: float) -> None:
        self._as_of = -inf
        tenant = request.tenant
        # of those done at one time, the one that was admitted last
        place = now, -request.steps_run, request.arrival_time, request.request_id
        if place > self._finished_last:
            self._finished_last, self._finished_tenant = place, tenant
        self._settle(tenant)
        started = self._started.get(tenant)
        if started is not None and started.requests.pop(request.request_id, None) is not None:
            started.prompt_tokens -= request.num_prompt_tokens
        else:  # done in its first step
            self._waiting[tenant].remove(request)
            if not self._waiting[tenant]:
                del self._waiting[tenant]
        self._base[tenant] = self._base.get(tenant, 0.0) + self._charge_of(request)


class Started:
    """Unfinished requests of a tenant that have run."""

    __slots__ = ("number", "prompt_tokens", "requests")

    def __init__(self, number: int) -> None:
        """`number`: of the tenant, in the order in which they began."""
        self.number = number
        self.requests: dict[str, RequestView] = {}
        self.prompt_tokens = 0
