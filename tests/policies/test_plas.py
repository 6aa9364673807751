"""Program- and thread-level attained service: levels and promotions by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.atlas import Atlas
from simsched.policies.base import Policy
from simsched.policies.plas import Plas
from simsched.policies.uncached_first import UncachedFirst
from simsched.record import RunRecord
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same, trace
from tests.policies.view import View
from validate.small_sessions import SMALL


def test_a_call_starts_where_its_session_stands_and_goes_down() -> None:
    """Levels end at 1, 3 and 7 s."""
    policy = Plas(levels=4, quantum=1.0)
    call = View("c", session_id="s", session_service=2.0)
    policy.on_arrival(call, 0.0)
    assert policy.priority(call, 0.0) == 1
    call.steps_run, call.attained_service = 5, 0.75
    assert policy.next_change(call, 1.0).after_service == 2.0 - 0.75  # it has the whole of the level's time
    call.attained_service = 2.0
    assert policy.priority(call, 1.0) == 1  # a level includes its end
    call.attained_service = 2.01
    assert policy.priority(call, 1.0) == 2
    assert policy.next_change(call, 1.0).after_service == pytest.approx(4.0 - 0.01)
    call.session_service = 50.0  # what others of its session attain beside it
    assert policy.priority(call, 1.0) == 2
    call.attained_service = 100.0
    assert policy.priority(call, 1.0) == 3
    assert policy.next_change(call, 1.0).after_service is None


def test_who_waits_for_too_long_goes_to_the_top_and_counts_anew() -> None:
    policy = Plas(levels=4, quantum=1.0, starvation_ratio=2.0)
    call = View("c", session_id="s", session_service=4.0, steps_idle=1)
    policy.on_arrival(call, 0.0)
    assert policy.priority(call, 3.0) == 2
    assert policy.next_change(call, 3.0).after_time == 2 * 4.0 - 3.0
    policy.on_change(call, 7.0)
    assert policy.priority(call, 7.0) == 2
    policy.on_change(call, 8.0)
    assert policy.priority(call, 8.0) == 0
    call.steps_idle, call.attained_service = 0, 1.5
    assert policy.priority(call, 9.5) == 1
    call.steps_idle = 1  # its own waiting counts anew, its session's service stays
    assert policy.next_change(call, 9.5).after_time == 2 * (4.0 + 1.5)


def test_the_ratio_is_of_the_whole_session() -> None:
    """(3 + w) / (1 + 0.5) = 4 after w = 3 s of its own waiting; what is its own counts anew from there."""
    policy = Plas(levels=4, quantum=0.1, starvation_ratio=4.0)
    call = View("c", session_id="s", session_service=1.0, session_wait=3.0)
    call.steps_run, call.steps_idle, call.attained_service = 4, 1, 0.5
    policy.on_arrival(call, 0.0)
    assert policy.next_change(call, 0.5).after_time == 4 * 1.5 - 3.0
    policy.on_change(call, 3.5)
    assert policy.priority(call, 3.5) == 0
    # another turn of its session is done after 0.15 s of service, and it has had 0.15 s itself
    call.session_service += 0.15
    assert policy.priority(call, 3.5) == 0
    call.attained_service += 0.15
    assert policy.priority(call, 3.65) == 1
    assert policy.next_change(call, 3.65).after_time == pytest.approx(4 * (1.15 + 0.15) - 3.0)


def test_who_has_just_arrived_is_on_the_way_to_the_top() -> None:
    policy = Plas(levels=4, quantum=1.0, starvation_ratio=2.0)
    call = View("c", session_id="s", session_service=4.0)
    policy.on_arrival(call, 0.0)
    assert policy.next_change(call, 0.0).after_time == 8.0
    call.steps_run = 1
    assert policy.next_change(call, 0.0).after_time is None  # it runs


def test_atlas_counts_the_critical_path_alone() -> None:
    """Levels end at 1, 3 and 7 s; the session has had 9 s, the chain that led to this call 2."""
    policy = Atlas(levels=4, quantum=1.0)
    call = View("c", session_id="s", session_service=9.0, critical_path_service=2.0)
    policy.on_arrival(call, 0.0)
    assert policy.priority(call, 0.0) == 1
    call.attained_service = 1.5
    assert policy.priority(call, 0.0) == 1
    call.attained_service = 2.5
    assert policy.priority(call, 0.0) == 2


def test_a_fan_out_and_its_join_by_hand() -> None:
    """One second a step, one token a step. r0 (2 tokens) leads to r1 (3) and r2 (1), these to r3; r4 is of no
    session. r1 and r2 run side by side: r3 starts with 2 + 3 = 5 s of critical path, of 6 s of service."""
    seen: dict[str, tuple[float, float, float]] = {}

    class Spy(Policy):
        reads_sessions = True

        def on_arrival(self, request: RequestView, now: float) -> None:
            seen[request.request_id] = (
                request.session_service, request.session_wait, request.critical_path_service
            )  # fmt: skip

        def priority(self, request: RequestView, now: float) -> float:
            return 0.0

    work = Trace(
        np.zeros(5), np.full(5, 8), np.array([2, 3, 1, 1, 1]), request_id=[f"r{row}" for row in range(5)],
        session_id=["s", "s", "s", "s", None], parent=[(), ("r0",), ("r0",), ("r1", "r2"), ()],
        think_times=np.array([math.nan, 0.5, 0.5, 0.5, math.nan]), history_length=np.zeros(5, dtype=np.int64),
    )  # fmt: skip
    for leap in (False, True):
        seen.clear()
        config = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=512)
        simulate(work, Spy(), LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0), config, leap=leap)
        assert seen == {
            "r0": (0.0, 0.0, 0.0),
            "r1": (2.0, 0.0, 2.0),
            "r2": (2.0, 0.0, 2.0),
            "r3": (6.0, 0.0, 5.0),
            "r4": (0.0, 0.0, 0.0),
        }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=st.sampled_from([Plas, Atlas]),
    seed=st.integers(0, 10_000),
    preemptive=st.booleans(),
    ratio=st.sampled_from([0.5, 3.0, math.inf]),
    slots=st.sampled_from([1, 3, 16]),
    ahead=st.booleans(),
)
def test_leaping_is_stepping(
    policy: type[Plas], seed: int, preemptive: bool, ratio: float, slots: int, ahead: bool
) -> None:
    """In sessions that fan out and join, whose calls wait for their parents."""
    random = np.random.default_rng(seed)
    plain = trace(30, 8.0, seed, longest=300)
    n = len(plain)
    session = random.integers(4, size=n)
    parents: list[tuple[str, ...]] = []
    for row in range(n):
        before = [str(each) for each in range(row) if session[each] == session[row]]
        some = random.choice(before, size=min(len(before), 2), replace=False) if before else []
        parents.append(tuple(map(str, some)))
    work = plain.with_columns(
        session_id=[f"s{each}" for each in session], parent=parents,
        history_length=np.zeros(n, dtype=np.int64),
        think_times=np.where([not each for each in parents], np.nan, random.exponential(0.2, n)),
    )  # fmt: skip
    config = engine_config(
        max_num_seqs=slots, num_gpu_blocks=60, max_model_len=320, max_num_batched_tokens=128,
        async_scheduling=ahead,
    )  # fmt: skip

    def run(leap: bool) -> RunRecord | str:
        made = policy(preemptive=preemptive, quantum=0.05, levels=5, starvation_ratio=ratio)
        try:
            return simulate(work, made, Linear(), config, leap=leap)
        except InputError as error:
            return str(error)  # they displace each other for ever

    one, other = run(False), run(True)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        same(one, other)
        assert one.finished.all()


def test_in_a_chain_atlas_is_plas() -> None:
    """Each turn has one parent, and all of them are on the critical path."""
    work = SMALL.generate(40, arrivals="sessions(4)", seed=1)
    config = engine_config(max_num_seqs=3, num_gpu_blocks=200, max_model_len=1100)
    same(*(simulate(work, made(quantum=0.05), Linear(), config) for made in (Plas, Atlas)))


def test_uncached_first() -> None:
    policy = UncachedFirst(starvation_steps=10)
    short, long = View("a", num_prompt_tokens=100), View("b", num_prompt_tokens=400, num_cached_tokens=320)
    assert policy.priority(short, 0.0) == (2, 100)
    assert policy.priority(long, 0.0) == (2, 80)
    short.steps_idle = 4
    assert policy.next_change(short, 0.0).after_steps_idle == 6
    short.steps_idle = 10
    assert policy.priority(short, 0.0) < policy.priority(long, 0.0)
    short.steps_run = 1
    assert policy.priority(short, 0.0) == (0, 0.0)
