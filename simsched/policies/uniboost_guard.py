"""UniBoost with the paper's MemGuard: who has been evicted is kept until it has got further than before."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.engine_view import EngineView
from simsched.policies.uniboost import UniBoost
from simsched.request import RequestView


@register("uniboost-guard")
@dataclass(eq=False)
class UniBoostGuard(UniBoost):
    """The order of `uniboost`; where KV blocks run short, a request is not preempted until its attained
    service has passed the next power of `factor`, so that each is computed anew a logarithmic number of times
    (MemGuard of arXiv 2606.18431, which its authors' SGLang #35637 does not have).

    A request may be preempted once it has had `first` seconds of service; when it is, the least
    `first` * `factor` ** k beyond what it has had is what it must pass. Of those that may, the worst in order
    is preempted; if none may, the worst of all is, for blocks must come from somewhere. The rule in a line is
    the paper's, as others report it; base, first and that last resort are ours.
    """

    first: float = Field(default=0.25, gt=0, lt=inf)
    """Seconds."""
    factor: float = Field(default=2.0, gt=1, lt=inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._until: dict[str, float] = {}  # of those preempted before: seconds of service they must pass

    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        for request in reversed(candidates):
            if request.attained_service > self._until.get(request.request_id, self.first):
                return request
        return candidates[-1]

    def on_preempt(self, request: RequestView, now: float) -> None:
        until = self.first
        while until <= request.attained_service:
            until *= self.factor
        self._until[request.request_id] = until

    def on_finish(self, request: RequestView, now: float) -> None:
        super().on_finish(request, now)
        self._until.pop(request.request_id, None)
