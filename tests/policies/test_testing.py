"""`check_policy` passes what keeps the contract, and says which part of it is broken."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy
from simsched.policies.ranking import Ranking
from simsched.request import RequestView
from simsched.testing import PolicyError, check_policy


@dataclass(eq=False)
class Good(Policy):
    """Short prompts first, and whoever has run goes on."""

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        return (0, 0.0) if request.steps_run else (1, request.num_prompt_tokens)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else Change(after_steps_run=1)


@dataclass(eq=False)
class Looks(Good):
    def priority(self, request: RequestView, now: float) -> Any:
        return (0, getattr(request, "num_tokens", 0.0))


@dataclass(eq=False)
class Dice(Good):
    def priority(self, request: RequestView, now: float) -> Any:
        return (0, random.random())


@dataclass(eq=False)
class Breaks(Good):
    def priority(self, request: RequestView, now: float) -> Any:
        return (0, request.num_prompt_tokens - request.num_output_tokens)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER


SHARED: dict[str, int] = {}


@dataclass(eq=False)
class Shares(Good):
    def __post_init__(self) -> None:
        self.memory = SHARED


CONTROLLED = "ranking(starvation_threshold=20)"


@pytest.mark.parametrize("policy", [Good, Ranking, "srtf", CONTROLLED, Good(preemptive=False)])
def test_good_ones_pass(policy: Any) -> None:
    check_policy(policy, seeds=1)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Looks, "looks at num_tokens"),
        (Dice, "asked again|asked twice"),
        (Breaks, "next_change"),
        (Shares, "two objects share memory"),
    ],
)
def test_bad_ones_are_one_line(policy: type[Policy], message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        check_policy(policy, seeds=1)
    assert "\n" not in str(caught.value)
