"""Memory-constrained shortest first (Jaillet et al., arXiv 2502.07115)."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import ADMIT, NEVER, Change, Decision, Policy, hold, register
from simsched.policies.engine_view import EngineView
from simsched.policies.memory import Promised, demand, demands, peak_tokens, predicted_length
from simsched.request import RequestView


@register("mc-sf")
@dataclass(eq=False)
class McSf(Policy):
    """Shortest predicted answer first, and only while all that run will fit to their ends: at each future
    end of one of them the tokens of those that still run then are at most the KV cache (algorithm 1 of
    the paper).

    Who is preempted all the same was longer than predicted, shares blocks that are not full, or the cache
    is; it is asked about again. Once it has more tokens than predicted, one more is expected.
    """

    preemptive: bool = False

    reads = "predicted_length"
    holds_the_line = True

    def __post_init__(self) -> None:
        self._memory = Promised()

    def priority(self, request: RequestView, now: float) -> float:
        return predicted_length(request)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        most = engine.max_model_len
        tokens, left = demand(request, predicted_length(request), most)
        if not self._memory.fits_anyway(tokens + left, engine):
            others = demands([*engine.running, *engine.let_in], most)
            if peak_tokens([*others, (tokens, left)]) > engine.num_blocks * engine.block_size:
                return hold()
        self._memory.let_in(request, left)
        return ADMIT

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._memory.left(request)

    def on_finish(self, request: RequestView, now: float) -> None:
        self._memory.left(request)

    def changes_while_waiting(self) -> bool:
        return False
