"""The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from operator import attrgetter

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_MOVES = Change(after_steps_run=1, after_steps_idle=1)
output_tokens_of: Callable[[RequestView], int] = attrgetter("num_output_tokens")


class Tenant:
    """What has become of a tenant's requests."""

    __slots__ = ("cached_tokens", "charge", "look", "name", "prompt_tokens", "served", "started", "waiting")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.served = 0.0  # by its finished requests, and lifts
        self.waiting: deque[RequestView] = deque()  # by arrival, in which they start
        self.started: dict[str, RequestView] = {}  # by id, those that have run and are not done
        self.prompt_tokens = 0  # of those
        self.cached_tokens = 0  # found in the cache by those, for policies that count them
        self.charge = 0.0  # what those have been served, as of this look at all tenants:
        self.look = 0


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
        self._tenants: dict[str | None, Tenant] = {}
        self._waiting: dict[Tenant, None] = {}  # those of which something waits, as far as has been looked
        self._latest: dict[str, Tenant] = {}  # by id, who has started and is not done: the last one last
        self._just_started: list[tuple[RequestView, Tenant]] = []  # and is to come behind those
        self._finished_at = -inf
        self._finished_last: RequestView | None = None  # then
        self._finished_tenant: Tenant | None = None
        self._look = 0  # at all tenants; it holds while neither time nor anybody moves
        self._as_of = -inf

    def _tenant(self, name: str | None) -> Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name)
        return tenant

    def counter(self, name: str | None, now: float) -> float:
        """What a tenant has been served up to now, in weighted tokens."""
        return self._counter(self._tenant(name), now)

    def _counter(self, tenant: Tenant, now: float) -> float:
        if now != self._as_of:
            self._as_of = now
            self._look += 1
        if tenant.look != self._look:
            tenant.look = self._look
            if tenant.waiting:
                self._settle(tenant)
            tenant.charge = self._charge(tenant)
        return tenant.served + tenant.charge

    def _charge(self, tenant: Tenant) -> float:
        """What its unfinished requests have been served."""
        generated = sum(map(output_tokens_of, tenant.started.values()))
        return self.input_weight * tenant.prompt_tokens + self.output_weight * generated

    def _charge_of(self, request: RequestView) -> float:
        return self.input_weight * request.num_prompt_tokens + self.output_weight * request.num_output_tokens

    def _settle(self, tenant: Tenant) -> None:
        """Tell those of a tenant that have started from those that wait."""
        waiting = tenant.waiting
        while waiting and waiting[0].steps_run:
            self._starts(tenant, waiting.popleft())
        if not waiting:
            self._waiting.pop(tenant, None)

    def _starts(self, tenant: Tenant, request: RequestView) -> None:
        tenant.started[request.request_id] = request
        tenant.prompt_tokens += request.num_prompt_tokens
        self._just_started.append((request, tenant))

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._as_of = now
        self._look += 1
        tenant = self._tenant(request.tenant)
        for each in [*self._waiting]:
            self._settle(each)
        self._joins(tenant, request, now)

    def _joins(self, tenant: Tenant, request: RequestView, now: float) -> None:
        """It waits."""
        if not tenant.waiting:
            self._lift(tenant, now)
            self._waiting[tenant] = None
        tenant.waiting.append(request)

    def _lift(self, tenant: Tenant, now: float) -> None:
        """It comes back, and brings no credit."""
        floor = self._floor(tenant, now)
        if floor is not None:
            lift = floor - self._counter(tenant, now)
            if lift > 0.0:
                tenant.served += lift

    def _floor(self, tenant: Tenant, now: float) -> float | None:
        """The least counter of a tenant that comes back; None: its own."""
        if self._waiting:
            return min([self._counter(each, now) for each in self._waiting])
        latest = self._admitted_last()
        return None if latest is None or latest is tenant else self._counter(latest, now)

    def _admitted_last(self) -> Tenant | None:
        """The tenant of the request that was admitted last, of those that are not done: of those that have
        started since this was asked, the one that has run for the fewest steps. If there is none, the tenant
        of the one done last."""
        latest, new = self._latest, self._just_started
        if new:
            if len(new) > 1:
                new.sort(key=lambda started: _admission(started[0]))
            for request, tenant in new:
                if request.request_id in tenant.started:
                    latest[request.request_id] = tenant
            new.clear()
        for name in reversed(latest):
            return latest[name]
        return self._finished_tenant

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return 1, self.counter(request.tenant, now)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _MOVES

    def on_finish(self, request: RequestView, now: float) -> None:
        tenant = self._tenants[request.tenant]
        # of those done at one time, the one that was admitted last
        last = self._finished_last
        if last is None or now > self._finished_at or _admission(request) > _admission(last):
            self._finished_at, self._finished_last, self._finished_tenant = now, request, tenant
        if tenant.waiting:
            self._settle(tenant)
        self._latest.pop(request.request_id, None)
        self._leaves(tenant, request)

    def _leaves(self, tenant: Tenant, request: RequestView) -> None:
        """It is done."""
        self._as_of = -inf
        if tenant.started.pop(request.request_id, None) is not None:
            tenant.prompt_tokens -= request.num_prompt_tokens
        else:  # done in its first step
            tenant.waiting.remove(request)
            if not tenant.waiting:
                del self._waiting[tenant]
        tenant.served += self._charge_of(request)


def _admission(request: RequestView) -> tuple[int, float, str]:
    """Of requests that are looked at in one step, the greatest was admitted last."""
    return -request.steps_run, request.arrival_time, request.request_id
