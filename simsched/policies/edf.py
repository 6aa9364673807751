"""Earliest deadline first."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView


def due(request: RequestView, otherwise: float) -> float:
    """When it is due: `deadline` seconds after its arrival, else `slo_ttft` seconds, else these (s)."""
    given = request.deadline if request.deadline is not None else request.slo_ttft
    return request.arrival_time + (otherwise if given is None else given)


@register("edf")
@dataclass(eq=False)
class EarliestDeadline(Policy):
    """By the time at which a request is due: its arrival plus its `deadline`, or its `slo_ttft` where it has
    no deadline, or its class's of `deadlines` where it has neither, or else `deadline` of this policy. On one
    server that may preempt it meets all deadlines if any order does (Dertouzos, 1974). Requests with the same
    allowance come in order of arrival."""

    preemptive: bool = False
    deadline: float = Field(default=10.0, ge=0, lt=inf)
    """Seconds, for requests that bring none."""
    deadlines: dict[str, Annotated[float, Field(ge=0, lt=inf)]] = Field(default_factory=dict)
    """Seconds by the request's class, such as {chat: 5, batch: 60}, in place of `deadline`."""

    asks_for = ("deadline", "slo_ttft")

    def named_classes(self) -> Collection[str]:
        return self.deadlines

    def priority(self, request: RequestView, now: float) -> float:
        return due(request, self.deadlines.get(request.request_class or "", self.deadline))

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
