"""`check_policy` passes what keeps the contract, and says which part of it is broken."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.base import ADMIT, NEVER, Change, Decision, Moved, Policy, hold, hooks_of, registered
from simsched.policies.engine_view import EngineView
from simsched.policies.ranking import Ranking
from simsched.policies.user_policy import watched
from simsched.request import RequestView
from simsched.testing import PolicyError, check_policy
from tests.engine.scenarios import Linear, trace


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


DRAWN = itertools.count()


@dataclass(eq=False)
class Draws(Good):
    """Draws a number for each request that arrives, and no run begins where another one did."""

    def __post_init__(self) -> None:
        self._drawn: dict[str, int] = {}

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        self._drawn[request.request_id] = next(DRAWN) * 41 % 101

    def priority(self, request: RequestView, now: float) -> Any:
        return (0, self._drawn[request.request_id])

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER


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


@dataclass(eq=False)
class Reads(Good):
    """Lets in by what the engine hides: how long answers will be."""

    def admit(self, request: RequestView, engine: Any) -> Decision:
        return ADMIT if engine._engine.total[0] else hold()


@dataclass(eq=False)
class ReadsRunning(Good):
    """Likewise, of a request in one of its lists."""

    def token_budget(self, engine: EngineView) -> int:
        return 64 + sum(each.number for each in engine.running)  # type: ignore[attr-defined]


@dataclass(eq=False)
class Chooses(Good):
    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        return max(candidates, key=lambda each: getattr(each, "num_tokens", 0))


@dataclass(eq=False)
class Sets(Good):
    def chunk(self, engine: Any) -> int:
        engine.max_num_batched_tokens = 1
        return 0


@dataclass(eq=False)
class SetsRequest(Good):
    def victim(self, candidates: Sequence[Any], engine: EngineView) -> RequestView:
        candidates[0].num_preemptions = 0
        chosen: RequestView = candidates[0]
        return chosen


@dataclass(eq=False)
class Shuffles(Good):
    def admit(self, request: RequestView, engine: Any) -> Decision:
        engine.waiting.clear()
        return ADMIT


@dataclass(eq=False)
class Counts(Good):
    """Its budget grows each time it is asked."""

    asked: int = 0

    def token_budget(self, engine: EngineView) -> int:
        self.asked += 1
        return 50 + self.asked


@dataclass(eq=False)
class LooksAtQueue(Good):
    def on_queue(self, waiting: Sequence[Any], now: float) -> Moved:
        return [each.request_id for each in waiting if each.number < 0]


@dataclass(eq=False)
class Remembers(Good):
    """One memory for all of its kind, which their class holds."""

    seen = {}  # type: ignore[var-annotated]  # noqa: RUF012

    def on_arrival(self, request: RequestView, now: float) -> None:
        self.seen[request.request_id] = now


@dataclass(eq=False)
class Tables(Good):
    """What nobody changes may be there."""

    levels = {0: 1}  # noqa: RUF012

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        return (0, self.levels[0])


@dataclass(eq=False)
class Predicts(Good):
    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        return (0, request.predicted_length or 0.0)


CONTROLLED = "ranking(starvation_threshold=20)"


@pytest.mark.parametrize("policy", [Good, Tables, Ranking, "srtf", CONTROLLED, Good(preemptive=False)])
def test_good_ones_pass(policy: Any) -> None:
    check_policy(policy, seeds=1)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Looks, "looks at num_tokens"),
        (Dice, "asked again|asked twice"),
        (Draws, "two runs of one seed differ, as it draws numbers that nothing seeds"),
        (Breaks, "next_change"),
        (Shares, "two objects share memory"),
        (Reads, "admit.* looks at _engine of the engine; expected what EngineView names"),
        (ReadsRunning, "token_budget.* looks at number; expected what RequestView names"),
        (Chooses, "victim.* looks at num_tokens"),
        (Sets, "chunk.* sets max_num_batched_tokens of the engine; expected it to be read alone"),
        (SetsRequest, "victim.* sets num_preemptions of a request"),
        (Shuffles, "admit.* 'tuple' object has no attribute 'clear'"),
        (Counts, "token_budget.* asked twice"),
        (Remembers, "all of its kind share seen, which changes as one runs; expected one each"),
        (Predicts, 'reads predicted_length of a request; expected reads = "predicted_length" in its class'),
        (LooksAtQueue, "on_queue.* looks at number"),
    ],
)
def test_bad_ones_are_one_line(policy: type[Policy], message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        check_policy(policy, seeds=1)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"policy {policy.__name__}: ")


@pytest.mark.parametrize("name", [name for name, cls in registered().items() if hooks_of(cls())])
def test_those_that_decide_more_than_an_order_keep_the_contract(name: str) -> None:
    check_policy(name, seeds=1)


@pytest.mark.parametrize(("policy", "message"), [(Reads, "looks at _engine"), (Sets, "sets max_num_")])
@pytest.mark.parametrize("leap", [False, True])
def test_a_run_guards_the_engine_too(policy: type[Policy], message: str, leap: bool) -> None:
    """Not in the contract suite alone: where a policy from outside is used."""
    work = trace(20, 20.0, 1)
    config = engine_config(max_num_seqs=2, num_gpu_blocks=200, max_model_len=1500)
    with pytest.raises(PolicyError, match=message):
        simulate(work, watched(policy, "mine")(), Linear(), config, leap=leap)
