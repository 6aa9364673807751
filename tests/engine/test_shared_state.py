"""Policies that read the cache or their sessions, or share state: leaping gives the reference's schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass

from simsched.engine.base import CannotLeap
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1 import changes, leaping_blocks
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.errors import InputError
from simsched.policies.base import NEVER, Change, Moved, Policy
from simsched.policies.plas import Plas
from simsched.policies.starvation import StarvationControl
from simsched.policies.vtc import Vtc
from simsched.record import RunRecord
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, configs, conversations, same, trace, traces, with_owners

CONFIG = engine_config(max_num_seqs=8, max_num_batched_tokens=256, num_gpu_blocks=160, max_model_len=1500)


@dataclass(eq=False)
class FewestCached(Policy):
    """Serves those first of which least is cached, running requests too."""

    reads_cache = True

    def priority(self, request: RequestView, now: float) -> float:
        return request.num_cached_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER


@dataclass(eq=False)
class LeastServedSession(Policy):
    """Serves the session first that has been served least."""

    reads_sessions = True

    def priority(self, request: RequestView, now: float) -> float:
        return request.session_service

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER


@dataclass(eq=False)
class FairShare(Policy):
    """Serves the tenant first of which fewest requests have come, and then fewest have been done; what it has
    run for halves what counts. Every event moves all requests of a tenant."""

    shares_state = True

    def __post_init__(self) -> None:
        self.count: dict[Any, float] = {}
        self.here: dict[Any, dict[str, None]] = {}

    def _add(self, request: RequestView, number: float) -> Moved:
        tenant = request.tenant
        self.count[tenant] = self.count.get(tenant, 0) + number
        return [*self.here.setdefault(tenant, {})]

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        moved = self._add(request, 1)
        self.here[request.tenant][request.request_id] = None
        return moved

    def priority(self, request: RequestView, now: float) -> float:
        return self.count[request.tenant]

    def next_change(self, request: RequestView, now: float) -> Change:
        return Change(after_steps_run=7 + int(self.count[request.tenant]) % 5, after_steps_idle=30)

    def on_change(self, request: RequestView, now: float) -> Moved:
        return self._add(request, 0.5)

    def on_preempt(self, request: RequestView, now: float) -> Moved:
        return self._add(request, -0.25)

    def on_finish(self, request: RequestView, now: float) -> Moved:
        del self.here[request.tenant][request.request_id]
        return self._add(request, 2)


@dataclass(eq=False)
class FewestOfTenant(Policy):
    """Serves the tenant first of which fewest requests are here; when a change comes it has nothing to do."""

    shares_state = True

    def __post_init__(self) -> None:
        self.here: dict[Any, dict[str, None]] = {}

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        here = self.here.setdefault(request.tenant, {})
        here[request.request_id] = None
        return here

    def priority(self, request: RequestView, now: float) -> tuple[float, ...]:
        return len(self.here[request.tenant]), request.steps_run // 8

    def next_change(self, request: RequestView, now: float) -> Change:
        return Change(after_steps_run=8 - request.steps_run % 8)

    def on_finish(self, request: RequestView, now: float) -> Moved:
        del self.here[request.tenant][request.request_id]
        return self.here[request.tenant]


@dataclass(eq=False)
class LevelsOfSession(Policy):
    """A request sinks as it is served, the sooner the more its session has been served."""

    reads_sessions = True

    def __post_init__(self) -> None:
        self.level: dict[str, int] = {}

    def on_arrival(self, request: RequestView, now: float) -> None:
        self.level[request.request_id] = 0

    def priority(self, request: RequestView, now: float) -> float:
        return self.level[request.request_id] + (request.session_service > 1)

    def next_change(self, request: RequestView, now: float) -> Change:
        steps = 3 + int(10 * request.session_service) % 7
        return Change(0.2 + 0.1 * request.session_wait, after_steps_run=steps, after_steps_idle=20)

    def on_change(self, request: RequestView, now: float) -> None:
        self.level[request.request_id] += 1 + (request.session_service > 0.5) + request.steps_run % 3

    def on_finish(self, request: RequestView, now: float) -> None:
        del self.level[request.request_id]


KINDS = [FewestCached, LeastServedSession, FairShare, FewestOfTenant, LevelsOfSession]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    preemptive=st.booleans(),
    controlled=st.sampled_from([False, False, True]),
    plain=st.one_of(traces(), conversations()),
    config=configs(),
    ahead=st.booleans(),
    seed=st.integers(0, 99),
)
def test_leaping_is_stepping(
    kind: Any, preemptive: bool, controlled: bool, plain: Trace, config: Any, ahead: bool, seed: int
) -> None:
    requests = with_owners(plain, seed)
    if ahead:
        config = config.model_copy(update={"async_scheduling": True})

    def run(leap: bool) -> Any:
        policy = kind(preemptive=preemptive)
        if controlled:
            policy = StarvationControl(policy, 20, 5)
        try:
            return simulate(requests, policy, Linear(), config, leap=leap)
        except InputError as error:
            return str(error)

    one, other = run(False), run(True)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        same(one, other)


def test_who_makes_room_for_lack_of_blocks_is_chosen_by_the_priorities_that_the_step_began_with() -> None:
    """A request was displaced in this step, which moved others of its tenant: from the next step on."""
    requests = with_owners(trace(60, 20.0, 198834, longest=400), 34)
    config = engine_config(
        "vllm-v1",
        vllm_version="0.30.0",
        max_num_seqs=16,
        max_model_len=400,
        block_size=32,
        num_gpu_blocks=29,
        enable_prefix_caching=False,
        enable_chunked_prefill=False,
        long_prefill_token_threshold=50,
        scheduler_reserve_full_isl=False,
    )

    def run(leap: bool) -> RunRecord:
        policy = StarvationControl(FairShare(preemptive=False), 20, 5)
        return simulate(requests, policy, Linear(), config, leap=leap)

    same(run(False), run(True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preemptive", [False, True])
def test_it_leaps(kind: Any, preemptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In overload too, where somebody waits."""

    def refused(reason: str) -> CannotLeap:
        raise AssertionError(reason)

    for module in (changes, leaping_blocks):
        monkeypatch.setattr(module, "CannotLeap", refused)
    requests = with_owners(trace(60, 20.0, 5), 1)
    assert simulate(requests, kind(preemptive=preemptive), Linear(), CONFIG).finished.all()


@pytest.mark.parametrize("policy", [FewestOfTenant(), LevelsOfSession(), LeastServedSession(), Vtc(), Plas()])
@pytest.mark.parametrize("ahead", [False, True])
def test_steps_are_not_formed_one_by_one_while_nobody_waits(
    policy: Policy, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the order is of no concern, though what happens to one request moves others."""
    formed = []
    schedule = VllmV1Leap.schedule
    monkeypatch.setattr(VllmV1Leap, "schedule", lambda self, now: formed.append(now) or schedule(self, now))
    config = engine_config(
        max_num_seqs=64, num_gpu_blocks=5000, max_model_len=1500, enable_prefix_caching=False,
        async_scheduling=ahead,
    )  # fmt: skip
    assert simulate(with_owners(trace(60, 2.0, 5), 1), policy, Linear(), config).finished.all()
    assert len(formed) < 5


@pytest.mark.parametrize(
    "name", ["num_cached_tokens", "prompt_blocks", "session_service", "session_wait", "critical_path_service"]
)
@pytest.mark.parametrize("leap", [False, True])
def test_what_is_read_must_be_declared(name: str, leap: bool) -> None:
    class Reader(Policy):
        def priority(self, request: RequestView, now: float) -> float:
            return float(getattr(request, name))

    with pytest.raises(InputError, match=f"a policy that reads {name} says so"):
        simulate(trace(60, 0.0, 5), Reader(), Linear(), CONFIG, leap=leap)


def test_what_a_view_tells_of_its_trace() -> None:
    """Seconds that are asked for, class, session and the number of the turn in it."""
    seen: dict[str, tuple[Any, ...]] = {}

    class Spy(Policy):
        def on_arrival(self, request: RequestView, now: float) -> None:
            seen[request.request_id] = (
                request.slo_ttft, request.slo_tpot, request.deadline, request.request_class,
                request.session_id, request.turn,
            )  # fmt: skip

        def priority(self, request: RequestView, now: float) -> float:
            return 0.0

    plain = trace(3, 1.0, 5).with_columns(
        slo_ttft=np.array([0.5, np.nan, 2.0]),
        deadline=np.array([np.nan, 60.0, 5.0]),
        request_class=["chat", None, "batch"],
        session_id=["a", "b", "a"],
    )
    simulate(plain, Spy(), Linear(), CONFIG)
    assert seen == {
        "0": (0.5, None, None, "chat", "a", 0),
        "1": (None, None, 60.0, None, "b", 0),
        "2": (2.0, None, 5.0, "batch", "a", 1),
    }
