"""SGLang's cache-aware router whose tree throws prompts out, beside ours.

It is cleared every few seconds by its own clock, so choices are made in rounds between two
clearings. What nobody can know of it (`simsched/routers/prefix_tree.py`) is left open: there are eight
copies of ours, one for each remainder of the count of operations, of which one must agree in every choice;
and where the replica that had a piece first has lost it, any other that has it is right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Protocol

from simsched.errors import InputError
from simsched.routers.base import Replicas
from simsched.routers.cache_aware import CacheAware
from simsched.routers.prefix_tree import PrefixTree
from simsched.routers.spec import make_router
from validate.router_prompts import Prompt

INTERVAL = 5.0
"""Seconds between two clearings."""
EARLY, LATE = 1.2, 1.6
"""Choices of a round are made from so long after a clearing to so long before the next. (The router's clock
has begun somewhat before it is known to have started.)"""
PER_ROUND = 120
"""Choices between two."""
MAX_TOKENS = 200
"""What is left of each replica: most prompts lose their ends."""
IN_FLIGHT = 8
_COPIES = 8


class Asks(Protocol):
    """The real router (`validate.routers`)."""

    async def ask(self, prompt: Prompt) -> tuple[int, int]: ...
    async def finish(self, numbers: Sequence[int]) -> None: ...


class OpenTree(PrefixTree):
    """A tree that takes for a lost holder the one that the real tree takes, where that shows."""

    def __init__(self, num_replicas: int, operations: int) -> None:
        super().__init__(num_replicas)
        self._operations = operations
        self.theirs: int | None = None
        """Who got the prompt that is looked up."""
        self.enough = 0.0
        """Above so many tokens the holder gets it."""

    def another(self, holders: Iterable[int], matched: int) -> int:
        several = list(holders)
        if len(several) == 1:
            return several[0]
        if matched <= self.enough:
            return -1  # it does not show
        return self.theirs if self.theirs in several else several[0]


class Copies:
    """Ours, once for each remainder of the count of operations."""

    def __init__(self, ours: str, num_replicas: int) -> None:
        self.left: list[tuple[CacheAware, OpenTree]] = []
        """Those that have agreed in every choice."""
        for operations in range(_COPIES):
            router = make_router(ours)
            assert isinstance(router, CacheAware)
            router.start(num_replicas, 0)
            router.eviction_interval = float("inf")  # `clear` does it
            router._next_eviction = float("inf")
            router._sent = tree = OpenTree(num_replicas, operations)
            self.left.append((router, tree))

    def clear(self) -> None:
        """All throw out what is too much."""
        for _, tree in self.left:
            tree.evict(MAX_TOKENS)

    def choose(self, prompt: Prompt, replicas: Replicas, theirs: int | None) -> set[int]:
        """What each chooses, knowing what the real one chose (None: a worker not met before)."""
        choices = []
        for router, tree in self.left:
            tree.theirs = theirs
            tree.enough = router.cache_threshold * prompt.num_prompt_tokens
            choices.append(router.choose(prompt, replicas, 0.0))
        if theirs is not None:
            agree = zip(self.left, choices, strict=True)
            self.left = [copy for copy, chosen in agree if chosen == theirs]
        return set(choices)


async def through_clearings(
    asked: Asks, ours: str, num_workers: int, wanted: Sequence[Prompt], random: Random, started: float
) -> tuple[int, str | None]:
    """Choices until all copies have differed: how many, and what was the last of them if so.

    Args:
        started: when the router's clock for clearings began (`time.monotonic`).

    Raises:
        InputError: the machine is too slow to make a round's choices between two clearings.
    """
    copies, replicas = Copies(ours, num_workers), Replicas.idle(num_workers)
    numbers: dict[int, int] = {}  # their worker -> our replica
    held: list[tuple[int, int]] = []
    begins = started
    for at, prompt in enumerate(wanted):
        if at % PER_ROUND == 0:
            if at:
                begins += INTERVAL
            await asyncio.sleep(max(0.0, begins + EARLY - time.monotonic()))
            if at:
                copies.clear()
        if len(held) > IN_FLIGHT or (held and random.random() < 0.4):
            number, replica = held.pop(random.randrange(len(held)))
            await asked.finish([number])
            replicas.in_flight[replica] -= 1
        number, worker = await asked.ask(prompt)
        if time.monotonic() > begins + INTERVAL - LATE:
            raise InputError(
                f"{PER_ROUND} choices take longer than the {INTERVAL:.0f} s between two clearings"
            )
        theirs = numbers.get(worker)
        choices = copies.choose(prompt, replicas, theirs)
        if theirs is None:
            # Its first choice shows which worker it is; all copies agree as long as nothing is thrown out.
            (theirs,) = choices
            if theirs in numbers.values():
                return at + 1, f"choice {at}: ours {theirs}, theirs another"
            numbers[worker] = theirs
        if not copies.left:
            return at + 1, f"choice {at}: ours {sorted(choices)}, theirs {theirs}"
        replicas.in_flight[theirs] += 1
        held.append((number, theirs))
    return len(wanted), None
