"""Policies that decide more than an order, for tests: what they say hangs on all that they may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simsched.policies.base import ADMIT, NEVER, REJECT, Change, Decision, Policy, hold
from simsched.policies.engine_view import EngineView
from simsched.request import RequestView


@dataclass(eq=False)
class ByLength(Policy):
    """Shortest prompt first, or by what is left; `preemptive` or not."""

    left: bool = False
    seen: int = 0

    def priority(self, request: RequestView, now: float) -> float:
        done = request.num_output_tokens if self.left else 0
        return (request.predicted_length or request.num_prompt_tokens) // 8 - done

    def next_change(self, request: RequestView, now: float) -> Change:
        return Change(while_running="improves") if self.left else NEVER


def digest(engine: EngineView) -> int:
    """A number made of all that an engine shows."""
    number = engine.num_free_blocks + 3 * engine.num_running + 5 * engine.num_let_in + 7 * engine.num_waiting
    number += 11 * engine.num_decodes + 13 * engine.decode_context + 17 * engine.num_steps
    assert engine.num_running == len(engine.running)
    assert engine.num_let_in == len(engine.let_in)
    assert engine.num_waiting == len(engine.waiting)
    for place, request in enumerate([*engine.running, *engine.let_in, *engine.waiting]):
        number = (
            31 * number
            + place
            + request.num_output_tokens
            + 3 * request.num_computed_tokens
            + 7 * request.num_preemptions
            + request.num_prompt_tokens
            + request.steps_run
            + request.steps_idle
        ) % 1_000_003
    return number


CHANGES = (NEVER, Change(after_steps_idle=1), Change(after_steps_idle=9), Change(after_time=0.07))


class Admits:
    """Lets in while there is room for the prompts, or as the digest has it."""

    rejects = False
    holds = False

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        number = digest(engine)
        if self.rejects and number % 11 == 0:
            return REJECT
        promised = sum(each.num_prompt_tokens for each in engine.let_in) // engine.block_size
        if engine.num_free_blocks - promised < request.num_prompt_tokens // engine.block_size:
            return hold(CHANGES[number % 4])
        if self.holds and number % 3 == 0:
            return hold(CHANGES[number % 4])
        return ADMIT


class AdmitsInLine(Admits):
    holds_the_line = True


class AdmitsSome(Admits):
    holds = True


class RejectsSome(Admits):
    rejects = True
    holds = True


class Chooses:
    def victim(self, candidates: Sequence[Any], engine: EngineView) -> Any:
        assert set(map(id, candidates)) <= set(map(id, engine.running))
        return candidates[digest(engine) % len(candidates)]


class Budgets:
    def token_budget(self, engine: EngineView) -> int:
        return (16, 3, 300, 5000)[digest(engine) % 4]


class Chunks:
    def chunk(self, engine: EngineView) -> int:
        return (0, 7, 200)[digest(engine) % 3]


def make(parts: Sequence[type], **options: Any) -> Policy:
    """A policy of these parts."""
    made: Policy = type("Made", (*parts, ByLength), {})(**options)
    return made


@dataclass(eq=False)
class Hooked(RejectsSome, Chooses, Budgets, Chunks, ByLength):
    """All of them, for lock-step."""


@dataclass(eq=False)
class HookedInLine(AdmitsInLine, Chooses, ByLength):
    """Held in line, and not preemptive."""

    preemptive: bool = False


@dataclass(eq=False)
class BudgetsAlone(Budgets, Chunks, ByLength):
    """By what is left, with budgets."""

    left: bool = True
