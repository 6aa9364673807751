"""LightLLM's past-future admission (arXiv 2507.10150): by the future peak of memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from math import inf
from random import Random

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import ADMIT, NEVER, Change, Decision, Policy, hold, register
from simsched.policies.engine_view import EngineView
from simsched.policies.memory import peak_tokens
from simsched.request import RequestView


@register("past-future")
@dataclass(eq=False)
class PastFuture(Policy):
    """First come, first served, and only while the future peak of memory fits: each request is taken to
    be as long as one drawn from the latest answers that are longer than what it has generated.

    The peak is the maximum, over requests in order of what they have to come, of what they hold when each
    ends (`memory.peak_tokens`). Before there are answers to draw from, a request is taken to be as long
    as the engine allows. Here each draws its place among the longer answers once, on arrival; the code
    draws anew in each step.
    """

    preemptive: bool = False
    window: int = Field(default=1000, ge=1)
    """Answers that are remembered."""
    reserved: float = Field(default=0.03, ge=0, lt=1)
    """Share of the KV cache that is kept free of what is predicted."""
    seed: int = Field(default=0, ge=0)

    holds_the_line = True

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._place: dict[str, float] = {}
        self._latest: deque[int] = deque()
        self._sorted: list[int] = []
        self._just_done: list[int] = []  # at one time, so in no order
        self._as_of = -inf

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._place[request.request_id] = self._random.random()

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._place[request.request_id]
        if now > self._as_of:
            self._remember()
            self._as_of = now
        self._just_done.append(request.num_output_tokens)

    def _remember(self) -> None:
        for length in sorted(self._just_done):
            self._latest.append(length)
            insort(self._sorted, length)
            if len(self._latest) > self.window:
                oldest = self._latest.popleft()
                del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._just_done.clear()

    def demands(self, requests: Iterable[RequestView], most: int) -> list[tuple[int, int]]:
        """(tokens now, tokens still to come) of each, no more than `most` in all; written out, for all that
        run are asked."""
        lengths, places = self._sorted, self._place
        found = []
        for each in requests:
            generated = each.num_output_tokens
            now = each.num_prompt_tokens + generated
            left = most - now
            first = bisect_right(lengths, generated)
            longer = len(lengths) - first
            if longer:
                length = lengths[first + int(places[each.request_id] * longer)]
                if length - generated < left:
                    left = length - generated
            found.append((now, left if left > 1 else 1))
        return found

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        self._remember()
        room = (1 - self.reserved) * engine.num_blocks * engine.block_size
        # First, would it fit if each took all that the engine allows? Then nobody need be looked at.
        count = engine.num_running + engine.num_let_in + 1
        if count * (engine.max_model_len + 1) <= room:
            return ADMIT
        # Next, would all fit as long as each is taken to be? They never need more than that at once.
        everyone = [*engine.running, *engine.let_in, request]
        demands = self.demands(everyone, engine.max_model_len)
        if sum(map(sum, demands)) <= room:
            return ADMIT
        return ADMIT if peak_tokens(demands) <= room else hold()
