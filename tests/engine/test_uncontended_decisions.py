"""Decisions in uncontended runs: what is asked, when, and on what view is as in the engine that steps."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1.leaping_decisions import DecidingOrder
from simsched.policies.base import ADMIT, Change, Decision, Policy, hold
from simsched.policies.engine_view import EngineView
from simsched.policies.spec import make_policy
from simsched.request import RequestView
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.deciding import ByLength, digest
from tests.engine.scenarios import Linear, same, trace, with_owners

Asked = list[tuple[Any, ...]]


class Notes(ByLength):
    """Writes down what it is asked and told. `strict`: one answer in so many binds."""

    strict = 5
    asked: Asked

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        number = digest(engine)
        self.asked.append(("admit", request.request_id, engine.now, number))
        return hold(Change(after_time=0.05)) if number % self.strict == 0 else ADMIT

    def token_budget(self, engine: EngineView) -> int:
        number = digest(engine)
        self.asked.append(("token_budget", engine.now, number))
        return 40 if number % self.strict == 1 else 1 << 20

    def chunk(self, engine: EngineView) -> int:
        number = digest(engine)
        self.asked.append(("chunk", engine.now, number))
        return 30 if number % self.strict == 2 else 0

    def next_change(self, request: RequestView, now: float) -> Change:
        if self.left:
            return super().next_change(request, now)
        return Change(after_steps_run=7, after_time=0.4 if request.steps_run else 0.004)

    def on_change(self, request: RequestView, now: float) -> None:
        self.asked.append(("change", request.request_id, now, request.num_computed_tokens, request.steps_run))

    def on_finish(self, request: RequestView, now: float) -> None:
        self.asked.append(("finish", request.request_id, now, request.num_output_tokens))


def asked_by(
    work: Trace, hooks: Sequence[str], config: EngineConfig, leap: bool, strict: int = 5, **options: Any
) -> tuple[Asked, Any]:
    """What it was asked, those of one moment in no order, and the record."""
    taken = {name: getattr(Policy, name) for name in ("admit", "token_budget", "chunk") if name not in hooks}
    policy = type("Made", (Notes,), {**taken, "asked": [], "strict": strict})(**options)
    record = simulate(work, policy, Linear(), config, leap=leap)
    return sorted(policy.asked, key=repr), record


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(1, 80),
    rate=st.sampled_from([0.5, 3.0, 10.0, 30.0]),
    seed=st.integers(0, 1 << 30),
    hooks=st.sets(st.sampled_from(["admit", "token_budget", "chunk"]), min_size=1).map(sorted),
    options=st.fixed_dictionaries({"preemptive": st.booleans(), "left": st.booleans()}),
    strict=st.sampled_from([3, 20, 1 << 30]),
    engine=st.fixed_dictionaries(
        {
            "max_num_seqs": st.sampled_from([4, 64]),
            "num_gpu_blocks": st.sampled_from([300, 5000]),
            "async_scheduling": st.booleans(),
        }
    ),
)
def test_the_same_is_asked(
    n: int, rate: float, seed: int, hooks: list[str], options: Any, strict: int, engine: Any
) -> None:
    config = engine_config(max_num_batched_tokens=2048, max_model_len=1500, **engine)
    work = trace(n, rate, seed)
    (stepped, one), (leapt, other) = (
        asked_by(work, hooks, config, leap, strict, **options) for leap in (False, True)
    )
    same(one, other)
    assert stepped == leapt


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("hooks", [["admit"], ["token_budget"], ["admit", "token_budget", "chunk"]])
def test_most_are_decided_about_in_uncontended_runs(
    hooks: list[str], ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where an answer binds the engine goes on with it, without asking again."""
    taken_in = taken_out = 0
    take_in, take_out = DecidingOrder.take_in, DecidingOrder.take_out

    def counts_in(self: DecidingOrder, first: int, arrivals: Any, now: float) -> bool:
        nonlocal taken_in
        taken_in += len(arrivals)
        return take_in(self, first, arrivals, now)

    def counts_out(self: DecidingOrder) -> Any:
        nonlocal taken_out
        taken_out += len(admitted := take_out(self))
        return admitted

    is_interpreted = isinstance(take_in, FunctionType)  # compiled code does not look methods up
    if is_interpreted:
        monkeypatch.setattr(DecidingOrder, "take_in", counts_in)
        monkeypatch.setattr(DecidingOrder, "take_out", counts_out)
    config = engine_config(
        max_num_seqs=64, num_gpu_blocks=5000, max_model_len=1500, max_num_batched_tokens=2048,
        async_scheduling=ahead,
    )  # fmt: skip
    work = trace(150, 4.0, 3)
    (stepped, one), (leapt, other) = (asked_by(work, hooks, config, leap) for leap in (False, True))
    same(one, other)
    assert stepped == leapt
    if is_interpreted:
        assert 30 < taken_out < taken_in < 150


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("spec", ["qoserve(ttft=0.2,relegated=1)", "past-future(window=9)", "a-min"])
def test_one_of_several_replicas(spec: str, ahead: bool) -> None:
    """Its requests come when they are delivered, in the middle of a promise."""
    config = engine_config(max_num_seqs=32, num_gpu_blocks=2000, max_model_len=1500, async_scheduling=ahead)
    work = with_owners(trace(120, 20.0, 8), 1)
    one, other = (
        simulate(
            work, make_policy(spec), Linear(), config,
            leap=leap, num_replicas=3, router=make_router("least-requests"), predictor_time=0.003,
        )
        for leap in (False, True)
    )  # fmt: skip
    same(one, other)
