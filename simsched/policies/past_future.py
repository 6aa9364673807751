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
        self._bounds = _Bounds(self._sorted, self._place)

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._place[request.request_id] = self._random.random()

    def on_preempt(self, request: RequestView, now: float) -> None:
        self._bounds.left(request)

    def on_finish(self, request: RequestView, now: float) -> None:
        self._bounds.left(request)
        del self._place[request.request_id]
        if now > self._as_of:
            self._remember()
            self._as_of = now
        self._just_done.append(request.num_output_tokens)

    def _remember(self) -> None:
        if not self._just_done:
            return
        for length in sorted(self._just_done):
            self._latest.append(length)
            insort(self._sorted, length)
            if len(self._latest) > self.window:
                oldest = self._latest.popleft()
                del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._bounds.num_answers += len(self._just_done)
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
        if not self._fits(request, engine):
            return hold()
        most = engine.max_model_len
        self._bounds.let_in(request, self._bounds.of(request, most), engine.num_steps)
        return ADMIT

    def _fits(self, request: RequestView, engine: EngineView) -> bool:
        most = engine.max_model_len
        room = (1 - self.reserved) * engine.num_blocks * engine.block_size
        # First, would it fit if each took all that the engine allows? Then nobody need be looked at.
        count = engine.num_running + engine.num_let_in + 1
        if count * (most + 1) <= room:
            return True
        # Next, would all fit as long as each may be taken to be for a while? Then few need be looked at.
        if len(self._bounds) == count - 1:
            bound = self._bounds.of(request, most)
            if self._bounds.total(engine.num_steps, most) + bound <= room:
                return True
        # Next, as long as each is taken to be? They never need more than that at once.
        demands = self.demands([*engine.running, *engine.let_in, request], most)
        return sum(map(sum, demands)) <= room or peak_tokens(demands) <= room


class _Bounds:
    """At most so many tokens will those be taken to need in all that were let in, in one sum.

    A bound holds until there have been `STEPS` more steps and `ANSWERS` more answers. Nobody has more tokens
    until then than steps. An answer comes among the n longer ones or behind, and another goes: where u is the
    request's place among them, the one moves that place by u at most, the other by 1 - u. So what it is taken
    to have then is no longer than the answer which stands so many places behind now. (Two more, since u n is
    rounded.)
    """

    STEPS = 96
    ANSWERS = 18

    def __init__(self, lengths: list[int], places: dict[str, float]) -> None:
        """
        Args:
            lengths: the latest answers, in order; the caller's own.
            places: by request, its place among the longer ones of these; likewise.
        """
        self.num_answers = 0
        """So many there have been."""
        self._lengths = lengths
        self._places = places
        self._of: dict[str, _Look] = {}
        self._total = 0
        self._looks: deque[_Look] = deque()  # the oldest first; some are of no concern any more

    def __len__(self) -> int:
        return len(self._of)

    def of(self, request: RequestView, most: int) -> int:
        """The bound of a request that may have `most` tokens, from now on."""
        lengths = self._lengths
        first = bisect_right(lengths, request.num_output_tokens + self.STEPS)
        longer = int(self._places[request.request_id] * (len(lengths) - first))
        place = first + longer + 2 + self.ANSWERS
        if place >= len(lengths):
            return most + 1
        bound = request.num_prompt_tokens + lengths[place]
        return bound if bound <= most else most + 1

    def let_in(self, request: RequestView, bound: int, steps: int) -> None:
        """It is let in after so many steps."""
        look = _Look(request, self._places[request.request_id], bound, steps, self.num_answers)
        self._of[request.request_id] = look
        self._looks.append(look)
        self._total += bound

    def left(self, request: RequestView) -> None:
        """It has finished, or lost its place."""
        look = self._of.pop(request.request_id, None)
        if look is not None:
            look.holds = False
            self._total -= look.bound

    def total(self, steps: int, most: int) -> int:
        """The sum, after so many steps."""
        looks, answers, lengths = self._looks, self.num_answers, self._lengths
        oldest_step, oldest_answer, more = steps - self.STEPS, answers - self.ANSWERS, 0
        count, behind = len(lengths), 2 + self.ANSWERS
        while looks:
            look = looks[0]
            if look.steps >= oldest_step and look.answers >= oldest_answer:
                break
            looks.popleft()
            if look.holds:
                # `of`, written out, for this is most of what is asked
                first = bisect_right(lengths, look.request.num_output_tokens + self.STEPS)
                place = first + int(look.place * (count - first)) + behind
                bound = most + 1 if place >= count else look.prompt + lengths[place]
                if bound > most:
                    bound = most + 1
                more += bound - look.bound
                look.bound, look.steps, look.answers = bound, steps, answers
                looks.append(look)
        self._total += more
        return self._total


class _Look:
    """What was found of a request, and after how many steps and answers."""

    __slots__ = ("answers", "bound", "holds", "place", "prompt", "request", "steps")

    def __init__(self, request: RequestView, place: float, bound: int, steps: int, answers: int) -> None:
        self.request = request
        self.prompt = request.num_prompt_tokens
        self.place = place
        self.bound = bound
        self.steps = steps
        self.answers = answers
        self.holds = True  # while the request has not left
