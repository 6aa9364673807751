"""A_min (Chen, Ye and Zhou, arXiv 2508.14544): by the lower bounds of predicted intervals."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from simsched.policies.base import ADMIT, NEVER, Change, Decision, Policy, hold, register
from simsched.policies.distribution import quantiles_of
from simsched.policies.engine_view import EngineView
from simsched.policies.memory import Promised, demand, peak_tokens
from simsched.request import RequestView


@register("a-min")
@dataclass(eq=False)
class AMin(Policy):
    """Takes the lower bound of the predicted interval as the length, and raises it as tokens come. The
    smallest bound goes first, and is let in while all bounds together fit (as in `mc-sf`); where memory
    overflows, the request with the smallest bound is preempted.

    The interval's lower bound is the least of the `length_quantiles`. A request keeps its tokens when it
    is preempted, so its bound is at least what it has generated; the queue takes that as of then.
    """

    preemptive: bool = False

    reads = "length_quantiles"
    holds_the_line = True

    def bound(self, request: RequestView) -> float:
        """The lower bound of its length, as far as is known by now."""
        return max(quantiles_of(request)[0], float(request.num_output_tokens))

    def __post_init__(self) -> None:
        self._raised: dict[str, float] = {}  # as of its latest preemption
        self._memory = Promised()

    def priority(self, request: RequestView, now: float) -> float:
        return self._raised.get(request.request_id, quantiles_of(request)[0])

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._raised[request.request_id] = self.bound(request)
        self._memory.left(request)

    def on_finish(self, request: RequestView, now: float) -> None:
        self._raised.pop(request.request_id, None)
        self._memory.left(request)

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        most = engine.max_model_len
        tokens, left = demand(request, self.bound(request), most)
        if not self._memory.fits_anyway(tokens + left, engine):
            others = [demand(each, self.bound(each), most) for each in (*engine.running, *engine.let_in)]
            if peak_tokens([*others, (tokens, left)]) > engine.num_blocks * engine.block_size:
                return hold()
        self._memory.let_in(request, left)
        return ADMIT

    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        return min(reversed(candidates), key=self.bound)

    def changes_while_waiting(self) -> bool:
        return False
