"""Ranks that step together: a pass lasts as long as the slowest rank's, idle ones run dummy batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost, LaunchMode
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import load_profile
from simsched.engine.config import EngineConfig, ResolvedConfig, engine_config
from simsched.engine.rank_cost import DUMMY, HostedRankCost, Shape, agreed_shape
from simsched.engine.simulator import Unit, simulate
from simsched.errors import InputError, RunError
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.base import Replicas, RoutedRequest, Router
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.scenarios import configs, same, trace, traces

COST = LinearCost(t0=0.0113, a=5.32e-5, b=6.42e-5, c=8.07e-8, d=3.68e-9)
UNIT = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0)
"""Every step takes a second."""
OLD, NEW = "0.28.0", "0.33.0"


@dataclass(eq=False)
class Given(Router):
    """To the ranks that a test says, in order of arrival."""

    ranks: tuple[int, ...] = ()

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self._next = iter(self.ranks)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        return next(self._next)


def ranks(**options: Any) -> ResolvedConfig:
    most: dict[str, Any] = {"num_gpu_blocks": 1000, "max_model_len": 1024}
    return engine_config(**(most | {"moe_data_parallel": True} | options))


def requests(*rows: tuple[float, int, int]) -> Trace:
    """Arrival in seconds, prompt, answer."""
    arrival, prompt, answer = zip(*rows, strict=True)
    return Trace(np.array(arrival), np.array(prompt), np.array(answer), name="ranks")


def run(
    work: Trace,
    config: ResolvedConfig,
    router: Router,
    num_ranks: int = 2,
    *,
    cost: CostModel | HostedCost = COST,
    policy: str = "fcfs",
    leap: bool = True,
    log: list[dict[str, Any]] | None = None,
) -> RunRecord:
    return simulate(
        work, make_policy(policy), cost, config, leap=leap, num_replicas=num_ranks, router=router,
        step_log=None if log is None else log.append,
    )  # fmt: skip


def passes(log: Sequence[dict[str, Any]], rank: int) -> list[tuple[float, dict[str, int]]]:
    return [(line["time"], line["scheduled"]) for line in log if line["replica"] == rank]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_two_ranks_and_three_steps(asynchronous: bool) -> None:
    """Prompts take 2 and 3 s, decodes 1 s. Each pass lasts as long as the longer; then one runs a dummy."""
    cost = LinearCost(t0=1.0, a=0.25, b=0.0, c=0.0, d=0.0)
    log: list[dict[str, Any]] = []
    config = ranks(async_scheduling=asynchronous)
    record = run(requests((0, 4, 2), (0, 8, 3)), config, Given((0, 1)), cost=cost, log=log)
    assert record.first_token_time.tolist() == [3.0, 3.0]
    assert record.finish_time.tolist() == [4.0, 5.0]
    assert passes(log, 0) == [(0.0, {"0": 4}), (3.0, {"0": 1}), (4.0, {})]
    assert passes(log, 1) == [(0.0, {"1": 8}), (3.0, {"1": 1}), (4.0, {"1": 1})]
    assert [line["dummy"] for line in log] == [False, False, False, False, True, False]
    assert [line["step_time"] for line in log] == [3.0, 3.0, 1.0, 1.0, 1.0, 1.0]
    first, second = record.rank_times
    assert (first.num_batches, first.num_dummies, second.num_batches, second.num_dummies) == (2, 1, 3, 0)
    assert (first.batch_seconds, first.dummy_seconds, first.waiting_seconds) == (4.0, 1.0, 1.0)
    assert second.waiting_seconds == 0.0


@pytest.mark.parametrize(
    ("arrival", "version", "asynchronous", "begins"),
    [
        # All ask each other in the first pass, so the idle rank waits for its end, and finds the request.
        (0.5, NEW, False, 1),
        # Without that it has looked for the second pass as the first one began.
        (0.5, OLD, False, 2),
        (1.0, NEW, False, 1),
        # It looks for the third pass as the second one begins, at 1 s.
        (1.5, NEW, False, 3),
        # One step ahead: the fourth pass is formed as the second one begins.
        (0.5, NEW, True, 3),
        (1.5, NEW, True, 4),
    ],
)
def test_when_an_idle_rank_finds_a_request(
    arrival: float, version: str, asynchronous: bool, begins: int
) -> None:
    log: list[dict[str, Any]] = []
    config = ranks(async_scheduling=asynchronous, vllm_version=version)
    work = requests((0, 4, 12), (arrival, 4, 1))
    record = run(work, config, Given((0, 1)), cost=UNIT, log=log)
    assert passes(log, 1)[begins] == (begins, {"1": 4})
    assert record.finish_time[1] == begins + 1


@pytest.mark.parametrize(
    ("options", "first_token"),
    [
        # They ask in the fourth pass, find nothing and are idle: the next request begins at once.
        ({"dp_sync_interval": 4}, 11.5),
        # They go on; as it comes (10.5) all have looked for the next pass (11 to 12) already.
        ({"dp_sync_interval": 40}, 13.0),
        ({}, 13.0),
        ({"vllm_version": OLD}, 13.0),
        # In every pass: the last one is that in which the first request is done.
        ({"dp_sync_interval": 1}, 11.5),
    ],
)
def test_idle_ranks_go_on_until_they_agree(options: dict[str, Any], first_token: float) -> None:
    record = run(requests((0, 4, 3), (10.5, 4, 1)), ranks(**options), Given((0, 1)), cost=UNIT)
    assert record.first_token_time.tolist() == [1.0, first_token]


@pytest.mark.parametrize(("version", "last"), [(OLD, 32), (NEW, 16)])
def test_how_long_a_wave_lasts(version: str, last: int) -> None:
    log: list[dict[str, Any]] = []
    work = requests((0, 4, 3), (100, 4, 1))
    run(work, ranks(vllm_version=version), Given((0, 1)), cost=UNIT, log=log)
    assert [time for time, _ in passes(log, 0)] == [*range(last), 100]


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_prefills_wait_for_the_ranks_pass(version: str) -> None:
    """With an interval of 3 the passes 0, 3, 6, ... of a wave may compute prompts, on all ranks alike."""
    log: list[dict[str, Any]] = []
    config = ranks(prefill_schedule_interval=3, vllm_version=version)
    work = requests((0, 4, 20), (0, 4, 20), (0.5, 4, 2), (3.5, 4, 2))
    run(work, config, Given((0, 1, 0, 1)), cost=UNIT, log=log)
    assert [time for time, batch in passes(log, 0) if "2" in batch] == [3.0, 4.0]
    assert [time for time, batch in passes(log, 1) if "3" in batch] == [6.0, 7.0]


@cache
def hosted() -> HostedCost:
    cost = load_profile("a100-80gb/llama-3-8b").step_cost(None, 0.0)
    assert isinstance(cost, HostedCost)
    return cost


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("with_host", [False, True])
def test_a_rank_whose_peers_are_idle_is_an_engine_alone(asynchronous: bool, with_host: bool) -> None:
    """The dummy batches of others take no longer than what it does."""
    cost = hosted() if with_host else COST
    work = trace(60, 0.0, 3, longest=600)
    options: dict[str, Any] = {"max_num_seqs": 64, "async_scheduling": asynchronous}
    alone = simulate(work, make_policy("fcfs"), cost, ranks(**options, moe_data_parallel=False))
    beside = run(work, ranks(**options), Given((1,) * 60), 3, cost=cost)
    for column in ("first_token_time", "finish_time", "max_itl"):
        assert (getattr(alone, column) == getattr(beside, column)).all()
    assert [each.num_batches > 0 for each in beside.rank_times] == [False, True, False]
    assert beside.rank_times[1].waiting_seconds == 0.0


def test_one_rank_is_an_engine() -> None:
    work = trace(80, 10.0, 4, longest=600)
    apart = run(work, ranks(moe_data_parallel=False), make_router("least-requests"), 1)
    same(run(work, ranks(), make_router("least-requests"), 1), apart)


@pytest.mark.parametrize(
    ("batches", "mode", "tokens", "computed"),
    [
        ([StepFeatures(N=100, K=9000), StepFeatures(N=10, K=50)], LaunchMode.FULL, 100, [104, 104]),
        ([StepFeatures(P=20, S=1, Q=200.0), DUMMY], LaunchMode.PIECEWISE, 20, [24, 24]),
        ([StepFeatures(P=900, S=2, Q=9e4), StepFeatures(N=3, K=9)], LaunchMode.NONE, 900, [900, 3]),
    ],
)
def test_ranks_agree_on_a_shape(
    batches: list[StepFeatures], mode: LaunchMode, tokens: int, computed: list[int]
) -> None:
    """The mode of the one with the least of graphs, and with graphs the tokens of the one with the most."""
    device = LinearCost(t0=0.0, a=1.0, b=1.0, c=0.0, d=0.0)
    whole = HostedCost(device=device, host=hosted().host, graphs=hosted().graphs)
    costs = [HostedRankCost(whole, ranks(max_num_seqs=256), 0.0, 0, {}) for _ in batches]
    shape = agreed_shape(costs, batches)
    assert shape == Shape(mode, tokens)
    assert [cost.device(batch, shape) for cost, batch in zip(costs, batches, strict=True)] == computed
    assert costs[1].launch(batches[1], shape)[0] == hosted().host.launch(batches[1], mode)


@pytest.mark.parametrize("asynchronous", [False, True])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    work=traces(),
    config=configs(),
    num_ranks=st.integers(2, 4),
    router=st.sampled_from(["round-robin", "vllm-dp", "llm-d", "oracle-work", "dynamo(kv_events=true)"]),
    policy=st.sampled_from(["fcfs", "priority", "srtf", "mlfq"]),
)
def test_nothing_is_lost_and_the_slowest_rank_decides(
    asynchronous: bool, work: Trace, config: EngineConfig, num_ranks: int, router: str, policy: str
) -> None:
    config = config.model_copy(update={"moe_data_parallel": True, "async_scheduling": asynchronous})
    assert isinstance(config, ResolvedConfig)
    log: list[dict[str, Any]] = []
    try:
        stepped = run(work, config, make_router(router), num_ranks, policy=policy, log=log)
    except RunError:
        return
    assert stepped.finished.all()
    # Engines that make a step of all decoding requests at once give the same, to the last bit.
    same(stepped, run(work, config, make_router(router), num_ranks, policy=policy))
    # All ranks are in each pass, which lasts no shorter than each of their batches.
    groups = [log[first : first + num_ranks] for first in range(0, len(log), num_ranks)]
    ends = 0.0
    for group in groups:
        assert [line["replica"] for line in group] == list(range(num_ranks))
        assert len({(line["time"], line["step_time"]) for line in group}) == 1
        assert group[0]["time"] >= ends - 1e-9
        ends = group[0]["time"] + group[0]["step_time"]
        tokens = max(sum(line["scheduled"].values()) for line in group)
        assert group[0]["step_time"] >= COST.t0 + min(COST.a, COST.b) * tokens
        assert all(line["dummy"] == (not line["scheduled"]) for line in group)
    prompts = np.array([0.0] * len(work))
    for line in log:
        for name, computed in line["scheduled"].items():
            prompts[int(name)] += computed
    assert (prompts >= 1).all()
    for rank, times in enumerate(stepped.rank_times):
        mine = [line for line in log if line["replica"] == rank]
        assert times.num_batches == sum(not line["dummy"] for line in mine)
        assert 0 <= times.waiting_seconds <= times.batch_seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dp_sync_interval": 4}, "--dp-sync-interval 4: only ranks"),
        (
            {"dp_sync_interval": 4, "moe_data_parallel": True, "vllm_version": OLD},
            "--dp-sync-interval: vLLM 0.28.0 does not have it, 0.30 and later do",
        ),
        ({"dp_sync_interval": 0, "moe_data_parallel": True}, "--dp-sync-interval 0"),
        ({"prefill_schedule_interval": 2, "vllm_version": OLD}, "expected --moe-data-parallel, or"),
        ({"prefill_schedule_interval": 0}, "--prefill-schedule-interval 0"),
        ({"moe_data_parallel": True, "preset": "vllm-0.4.1-ltr"}, "no such option"),
        ({"prefill_schedule_interval": 2, "preset": "vllm-0.4.1-ltr"}, "no such option"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        EngineConfig(**options)
    assert message in str(error.value)


def test_ranks_may_differ_in_speed() -> None:
    """All wait for the slower GPU."""
    slow = LinearCost(t0=2.0, a=0.0, b=0.0, c=0.0, d=0.0)
    config = ranks()
    record = simulate(
        requests((0, 4, 3), (0, 4, 2)), make_policy("fcfs"), UNIT, config, num_replicas=2,
        router=Given((0, 1)), units=[Unit(UNIT, config), Unit(slow, config)],
    )  # fmt: skip
    assert record.finish_time.tolist() == [6.0, 4.0]
    assert record.rank_times[0].waiting_seconds == 3.0
