"""What every registered policy owes its engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1 import leaping_request, stepping_request
from simsched.engine.vllm_v1.policy_steps import discipline
from simsched.errors import InputError
from simsched.policies.base import Change, Decision, Moved, Policy, registered
from simsched.policies.engine_view import EngineView
from simsched.policies.fastserve import FastServe
from simsched.policies.guarded import OF_REQUEST as FIELDS
from simsched.policies.guarded import guard_class, guarded_all
from simsched.policies.mlfq import Mlfq
from simsched.policies.spec import make_policy
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import POLICIES, Linear, same, trace

COLUMNS = ("score", "predicted_class", "predicted_length", "length_quantiles")
SPECS = sorted({*POLICIES, *registered()})
Guard = guard_class("it")


class Watched(Policy):
    """Runs a policy behind a guard, and checks what it answers."""

    def __init__(self, inner: Policy) -> None:
        super().__init__(preemptive=inner.preemptive)
        self.inner = inner
        self.reads_cache = inner.reads_cache  # type: ignore[misc]
        self.reads_prompts = inner.reads_prompts  # type: ignore[misc]
        self.reads_sessions = inner.reads_sessions  # type: ignore[misc]
        self.shares_state = inner.shares_state  # type: ignore[misc]
        self.holds_the_line = inner.holds_the_line  # type: ignore[misc]
        self.calls = 0

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        return self.inner.on_arrival(Guard(request), now)

    def priority(self, request: RequestView, now: float) -> Any:
        self.calls += 1
        key = self.inner.priority(Guard(request), now)
        assert key == self.inner.priority(Guard(request), now), "priority() is not pure"
        for number in key if isinstance(key, tuple) else (key,):
            assert isinstance(number, (int, float))
            assert number == number
        return key

    def next_change(self, request: RequestView, now: float) -> Change:
        change = self.inner.next_change(Guard(request), now)
        again = self.inner.next_change(Guard(request), now)
        assert change == again, "next_change() is not pure"
        if request.steps_idle and not self.inner.changes_while_waiting():
            assert change.after_steps_idle is None
            assert change.after_time is None
        return change

    def on_change(self, request: RequestView, now: float) -> Moved:
        return self.inner.on_change(Guard(request), now)

    def on_preempt(self, request: RequestView, now: float) -> Moved:
        return self.inner.on_preempt(Guard(request), now)

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Moved:
        return self.inner.on_queue(guarded_all(waiting, Guard), now)

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        return self.inner.admit(request, engine)

    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        return self.inner.victim(candidates, engine)

    def token_budget(self, engine: EngineView) -> int:
        return self.inner.token_budget(engine)

    def chunk(self, engine: EngineView) -> int:
        return self.inner.chunk(engine)

    def on_finish(self, request: RequestView, now: float) -> Moved:
        return self.inner.on_finish(Guard(request), now)


def workload() -> Trace:
    return trace(60, 30.0, 21)


CONFIG = engine_config(max_num_seqs=8, max_num_batched_tokens=256, num_gpu_blocks=160, max_model_len=1500)


@pytest.mark.parametrize("spec", SPECS)
def test_it_sees_request_views_only_and_is_pure(spec: str) -> None:
    watched = Watched(make_policy(spec))
    record = simulate(workload(), watched, Linear(), CONFIG, leap=False)
    assert record.finished.all()
    assert watched.calls > 1000


@pytest.mark.parametrize("spec", SPECS)
def test_it_says_when_its_priorities_change(spec: str) -> None:
    """Asked in every step or only when a change has come: the schedule is the same."""
    stepped = simulate(workload(), make_policy(spec), Linear(), CONFIG, leap=False)
    same(stepped, simulate(workload(), make_policy(spec), Linear(), CONFIG))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if discipline(make_policy(spec)) == "policy"])
def test_its_shortcuts_change_nothing(spec: str) -> None:
    """`advance` is the three calls that it stands for, and who waits is only asked where it matters."""
    plain = simulate(workload(), make_policy(spec), Linear(), CONFIG)
    same(plain, simulate(workload(), Watched(make_policy(spec)), Linear(), CONFIG))


def test_a_subclass_does_not_inherit_shortcuts_that_know_nothing_of_it() -> None:
    class Upside(Mlfq):
        def priority(self, request: RequestView, now: float) -> float:
            return -super().priority(request, now)

    assert Mlfq.advance is not Policy.advance
    assert FastServe.advance is Mlfq.advance
    assert Upside.advance is Policy.advance
    assert Upside.changes_while_waiting is Policy.changes_while_waiting


@pytest.mark.parametrize("spec", SPECS)
def test_it_never_learns_the_true_length(spec: str) -> None:
    """Requests that differ in their true length alone are ordered alike, as long as both run."""
    predicted = workload()
    short = trace(40, 0.0, 3, longest=1400)
    same_predictions = {name: getattr(predicted, name)[:40] for name in COLUMNS}
    one = short.with_columns(**same_predictions, num_output_tokens=short.num_output_tokens * 0 + 400)
    other = one.with_columns(num_output_tokens=one.num_output_tokens + 100)
    logs: list[list[Any]] = []
    for each in (one, other):
        log: list[Any] = []
        simulate(each, make_policy(spec), Linear(), CONFIG, step_log=log.append)
        logs.append([(line["scheduled"], line["preempted"]) for line in log[:300]])
    assert logs[0] == logs[1]


@pytest.mark.parametrize("view", [stepping_request.Request, leaping_request.LeapRequest])
def test_the_engines_views_hold_every_field_and_no_length(view: type) -> None:
    assert set(dir(view)) >= FIELDS
    public = {name for name in dir(view) if not name.startswith("_")}
    assert not {name for name in public if "total" in name or "max_tokens" in name or "true" in name}


@pytest.mark.parametrize("spec", SPECS)
def test_fresh_objects_share_no_memory(spec: str) -> None:
    one, other = vars(make_policy(spec)), vars(make_policy(spec))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, (dict, list, set, Policy)):
            assert value is not other[name], name


@pytest.mark.parametrize("spec", [spec for spec in SPECS if make_policy(spec).reads])
def test_a_missing_column_is_one_line(spec: str) -> None:
    policy = make_policy(spec)
    with pytest.raises(InputError, match=policy.reads):
        simulate(
            trace(1, 1.0, 2).with_columns(**dict.fromkeys(COLUMNS)),
            policy,
            Linear(),
            CONFIG,
        )
