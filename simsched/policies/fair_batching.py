"""FairBatching (arXiv 2510.14392): a step may take as long as the decodes have slack."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.engine_view import EngineView
from simsched.policies.slack import Slack, tokens_within
from simsched.request import RequestView


@register("fair-batching")
@dataclass(eq=False)
class FairBatching(Policy):
    """Each token has a deadline, `arrival + slo_ttft + j * slo_tpot` for the j-th after the first. A step
    with prefills may take as long as the least slack of the decodes, but at least the least `slo_tpot` of
    theirs: so much is prefilled as the cost model has room for, first whose first token is due first.

    The paper also leaves out decodes that are not urgent where the time is short. Here all decodes are in
    every step, as vLLM has them, so that the order stands still and is leapt over. Its time model (a line
    in new tokens and context, fitted as it serves) is the run's own cost model.
    """

    preemptive: bool = False
    ttft: float = Field(default=1.0, ge=0, lt=inf)
    """Seconds, for requests that bring no `slo_ttft`."""
    tpot: float = Field(default=0.1, gt=0, lt=inf)
    """Likewise for `slo_tpot`."""

    asks_for = ("slo_ttft", "slo_tpot")

    def __post_init__(self) -> None:
        self._slack = Slack(self.ttft, self.tpot)

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._slack.waits(request)

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._slack.waits(request)

    def on_finish(self, request: RequestView, now: float) -> None:
        self._slack.ends(request)

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time + (self.ttft if request.slo_ttft is None else request.slo_ttft)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def token_budget(self, engine: EngineView) -> int:
        decodes = self._slack.look(engine)
        if not decodes:
            return engine.max_num_batched_tokens
        return tokens_within(engine, self._slack, decodes, self._slack.least_pace())
