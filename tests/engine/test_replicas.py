"""Replicas that get their requests delivered: leaping is stepping, and one of them is what a lone one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import HostedCost
from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import RunError
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.base import Replicas, Reporting, RoutedRequest, Router, least, registered
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.scenarios import configs, conversations, same, shared_prefixes, trace, traces
from tests.engine.test_leap_async import costs

COST = LinearCost(t0=0.0113, a=5.32e-5, b=6.42e-5, c=8.07e-8, d=3.68e-9)
POLICIES = ["fcfs", "priority", "srtf", "mlfq", "ranking(starvation_threshold=20,starvation_period=5)"]


@dataclass(eq=False)
class LeastLoaded(Router):
    """That with the fewest requests at this moment, those that wait counted four times."""

    def reporting(self) -> Reporting:
        return Reporting("scraped", 0.0)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return least(
            [4 * waits + runs for waits, runs in zip(replicas.waiting, replicas.running, strict=True)]
        )


def run(
    work: Trace,
    spec: str,
    config: EngineConfig,
    replicas: int,
    router: str | Router | None,
    leap: bool = True,
    cost: CostModel | HostedCost = COST,
) -> RunRecord:
    return simulate(
        work, make_policy(spec), cost, config, leap=leap, num_replicas=replicas, predictor_time=0.001,
        router=make_router(router) if isinstance(router, str) else router,
    )  # fmt: skip


@pytest.mark.parametrize("spec", POLICIES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(work=traces(), config=configs())
def test_one_replica_behind_a_router_is_a_lone_one(spec: str, work: Trace, config: EngineConfig) -> None:
    """Its leaps are promises that each arrival interrupts; a lone one knows when the next comes."""
    try:
        lone = run(work, spec, config, 1, None)
    except Exception as error:
        with pytest.raises(type(error)):
            run(work, spec, config, 1, "least-requests")
        return
    same(lone, run(work, spec, config, 1, "least-requests"))


@pytest.mark.parametrize("users", [None, 24])
@pytest.mark.parametrize(
    "router", ["round-robin", LeastLoaded(), "vllm-dp", "dynamo", "oracle-work", "llm-d"]
)
@pytest.mark.parametrize("spec", POLICIES)
def test_replicas_leap_as_they_step(spec: str, router: str | Router, users: int | None) -> None:
    work = trace(240, 30.0, 7, longest=900).with_columns(closed_loop_users=users)
    config = engine_config(max_num_seqs=10, num_gpu_blocks=220, max_model_len=1024)
    stepped = run(work, spec, config, 3, router, leap=False)
    same(stepped, run(work, spec, config, 3, router))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    work=st.one_of(traces(), conversations()),
    config=configs(),
    cost=costs(),
    users=st.sampled_from([None, 3, 24]),
    replicas=st.integers(1, 3),
    router=st.sampled_from(
        [LeastLoaded(), "least-requests", "vllm-dp", "dynamo", "oracle-work", "llm-d(interval=0.02)"]
    ),
    spec=st.sampled_from(POLICIES),
)
def test_replicas_one_step_ahead_leap_as_they_step(
    work: Trace,
    config: EngineConfig,
    cost: CostModel | HostedCost,
    users: int | None,
    replicas: int,
    router: str | Router,
    spec: str,
) -> None:
    """Also in what the router is told, and when: by the `stretch` of the clock, or step by step."""
    config = config.model_copy(update={"async_scheduling": True})
    work = work.with_columns(closed_loop_users=users)
    try:
        stepped = run(work, spec, config, replicas, router, leap=False, cost=cost)
    except RunError:
        return  # a policy that displaces for ever
    leapt = run(work, spec, config, replicas, router, cost=cost)
    same(stepped, leapt)
    assert stepped.replica is not None
    assert leapt.replica is not None
    assert stepped.replica.tolist() == leapt.replica.tolist()


@pytest.mark.parametrize("spec", ["fcfs", "srtf", "mlfq", "classification"])
def test_replicas_of_the_fork_leap_as_they_step(spec: str) -> None:
    work = trace(200, 30.0, 7, longest=900)
    config = engine_config("vllm-0.4.1-ltr", max_num_seqs=10, num_gpu_blocks=220, max_model_len=1024)
    stepped = run(work, spec, config, 3, LeastLoaded(), leap=False)
    same(stepped, run(work, spec, config, 3, LeastLoaded()))


def test_replicas_share_no_prefix() -> None:
    work = shared_prefixes(trace(120, 20.0, 3, longest=1000), 4)
    config = engine_config(max_num_seqs=16, num_gpu_blocks=120, max_model_len=1500)
    stepped = run(work, "fcfs", config, 2, "round-robin", leap=False)
    same(stepped, run(work, "fcfs", config, 2, "round-robin"))


def test_each_replica_serves_its_own_as_if_it_were_alone() -> None:
    """What is sent to one of them depends on nothing that the others do."""
    work = trace(200, 20.0, 9, longest=900)
    config = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=1024)
    whole = run(work, "mlfq", config, 2, "round-robin")
    for k in range(2):
        mine = np.arange(k, len(work), 2)
        alone = run(work.take(mine), "mlfq", config, 1, None)
        assert (whole.finish_time[mine] == alone.finish_time).all()
        assert (whole.num_preemptions[mine] == alone.num_preemptions).all()


def test_requests_that_arrive_as_a_step_ends_are_seen_by_the_next() -> None:
    """Users without think time send in the very moment that their answers end."""
    work = trace(60, 0.0, 2, longest=200).with_columns(closed_loop_users=6)
    config = engine_config(max_num_seqs=3, num_gpu_blocks=200, max_model_len=512)
    record = run(work, "fcfs", config, 2, "round-robin")
    assert record.finished.all()
    later = record.arrival_time > 0
    assert set(record.arrival_time[later].tolist()) <= set(record.finish_time.tolist())


HEARING = ("llm-d(kv_events=true)", "dynamo(kv_events=true,event_delay=0)")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    work=traces(),
    config=configs(),
    replicas=st.integers(1, 5),
    router=st.sampled_from([*sorted(registered()), "cache-aware(holder=first)", *HEARING]),
    spec=st.sampled_from(POLICIES),
    seed=st.integers(0, 3),
)
def test_every_request_is_served_once_wherever_it_goes(
    work: Trace, config: EngineConfig, replicas: int, router: str, spec: str, seed: int
) -> None:
    work = work.with_columns(predicted_length=work.num_output_tokens.astype(float))

    def once() -> RunRecord:
        return simulate(
            work,
            make_policy(spec),
            COST,
            config,
            num_replicas=replicas,
            router=make_router(router),
            seed=seed,
        )

    try:
        record = once()
    except RunError:
        return  # a policy that displaces for ever
    assert record.replica is not None
    assert ((record.replica >= 0) & (record.replica < replicas)).all()
    assert record.finished.all()
    assert (record.arrival_time <= record.first_scheduled_time).all()
    assert (record.first_scheduled_time < record.first_token_time).all()
    assert (record.first_token_time <= record.finish_time).all()
    again = once()
    assert (record.replica == again.replica).all()
    same(record, again)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    work=traces(),
    config=configs(),
    ahead=st.booleans(),
    replicas=st.integers(1, 4),
    router=st.sampled_from(["round-robin", "random", "session"]),
    spec=st.sampled_from(POLICIES),
)
def test_what_is_dealt_out_beforehand_is_served_as_what_is_delivered(
    work: Trace, config: EngineConfig, ahead: bool, replicas: int, router: str, spec: str
) -> None:
    """A router that looks at no replica is asked for all requests at once, or for each as it comes."""

    class AsItComes(type(make_router(router))):  # type: ignore[misc]
        looks_at_replicas = True

    config = config.model_copy(update={"async_scheduling": ahead})
    try:
        delivered = run(work, spec, config, replicas, AsItComes())
    except RunError:
        with pytest.raises(RunError):
            run(work, spec, config, replicas, router)
        return
    dealt = run(work, spec, config, replicas, router)
    same(delivered, dealt)
    assert delivered.replica is not None
    assert dealt.replica is not None
    assert delivered.replica.tolist() == dealt.replica.tolist()


def test_a_router_with_a_rule_of_its_own_looks_at_replicas_unless_it_says_otherwise() -> None:
    static = {name for name, router in registered().items() if not router.looks_at_replicas}
    assert static == {"round-robin", "random", "session"}

    class Fullest(type(make_router("round-robin"))):  # type: ignore[misc]
        def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
            return replicas.in_flight.index(max(replicas.in_flight))

    assert Fullest.looks_at_replicas
