"""Turns that wait for answers: by hand, and what holds whatever the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cost_model.base import CostModel
from simsched.cost_model.models import LinearCost
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig, ResolvedConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError, RunError
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.spec import make_router
from simsched.workload.sessions import as_arrived, sessions_of, waits_for
from simsched.workload.starts import with_arrivals
from simsched.workload.trace import Trace
from tests.engine.scenarios import configs, same, trace, traces

SECOND = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)
COST = LinearCost(t0=0.0113, a=5.32e-5, b=6.42e-5, c=8.07e-8, d=3.68e-9)
ROOMY = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=512)


def run(
    work: Trace,
    config: ResolvedConfig,
    spec: str = "fcfs",
    *,
    cost: CostModel = COST,
    replicas: int = 1,
    router: str | None = None,
    leap: bool = True,
) -> RunRecord:
    behind = None if router is None else make_router(router)
    return simulate(work, make_policy(spec), cost, config, leap=leap, num_replicas=replicas, router=behind)


def graph(
    times: Sequence[float],
    thinks: Sequence[float | None],
    parents: Sequence[tuple[str, ...]],
    outputs: Sequence[int],
) -> Trace:
    n = len(times)
    return Trace(
        np.array(times), np.full(n, 8), np.array(outputs), request_id=[f"r{row}" for row in range(n)],
        parent=list(parents), think_times=np.array([math.nan if each is None else each for each in thinks]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("thinks", "parents", "outputs", "arrivals"),
    [
        # a chain: one second a token, and the think time from the answer on
        ([None, 2.5, 0], [(), ("r0",), ("r1",)], [2, 3, 1], [0, 4.5, 7.5]),
        # fan-out: both at once, in one batch
        ([None, 1, 1], [(), ("r0",), ("r0",)], [1, 2, 4], [0, 2, 2]),
        # join: after the last of its parents
        ([None, 1, 1, 0.5], [(), ("r0",), ("r0",), ("r1", "r2")], [1, 2, 4, 1], [0, 2, 2, 6.5]),
        # a row with a time of its own waits for nobody
        ([None, None, 1], [(), ("r0",), ("r1",)], [9, 1, 1], [0, 0, 2]),
    ],
)
def test_turns_arrive_when_their_parents_have_answered(
    thinks: list[float | None], parents: list[tuple[str, ...]], outputs: list[int], arrivals: list[float]
) -> None:
    work = graph([0.0] * len(thinks), thinks, parents, outputs)
    for leap in (False, True):
        record = run(work, ROOMY, cost=SECOND, leap=leap)
        assert record.arrival_time.tolist() == arrivals
        assert record.finished.all()


def test_without_parent_a_turn_follows_the_one_before_it_in_its_session() -> None:
    work = Trace(
        np.array([0.0, 0.25, 0.25, 0.25]), np.full(4, 8), np.array([3, 1, 1, 1]),
        session_id=["a", "b", "a", "b"], think_times=np.array([math.nan, math.nan, 1.0, 10.0]),
    )  # fmt: skip
    # a's first is done at 3; b's first joins it at 1 and is done at 2
    assert run(work, ROOMY, cost=SECOND).arrival_time.tolist() == [0.0, 0.25, 4.0, 12.0]


def test_a_turn_hits_what_its_parent_left_in_the_cache() -> None:
    """Full blocks of prompt and answer, whose last token is never computed: 40 + 24 - 1 = 63, so 3 of 16."""
    work = Trace(
        np.zeros(2), np.array([40, 100]), np.array([24, 4]), session_id=["a", "a"],
        think_times=np.array([math.nan, 1.0]),
    )  # fmt: skip
    record = run(work, ROOMY, cost=SECOND)
    assert record.num_cached_tokens is not None
    assert record.num_cached_tokens.tolist() == [0, 48]


def chats(n: int, turns: int) -> Trace:
    """n requests in sessions of so many turns; a prompt is the one before it, its answer and a few tokens."""
    random = np.random.default_rng(5)
    prompts, outputs = random.integers(8, 90, n), random.integers(1, 60, n)
    for row in range(n):
        if row % turns:
            prompts[row] += prompts[row - 1] + outputs[row - 1]
    return Trace(
        np.zeros(n), prompts, outputs, session_id=[str(row // turns) for row in range(n)],
        think_times=np.where(np.arange(n) % turns == 0, math.nan, random.exponential(0.7, n)),
    )  # fmt: skip


def test_a_router_by_session_finds_more_in_the_caches_than_one_that_takes_turns() -> None:
    work = with_arrivals(chats(800, 5), "sessions(rate=8)", None, 2)
    config = engine_config(max_num_seqs=16, num_gpu_blocks=1500, max_model_len=1024)
    share = {}
    for router in ("session", "round-robin"):
        cached = run(work, config, replicas=4, router=router).num_cached_tokens
        assert cached is not None
        share[router] = cached.sum() / work.num_prompt_tokens.sum()
    assert share["session"] > 1.3 * share["round-robin"]


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_sessions_are_what_a_trace_of_their_arrivals_is(caching: bool, ahead: bool) -> None:
    """The engine does for turns what it does for requests with time stamps, which is compared with
    vLLM's scheduler."""
    work = with_arrivals(chats(240, 4), "sessions(rate=5)", None, 2)
    config = engine_config(
        max_num_seqs=6, num_gpu_blocks=64, max_model_len=1024, enable_prefix_caching=caching,
        async_scheduling=ahead,
    )  # fmt: skip
    record = run(work, config)
    order = np.argsort(record.arrival_time, kind="stable")
    assert (np.diff(record.arrival_time[order]) > 0).all()
    again = run(as_arrived(work, record.arrival_time), config)
    assert (again.finish_time == record.finish_time[order]).all()
    assert (again.first_token_time == record.first_token_time[order]).all()
    assert (again.num_preemptions == record.num_preemptions[order]).all()
    assert record.num_preemptions.any()
    if caching:
        assert again.num_cached_tokens is not None
        assert record.num_cached_tokens is not None
        assert record.num_cached_tokens.any()
        assert (again.num_cached_tokens == record.num_cached_tokens[order]).all()


def test_users_keep_so_many_sessions_alive() -> None:
    """Two turns each, of one token and two, with two seconds between; the third starts when one has ended."""
    work = Trace(
        np.zeros(6), np.full(6, 8), np.array([1, 2] * 3), session_id=["a", "a", "b", "b", "c", "c"],
        think_times=np.array([math.nan, 2.0] * 3),
    )  # fmt: skip
    record = run(with_arrivals(work, "users(2)", None, 0), ROOMY, cost=SECOND)
    assert record.arrival_time.tolist() == [0.0, 3.0, 0.0, 3.0, 5.0, 8.0]


def test_users_and_sessions_of_one_request_are_closed_loop_and_poisson() -> None:
    work = trace(80, 20.0, 4, longest=400)
    for ours, theirs in (("users(5)", "closed(users=5)"), ("sessions(rate=9)", "poisson")):
        one = run(with_arrivals(work, ours, None, 3), ROOMY)
        other = run(with_arrivals(work, theirs, 9.0 if theirs == "poisson" else None, 3), ROOMY)
        same(one, other)
        assert (one.arrival_time == other.arrival_time).all()


def test_a_request_rate_of_sessions_counts_their_turns() -> None:
    work = Trace(
        np.array([0.0, 0.0, 5.0, 5.0, 9.0, 9.0]), np.full(6, 8), np.full(6, 2),
        session_id=["a", "a", "b", "b", "c", "c"], think_times=np.array([math.nan, 2.0] * 3),
    )  # fmt: skip
    moved = with_arrivals(work, "sessions", 3.0, 1)
    assert (
        moved.arrival_time.tolist()
        == with_arrivals(work, "sessions(rate=1.5)", None, 1).arrival_time.tolist()
    )


@st.composite
def sessions(draw: st.DrawFn) -> Trace:
    """Requests of which many wait for one or two of those above them."""
    work = draw(traces())
    random = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    thinks = np.full(len(work), math.nan)
    parents: list[tuple[str, ...]] = []
    for row in range(len(work)):
        parents.append(())
        if row and random.random() < 0.7:
            thinks[row] = random.choice([0.0, 0.01, 0.5, 3.0])
            chosen = {int(each) for each in random.integers(max(0, row - 6), row, random.integers(1, 3))}
            parents[row] = tuple(str(each) for each in sorted(chosen))
    return replace(work, think_times=thinks, parent=parents)


BY_CONTENT = ("session", "cache-aware", "llm-d(kv_events=true)")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    work=sessions(),
    config=configs(),
    spec=st.sampled_from(["fcfs", "priority", "srtf", "mlfq", "ranking"]),
    starts=st.sampled_from([None, None, "users(3)", "sessions(rate=4)"]),
    ahead=st.booleans(),
    where=st.sampled_from([None, "round-robin", "least-requests", "vllm-dp", "oracle-work", *BY_CONTENT]),
    replicas=st.integers(1, 3),
)
def test_no_turn_before_its_parents_nothing_lost_and_leaping_is_stepping(
    work: Trace,
    config: EngineConfig,
    spec: str,
    starts: str | None,
    ahead: bool,
    where: str | None,
    replicas: int,
) -> None:
    assert isinstance(config, ResolvedConfig)
    resolved = config.model_copy(update={"async_scheduling": ahead})
    replicas = 1 if where is None else replicas
    try:
        work, _ = check_admissible(work, resolved, skip_invalid=True)
        work = work.with_columns(closed_loop_users=None)
        if starts is not None:
            work = with_arrivals(work, starts, None, 1)
        stepped = run(work, resolved, spec, replicas=replicas, router=where, leap=False)
    except (InputError, RunError):
        return
    record = run(work, resolved, spec, replicas=replicas, router=where)
    same(stepped, record)
    assert (record.arrival_time == stepped.arrival_time).all()
    assert record.finished.all()
    assert work.think_times is not None
    for row, rows in enumerate(waits_for(work)):
        if rows:
            answered = max(record.finish_time[each] for each in rows)
            assert record.arrival_time[row] == answered + work.think_times[row]
        elif work.closed_loop_users is None:
            assert record.arrival_time[row] == work.arrival_time[row]
    if work.closed_loop_users is not None:
        session = sessions_of(work)
        first = np.array([record.arrival_time[session == each].min() for each in range(session.max() + 1)])
        last = np.array([record.finish_time[session == each].max() for each in range(session.max() + 1)])
        for start in first:
            assert ((first <= start) & (last > start)).sum() <= work.closed_loop_users


def test_turns_that_wait_for_one_that_does_not_fit_are_dropped_with_it() -> None:
    work = graph([0.0] * 4, [None, 1, 1, None], [(), ("r0",), ("r1",), ()], [1, 900, 1, 1])
    kept, counts = check_admissible(work, ROOMY, skip_invalid=True)
    assert kept.request_ids() == ["r0", "r3"]
    assert sum(counts.values()) == 2
