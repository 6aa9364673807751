"""Deficit longest prefix match of "Locality-aware Fair Scheduling in LLM Serving" (arXiv 2501.14312)."""

from __future__ import annotations

from collections import deque
from math import floor, inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.vtc import Started, Vtc
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

    As in `vtc`, all that one step admits is in the order of its beginning, and who has run goes first.
    """

    quantum: float = Field(default=4000.0, gt=0)
    """Weighted tokens."""

    reads_cache = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refills = 1.0

    def deficit(self, tenant: str | None, now: float) -> float:
        """What a tenant may still use, in weighted tokens."""
        if self.quantum == inf:
            return inf
        if now != self._as_of:
            self._refill(now)
        return self._refills * self.quantum - self.counter(tenant, now)

    def _refill(self, now: float) -> None:
        """Add quanta to all until some tenant that waits has something left."""
        if self.quantum == inf:
            return
        for each in [*self._waiting]:
            self._settle(each)
        if self._waiting:
            used = min([self.counter(each, now) for each in self._waiting])
            self._refills = max(self._refills, floor(used / self.quantum) + 1.0)

    def _charge(self, started: Started) -> float:
        computed, generated = started.prompt_tokens, 0
        for each in started.requests.values():
            computed -= each.num_cached_tokens
            generated += each.num_output_tokens
        return self.input_weight * computed + self.output_weight * generated

    def _charge_of(self, request: RequestView) -> float:
        computed = request.num_prompt_tokens - request.num_cached_tokens
        return self.input_weight * computed + self.output_weight * request.num_output_tokens

    def _settle(self, tenant: str | None) -> None:
        waiting = self._waiting.get(tenant, ())
        stay = [request for request in waiting if not request.steps_run]
        if len(stay) == len(waiting):
            return
        for request in waiting:
            if request.steps_run:
                self._starts(request)
        if stay:
            self._waiting[tenant] = deque(stay)
        else:
            del self._waiting[tenant]

    def _floor(self, tenant: str | None, now: float) -> float | None:
        return None if self.quantum == inf else (self._refills - 1.0) * self.quantum

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._refill(now)
        super().on_arrival(request, now)
        self._refill(now)

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return (1 if self.deficit(request.tenant, now) > 0 else 2), -request.num_cached_tokens
