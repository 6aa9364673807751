"""Prompts in an uncontended run that are longer than what a step has left for them.

Under vLLM's `fcfs` that is no contention yet: the decoding requests come first, then the prompts in order of
arrival, each with as many of its tokens as there are left (*running first*, *head of the line* and *chunked
prefill* in docs/engine.md). The last one goes on in the next step, and whoever comes later waits behind it.
"""

from __future__ import annotations

from simsched.engine.request_status import RESIDENT
from simsched.engine.vllm_v1.arriving import Arriving
from simsched.engine.vllm_v1.prefixes import Prefixes
from simsched.engine.vllm_v1.shared_blocks import Piece
from simsched.engine.vllm_v1.state import LeapingState

Chunks = tuple[int, int, int, int, list[tuple[int, int]]]
"""What a step computes of prompts: tokens; the sum of n (2 C + n) over chunks of n tokens after C; blocks
taken, also by the decoding requests; of those that have arrived, how many are in none of it; who has how many
of the tokens, in order of arrival."""


class Backlog:
    """Who has arrived and whose prompt is not computed: in order of arrival, the first perhaps in part.

    They are known by their numbers, from `head` up to that of who arrives next.
    """

    def __init__(self, engine: LeapingState, prefixes: Prefixes | None, arriving: Arriving) -> None:
        self._engine = engine
        self._prefixes = prefixes
        self._arriving = arriving
        self.head = len(engine.total)
        self.computed = 0
        """Tokens computed of the first one's prompt; 0: it waits."""

    @property
    def num_running(self) -> int:
        """How many of them run."""
        return 1 if self.computed else 0

    def form(
        self, first_new: int, upto: int, N: int, num_running: int, growth: int, free: int, start: float
    ) -> Chunks | None:
        """A step is formed at `start`.

        Args:
            first_new, upto: the numbers of those who have arrived since the last one.
            N: decoding requests in it, which take `growth` blocks of the `free` ones.
            num_running: requests that have a place, the first of the backlog apart.

        Returns:
            What it computes of the backlog; None where something else than its tokens is short, so that the
            run is over: nothing has happened then.
        """
        engine, prefixes, size = self._engine, self._prefixes, self._engine.block_size
        prompts, numbered = self._arriving.prompts, self._arriving.numbered
        computed = self.computed
        free -= growth
        budget = engine.max_tokens - N
        if budget <= 0 or free < 0:
            return None
        if prefixes is not None:
            prefixes.settle()
            for number in range(first_new, upto):
                length = prompts[number - numbered]
                if not prefixes.arrive(number, length, self._arriving.prefix(number)):
                    return None
        # The first of them goes on, or begins; else nothing is done.
        length = prompts[self.head - numbered]
        if computed:
            n = min(length - computed, budget)
            if -(-(computed + n) // size) - -(-computed // size) > free:
                return None
        else:
            found, held = self._lookup(self.head, length)
            hit = found[-1].end * size if found else 0
            if not self._has_room(length, hit + min(length - hit, budget), held, num_running, free):
                return None
            if prefixes is not None and prefixes.would_take(growth, found):
                return None
        if prefixes is not None:
            prefixes.owed = growth
            prefixes.settle()
        engine.recorder.make_room(upto)
        tokens, pairs, before = 0, 0, free
        served: list[tuple[int, int]] = []
        while self.head < upto and budget > 0:
            number = self.head
            length = prompts[number - numbered]
            if computed:
                n = min(length - computed, budget)
                blocks = -(-(computed + n) // size) - -(-computed // size)
                if prefixes is not None:
                    prefixes.go_on(number, blocks, computed + n)
            else:
                found, held = self._lookup(number, length)
                computed = found[-1].end * size if found else 0
                n = min(length - computed, budget)
                if not self._has_room(length, computed + n, held, num_running, free):
                    computed = 0
                    break
                blocks = -(-(computed + n) // size) - held
                if prefixes is not None:
                    prefixes.begin(number, found, computed + n)
                engine.recorder.scheduled(number, start, computed)
            free -= blocks
            budget -= n
            tokens += n
            pairs += n * (2 * computed + n)
            served.append((number, n))
            num_running += 1
            computed += n
            if computed < length:
                break
            self.head += 1
            computed = 0
        self.computed = computed
        waiting = upto - self.head - self.num_running
        return tokens, pairs, growth + before - free, waiting, served

    def _lookup(self, number: int, length: int) -> tuple[list[Piece], int]:
        return ([], 0) if self._prefixes is None else self._prefixes.lookup(number, length)

    def _has_room(self, length: int, after: int, held: int, num_running: int, free: int) -> bool:
        """Is there a place for one that has so many tokens after this step, `held` of its blocks being held
        by others? (*whole-prompt rule*, *watermark*)"""
        engine = self._engine
        if num_running >= engine.max_running:
            return False
        fit = length if engine.reserve else after
        return -(-fit // engine.block_size) - held + (engine.watermark if num_running else 0) <= free

    def give_back_running(self, now: float) -> None:
        """The run is over: the engine has who is in the midst of its prompt."""
        if self.computed:
            engine, number = self._engine, self.head
            request = engine.order.request(number, self._arriving.arrival(number), now)
            request.computed = self.computed
            request.where = RESIDENT
            engine.running[number] = engine.partials[number] = request

    def give_back_waiting(self, first_new: int, now: float) -> None:
        """And those who wait, of those that were there before `first_new` arrived."""
        engine, first = self._engine, self.head + self.num_running
        del engine.total[first:]  # they are numbered again
        for number in range(first, first_new):
            engine.add_request(self._arriving.arrival(number), now)
        engine.num_new = 0
