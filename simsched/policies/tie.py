"""TIE (ICML 2026): the expected length with its tail on top, from a predicted distribution."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.distribution import quantiles_of
from simsched.request import RequestView


@register("tie")
@dataclass(eq=False)
class Tie(Policy):
    """The smallest (E[min(X, m)] + beta CVaR(X)) * `decay` ** (wait / `decay_seconds`), not preemptive (Zheng
    et al., arXiv 2604.00499). CVaR is the mean of min(X, m) beyond its quantile `alpha`, m is `max_length`.

    beta = min(0.5, max(0.1, 0.1 Lq / B)) is taken when a request arrives, as the authors' code does, with Lq
    the requests in the system beyond the batch size B: who has not been admitted, if the batch is full. The
    code lets scores decay every 5 s; here they decay all the time. As all decay alike, the order of two never
    changes, and a run leaps.
    """

    preemptive: bool = False
    alpha: float = Field(default=0.9, ge=0, lt=1)
    beta: float | None = Field(default=None, ge=0, lt=inf)
    """None: by the length of the queue, from 0.1 to 0.5."""
    batch_size: int = Field(default=256, ge=1)
    """The engine's `max_num_seqs`; in the paper 32."""
    max_length: float = Field(default=2048.0, gt=0, lt=inf)
    """Tokens; the paper's limit."""
    decay: float = Field(default=0.9, gt=0, le=1)
    decay_seconds: float = Field(default=30.0, gt=0, lt=inf)

    reads = "length_quantiles"

    def __post_init__(self) -> None:
        self._keys: dict[str, float] = {}  # of those in the system

    def score(self, points: Sequence[float], beta: float) -> float:
        """Tokens, before decay."""
        most = self.max_length
        capped = points if points[-1] <= most else [min(point, most) for point in points]  # they increase
        return sum(capped) / len(capped) + beta * self._cvar(capped)

    def _cvar(self, points: Sequence[float]) -> float:
        """The mean of the worst 1 - alpha; the point at its edge counts in part."""
        share = (1.0 - self.alpha) * len(points)
        whole = int(share + 1e-9)
        tail = sum(points[len(points) - whole :])
        if share - whole > 1e-9:
            tail += (share - whole) * points[len(points) - whole - 1]
        return tail / share

    def on_arrival(self, request: RequestView, now: float) -> None:
        beta = self.beta
        if beta is None:
            queue = max(0, len(self._keys) + 1 - self.batch_size)
            beta = min(0.5, max(0.1, 0.1 * queue / self.batch_size))
        # the log of the decayed score, without the part that all share at any time
        age = request.arrival_time * log(self.decay) / self.decay_seconds
        self._keys[request.request_id] = log(self.score(quantiles_of(request), beta)) - age

    def priority(self, request: RequestView, now: float) -> float:
        return self._keys[request.request_id]

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def changes_while_waiting(self) -> bool:
        return False

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._keys[request.request_id]
