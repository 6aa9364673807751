"""Deficit longest prefix match of "Locality-aware Fair Scheduling in LLM Serving" (arXiv 2501.14312)."""

from __future__ import annotations

from collections import deque
from math import floor, inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.vtc import Tenant, Vtc, output_tokens_of
from simsched.request import RequestView


@register("dlpm")
@dataclass(eq=False)
class DeficitLongestPrefixMatch(Vtc):
    """The longest prefix match first, among the requests of tenants that have not used up their share.

    Each tenant has a deficit counter. It falls by `input_weight` for each prompt token of an admitted request
    that the cache did not hold, and by `output_weight` for each token generated (weights as in the paper, 1
    and 2). While the counter of no tenant that waits is above zero, `quantum` is added to all. Tenants at
    zero or below come behind all others, in the same order. A tenant of which nothing waits keeps no more
    than one quantum when it comes back, a choice of ours; the quantum, too. `inf` is longest prefix first.

    Quanta are added for good when a request arrives, and counted in for those who wait whenever the order is
    asked for. So an order does not hang on how often it was asked for; where the queue runs empty, what would
    have been added between the last arrival and then is not.

    As in `vtc`, all that one step admits is in the order of its beginning, and who has run goes first.
    """

    quantum: float = Field(default=4000.0, gt=0)
    """Weighted tokens."""

    reads_cache = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._quanta = 1.0  # added to each so far
        self._due = 1.0  # those and what is to be added, as of this look at the counters:
        self._due_look = -1
        # who has been preempted: what these find changes while they are in the queue, and is not counted in
        # their tenants' `cached_tokens`
        self._preempted: dict[str, RequestView] = {}

    def deficit(self, name: str | None, now: float) -> float:
        """What a tenant may still use, in weighted tokens."""
        if self.quantum == inf:
            return inf
        used = self.counter(name, now)
        if self._due_look != self._look:
            self._due_look, self._due = self._look, self._quanta_by(now)
        return self._due * self.quantum - used

    def _quanta_by(self, now: float) -> float:
        """As many as leave something to some tenant that waits."""
        for each in [*self._waiting]:
            self._settle(each)
        return self._top_up(now) if self._waiting else self._quanta

    def _top_up(self, now: float) -> float:
        used = inf
        for each in self._waiting:
            counter = self._counter(each, now)
            if counter < used:
                used = counter
        quanta = floor(used / self.quantum) + 1.0
        return quanta if quanta > self._quanta else self._quanta

    def _charge(self, tenant: Tenant) -> float:
        computed = tenant.prompt_tokens - tenant.cached_tokens
        if self._preempted:
            computed -= sum(
                [each.num_cached_tokens for each in self._preempted.values() if _is_of(each, tenant)]
            )
        generated = sum(map(output_tokens_of, tenant.started.values()))
        return self.input_weight * computed + self.output_weight * generated

    def _charge_of(self, request: RequestView) -> float:
        computed = request.num_prompt_tokens - request.num_cached_tokens
        return self.input_weight * computed + self.output_weight * request.num_output_tokens

    def _settle(self, tenant: Tenant) -> None:
        waiting = tenant.waiting
        if len(waiting) == 1:
            if waiting[0].steps_run:
                self._starts(tenant, waiting.popleft())
        elif started := [request for request in waiting if request.steps_run]:
            tenant.waiting = deque([request for request in waiting if not request.steps_run])
            for request in started:
                self._starts(tenant, request)
        if not tenant.waiting:
            self._waiting.pop(tenant, None)

    def _starts(self, tenant: Tenant, request: RequestView) -> None:
        tenant.started[request.request_id] = request
        tenant.prompt_tokens += request.num_prompt_tokens
        if request.request_id not in self._preempted:
            tenant.cached_tokens += request.num_cached_tokens

    def _floor(self, tenant: Tenant, now: float) -> float | None:
        return None if self.quantum == inf else (self._quanta - 1.0) * self.quantum

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._as_of = now
        self._look += 1
        tenant = self._tenant(request.tenant)
        if self._waiting and self.quantum < inf:
            self._quanta = self._quanta_by(now)
        self._joins(tenant, request, now)
        if self.quantum < inf:
            self._quanta = self._top_up(now)

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return (1 if self.deficit(request.tenant, now) > 0 else 2), -request.num_cached_tokens

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._as_of = -inf
        if request.request_id not in self._preempted:
            self._preempted[request.request_id] = request
            tenant = self._tenants[request.tenant]
            if request.request_id in tenant.started:
                tenant.cached_tokens -= request.num_cached_tokens

    def on_finish(self, request: RequestView, now: float) -> None:
        tenant = self._tenants[request.tenant]
        if tenant.waiting:
            self._settle(tenant)
        if self._preempted.pop(request.request_id, None) is None and request.request_id in tenant.started:
            tenant.cached_tokens -= request.num_cached_tokens
        self._leaves(tenant, request)


def _is_of(request: RequestView, tenant: Tenant) -> bool:
    return request.tenant == tenant.name and request.request_id in tenant.started
