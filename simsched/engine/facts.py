"""What a trace says of a request besides its lengths and predictions, for policies that ask."""

from __future__ import annotations

from typing import NamedTuple

from simsched.errors import InputError
from simsched.request import PromptBlocks


class Facts(NamedTuple):
    """Seconds count from arrival; None: not given."""

    slo_ttft: float | None = None
    slo_tpot: float | None = None
    deadline: float | None = None
    request_class: str | None = None
    session_id: str | None = None
    turn: int | None = None
    parents: tuple[str, ...] = ()
    """Ids of the requests whose answers it goes on from; empty: the turn before it in its session."""


NO_FACTS = Facts()


class Attained(NamedTuple):
    """What turns of a session have had of an engine, of those that are done there. Seconds."""

    service: float
    """Of all of them."""
    wait: float
    """From arrival to end, less the service, of all of them."""
    critical_path: float
    """Service of the longest chain of parents."""


class WithFacts:
    """The part of `simsched.request.RequestView` that reads `facts`, the cache and the session.
    (`LeapRequest` spells it out: compiled classes and interpreted ones can't have a base in common.)"""

    __slots__ = ()

    facts: Facts
    cached: int
    """Tokens that admission would find in the cache; -1: the policy has not said that it reads them."""
    attained: Attained | None
    """What its session has had; None: the policy has not said that it reads sessions."""
    blocks: PromptBlocks | None
    """Likewise of its prompt."""

    @property
    def slo_ttft(self) -> float | None:
        return self.facts.slo_ttft

    @property
    def slo_tpot(self) -> float | None:
        return self.facts.slo_tpot

    @property
    def deadline(self) -> float | None:
        return self.facts.deadline

    @property
    def request_class(self) -> str | None:
        return self.facts.request_class

    @property
    def session_id(self) -> str | None:
        return self.facts.session_id

    @property
    def turn(self) -> int | None:
        return self.facts.turn

    @property
    def num_cached_tokens(self) -> int:
        cached = self.cached
        return cached if cached >= 0 else told_cached(cached)

    @property
    def prompt_blocks(self) -> PromptBlocks:
        return told_blocks(self.blocks)

    @property
    def session_service(self) -> float:
        return told_sessions(self.attained, "session_service").service

    @property
    def session_wait(self) -> float:
        return told_sessions(self.attained, "session_wait").wait

    @property
    def critical_path_service(self) -> float:
        return told_sessions(self.attained, "critical_path_service").critical_path


def told_cached(tokens: int) -> int:
    """So many; an error where the policy has not said that it reads them."""
    if tokens < 0:
        raise InputError("a policy that reads num_cached_tokens says so: reads_cache = True")
    return tokens


def told_blocks(blocks: PromptBlocks | None) -> PromptBlocks:
    """Likewise."""
    if blocks is None:
        raise InputError("a policy that reads prompt_blocks says so: reads_prompts = True")
    return blocks


def told_sessions(attained: Attained | None, name: str) -> Attained:
    """Likewise, of what the view calls `name`."""
    if attained is None:
        raise InputError(f"a policy that reads {name} says so: reads_sessions = True")
    return attained
