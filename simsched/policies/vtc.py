"""The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024)."""

from __future__ import annotations

from collections import deque
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_steps_idle=1)


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
        self._started: dict[str | None, dict[str, RequestView]] = {}
        self._finished_last: str | None = None
        self._known: dict[str | None, float] = {}  # counters as of this time
        self._as_of = -inf

    def counter(self, tenant: str | None, now: float) -> float:
        """What a tenant has been served up to now, in weighted tokens."""
        if now != self._as_of:
            self._known.clear()
            self._as_of = now
        if tenant not in self._known:
            self._settle(tenant)
            charges = (self._charge(request) for request in self._started.get(tenant, {}).values())
            self._known[tenant] = self._base.get(tenant, 0.0) + sum(charges)
        return self._known[tenant]

    def _charge(self, request: RequestView) -> float:
        return self.input_weight * request.num_prompt_tokens + self.output_weight * request.num_output_tokens

    def _settle(self, tenant: str | None) -> None:
        """Tell those of a tenant that have started from those that wait."""
        waiting = self._waiting.get(tenant, ())
        while waiting and waiting[0].steps_run:
            request = waiting.popleft()
            self._started.setdefault(tenant, {})[request.request_id] = request

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._as_of = -inf
        tenant = request.tenant
        for each in self._waiting:
            self._settle(each)
        waiting = self._waiting.setdefault(tenant, deque())
        if not waiting:
            lift = max(0.0, self._floor(now) - self.counter(tenant, now))
            self._base[tenant] = self._base.get(tenant, 0.0) + lift
            self._as_of = -inf
        waiting.append(request)

    def _floor(self, now: float) -> float:
        """The least counter of a tenant that comes back."""
        others = [self.counter(each, now) for each, there in self._waiting.items() if there]
        return min(others) if others else self.counter(self._admitted_last(), now)

    def _admitted_last(self) -> str | None:
        """The tenant of the request that has run for the fewest steps; if none runs, of the one done last."""
        started = [request for each in self._started.values() for request in each.values()]
        if not started:
            return self._finished_last
        return min(started, key=lambda request: (request.steps_run, -request.arrival_time)).tenant

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return 1, self.counter(request.tenant, now)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _MOVES

    def on_finish(self, request: RequestView, now: float) -> None:
        self._as_of = -inf
        tenant = self._finished_last = request.tenant
        self._settle(tenant)
        if self._started.get(tenant, {}).pop(request.request_id, None) is None:
            self._waiting[tenant].remove(request)  # done in its first step
        self._base[tenant] = self._base.get(tenant, 0.0) + self._charge(request)
