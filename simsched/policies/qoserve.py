"""QoServe, formerly Niyama (Goel et al., arXiv 2503.22562, ASPLOS 2026): deadlines, work left and slack."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.engine_view import EngineView
from simsched.policies.memory import predicted_length
from simsched.policies.slack import Slack, tokens_within
from simsched.request import RequestView


@register("qoserve")
@dataclass(eq=False)
class QoServe(Policy):
    """An interactive request (without a `deadline`) goes by `arrival + slo_ttft + alpha * tokens to
    prefill`, a batch request by `arrival + deadline + alpha * (tokens to prefill and, as predicted, to
    decode)`. alpha = 0 is earliest deadline first, a large alpha shortest work first.

    A step with prefills takes as many tokens as the least slack of the decodes has room for, by the cost
    model (dynamic chunking). A waiting request whose first limit has passed may be relegated behind all
    others, as long as no more than `relegated` of those that have arrived are (eager relegation; the
    authors' hints of importance are not there). What is left to prefill is taken as of the queue: a chunk
    that is under way goes on, as vLLM has it.
    """

    preemptive: bool = False
    alpha: float = Field(default=0.008, ge=0, lt=inf)
    """Seconds a token."""
    relegated: float = Field(default=0.05, ge=0, le=1)
    """The largest share of all requests."""
    ttft: float = Field(default=6.0, ge=0, lt=inf)
    """Seconds, for requests that bring neither `slo_ttft` nor `deadline`."""
    tpot: float = Field(default=0.05, gt=0, lt=inf)
    """Seconds, for those that bring no `slo_tpot`."""

    min_chunk: int = Field(default=256, ge=1)
    """Tokens beside the decodes that a step may have however late these are, so that prefills don't starve
    where steps take longer than `slo_tpot`. Our choice."""

    reads = "predicted_length"

    asks_for = ("slo_ttft", "slo_tpot", "deadline")

    def __post_init__(self) -> None:
        self._num_arrived = 0
        self._late: set[str] = set()
        self._num_relegated = 0
        self._slack = Slack(self.ttft, self.tpot)

    def _due(self, request: RequestView) -> float:
        if request.deadline is not None:
            return request.arrival_time + request.deadline
        return request.arrival_time + (self.ttft if request.slo_ttft is None else request.slo_ttft)

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._num_arrived += 1
        self._slack.waits(request)

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._slack.waits(request)

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        work: float = request.num_prompt_tokens
        if request.deadline is not None and self.alpha:
            work += predicted_length(request)
        return int(request.request_id in self._late), self._due(request) + self.alpha * work

    def next_change(self, request: RequestView, now: float) -> Change:
        if request.steps_run or request.request_id in self._late:
            return NEVER
        due = self._due(request)
        return NEVER if now >= due else Change(after_time=due - now)

    def on_change(self, request: RequestView, now: float) -> None:
        may_be = self._num_relegated + 1 <= self.relegated * self._num_arrived
        if not request.steps_run and now >= self._due(request) and may_be:
            self._late.add(request.request_id)
            self._num_relegated += 1

    def on_finish(self, request: RequestView, now: float) -> None:
        self._late.discard(request.request_id)
        self._slack.ends(request)

    def token_budget(self, engine: EngineView) -> int:
        decodes = self._slack.look(engine)
        if not decodes:
            return engine.max_num_batched_tokens
        return max(tokens_within(engine, self._slack, decodes, -inf), decodes + self.min_chunk)
