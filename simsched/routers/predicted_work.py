"""The replica with the least work left: by prediction, or by the truth as the limit of prediction."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.routers.base import Replicas, RoutedRequest, Router, least, register


@register("least-predicted-work")
@dataclass(eq=False)
class LeastPredictedWork(Router):
    """Sums, for each replica, the prompts and predicted answers of the requests in flight. A request counts
    in full until its answer has come back: a router knows when it is done, not how far it is.

    Lengths are the predictor's: a trained ranker maps its scores to lengths on held-out prompts; those of
    a trace are mapped through the quantiles of the ranker's data (`--predictor "trace(lengths=FILE)"`).
    """

    reads = "predicted_length"

    prefill_weight: float = Field(default=0.5, ge=0, lt=inf)
    """What a prompt token counts, an answer's token being 1."""

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._work = [0.0] * num_replicas

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        chosen = least(self._work)
        self._work[chosen] += self._predicted(request)
        return chosen

    def on_finish(self, request: RoutedRequest, replica: int, now: float) -> None:
        # Nothing in flight is no work: rounding errors do not add up.
        self._work[replica] = max(0.0, self._work[replica] - self._predicted(request))

    def _predicted(self, request: RoutedRequest) -> float:
        assert request.predicted_length is not None
        return self.prefill_weight * request.num_prompt_tokens + request.predicted_length


@register("oracle-work")
@dataclass(eq=False)
class OracleWork(Router):
    """The fewest tokens left to compute, prompts and answers, which no real router knows. Of equals, the
    first."""

    reads_future = True

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return least(replicas.remaining_work)
