"""Which running requests a preemptive policy displaces before vLLM's own `schedule()` (vLLM V1): the victims.

For the reference engine and for real vLLM alike. The leaping engine finds the same ones in `policy_order.py`,
without a list of the running requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from simsched.policies.base import Priority


class Sized(Protocol):
    """A request of an engine, as far as its room is concerned."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_computed_tokens(self) -> int: ...


R = TypeVar("R", bound=Sized)


class Room(NamedTuple):
    """What is left for waiting requests when every running one has taken its next tokens."""

    slots: int
    blocks: int
    tokens: int


def plan_preemptions(
    waiting: Iterable[tuple[Priority, R]],
    running: Sequence[tuple[Priority, R]],
    room: Room,
    block_size: int,
    *,
    chunked: bool = True,
) -> list[R]:
    """The victims, worst first; both lists come best first. `chunked`: may a part of a prompt be admitted?

    Waiting requests are served in order; one that finds no room takes the place of strictly worse running
    requests, the worst first, and if even that is not enough the search ends and it displaces nobody.
    """
    slots, blocks, tokens = room
    candidates = list(running)
    victims: list[R] = []
    for priority, request in waiting:
        need = _blocks(request.num_tokens, block_size)
        plan: list[R] = []
        gained = 0
        while slots + len(plan) < 1 or need > blocks + gained:
            if len(plan) == len(candidates):
                break
            worst_priority, worst = candidates[-1 - len(plan)]
            if not priority < worst_priority:  # type: ignore[operator]  # one policy, one type of priority
                break
            plan.append(worst)
            gained += _blocks(worst.num_computed_tokens, block_size)
        least = 1 if chunked else request.num_tokens
        if slots + len(plan) < 1 or need > blocks + gained or tokens + len(plan) < least:
            break
        if plan:
            del candidates[-len(plan) :]
            victims += plan
        slots += len(plan) - 1
        blocks += gained - need
        tokens += len(plan) - request.num_tokens
    return victims


def _blocks(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size)
