"""The client's own priorities, as in vLLM's `--scheduling-policy priority`."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView


@register("priority")
@dataclass(eq=False)
class ClientPriority(Policy):
    """The smallest `priority` of the trace first. vLLM's own never displaces a running request while KV
    memory is free; `preemptive=true` does."""

    preemptive: bool = False

    builtin = "priority"
    orders_by = ("priority",)

    def priority(self, request: RequestView, now: float) -> float:
        return request.priority

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER
