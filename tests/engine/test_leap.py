"""Leaping gives the reference's schedule: same steps, same times."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1 import policy_order
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.engine.vllm_v1.stepping import VllmV1
from simsched.errors import InputError
from simsched.policies.base import EVERY_STEP, Change, Policy
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import (
    POLICIES,
    Linear,
    configs,
    conversations,
    same,
    shared_prefixes,
    trace,
    traces,
)


def outcome(trace: Trace, spec: str, config: EngineConfig, leap: bool, predictor: float) -> RunRecord | str:
    """The record, or the message where requests displace each other for ever."""
    try:
        return simulate(trace, make_policy(spec), Linear(), config, leap=leap, predictor_time=predictor)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("spec", POLICIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trace=traces(),
    config=configs(),
    predictor=st.sampled_from([0.0, 0.0, 0.004]),
    stale=st.sampled_from([0, policy_order.STALE]),
)
def test_leaping_equals_stepping(
    trace: Trace, spec: str, config: EngineConfig, predictor: float, stale: int
) -> None:
    """However often the running requests are put in order anew."""
    stepped = outcome(trace, spec, config, False, predictor)
    with mock.patch.object(policy_order, "STALE", stale):
        leapt = outcome(trace, spec, config, True, predictor)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)


@pytest.mark.parametrize("spec", POLICIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=conversations(), config=configs(), predictor=st.sampled_from([0.0, 0.0, 0.004]))
def test_leaping_equals_stepping_with_shared_prefixes(
    trace: Trace, spec: str, config: EngineConfig, predictor: float
) -> None:
    config = config.model_copy(update={"enable_prefix_caching": True})
    stepped = outcome(trace, spec, config, False, predictor)
    leapt = outcome(trace, spec, config, True, predictor)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)


@pytest.mark.parametrize("spec", ["fcfs", "priority", "srtf", "mlfq"])
@pytest.mark.parametrize("caching", [True, False])
def test_shared_prefixes(spec: str, caching: bool) -> None:
    plain = trace(60, 20.0, 3, longest=1000)
    config = engine_config(
        max_num_seqs=16, num_gpu_blocks=120, max_model_len=1500, enable_prefix_caching=caching
    )
    shared = shared_prefixes(plain, 4)
    stepped = simulate(shared, make_policy(spec), Linear(), config, leap=False)
    same(stepped, simulate(shared, make_policy(spec), Linear(), config))
    if caching:
        unique = shared.with_columns(hash_ids=None)
        alone = simulate(unique, make_policy(spec), Linear(), config)
        assert stepped.first_token_time.sum() < alone.first_token_time.sum()


@pytest.mark.parametrize("spec", ["fcfs", "sjf", "srtf", "mlfq", "po"])
@pytest.mark.parametrize("load", [3.0, 9.0, 20.0])
def test_long_runs_at_the_presets_size(spec: str, load: float) -> None:
    """256 slots, leaps of hundreds of steps, and the way into and out of contention."""
    config = engine_config(num_gpu_blocks=3000, max_model_len=4096)
    work = trace(400, load, 11, longest=3000)
    stepped = simulate(work, make_policy(spec), Linear(), config, leap=False)
    same(stepped, simulate(work, make_policy(spec), Linear(), config))


def test_a_leap_leaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long answer alone takes a handful of scheduler calls, not one per token."""
    calls = 0
    original = VllmV1Leap.schedule

    def counted(self: VllmV1Leap, now: float):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        return original(self, now)

    monkeypatch.setattr(VllmV1Leap, "schedule", counted)
    work = trace(20, 0.01, 1).with_columns(closed_loop_users=1)
    record = simulate(
        work, make_policy("fcfs"), Linear(), engine_config(num_gpu_blocks=500, max_model_len=1500)
    )
    assert record.num_steps > 1000
    assert calls < 20 * 5


class Silent(Policy):
    """Says nothing about when its priorities change."""

    def priority(self, request: RequestView, now: float) -> float:
        return -request.num_output_tokens % 7

    def next_change(self, request: RequestView, now: float) -> Change:
        return EVERY_STEP


def test_a_policy_that_announces_nothing_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    work = trace(40, 30.0, 5)
    config = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=1500)
    stepped = simulate(work, Silent(), Linear(), config, leap=False)
    calls = 0
    original = VllmV1.schedule

    def counted(self: VllmV1, now: float):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        return original(self, now)

    monkeypatch.setattr(VllmV1, "schedule", counted)
    same(stepped, simulate(work, Silent(), Linear(), config))
    assert calls >= stepped.num_steps


@pytest.mark.parametrize(
    "spec",
    [
        "mlfq",
        "mlfq(starvation_seconds=2)",
        "srtf",
        "po",
        "sjf(starvation_threshold=300)",
        "ranking(starvation_threshold=100,starvation_period=10)",
    ],
)
@pytest.mark.parametrize("blocks", [900, 20_000])
def test_between_calm_and_contention(spec: str, blocks: int) -> None:
    """Bursts with calm between them: the order of the running requests is taken up and let go."""
    work = trace(240, 1.0, 8, longest=1500)
    arrivals = np.sort(np.random.default_rng(2).uniform(0, 4, 240) + np.arange(240) % 3 * 90)
    work = work.with_columns(arrival_time=arrivals)
    config = engine_config(max_num_seqs=24, num_gpu_blocks=blocks, max_model_len=4096)
    stepped = simulate(work, make_policy(spec), Linear(), config, leap=False)
    assert stepped.num_preemptions.sum() > 10
    same(stepped, simulate(work, make_policy(spec), Linear(), config))


@pytest.mark.parametrize(
    "spec",
    [
        "mlfq",
        "mlfq(starvation_seconds=3)",
        "fastserve",
        "srtf",
        "po",
        "ranking(starvation_threshold=60,starvation_period=5)",
        "mlfq(starvation_threshold=60,starvation_period=5)",
    ],
)
def test_overload_that_churns(spec: str) -> None:
    """More run than are kept in order, and most are preempted more than once."""
    work = trace(260, 60.0, 5, longest=700)
    config = engine_config(max_num_seqs=80, num_gpu_blocks=4000, max_model_len=1024)
    stepped = simulate(work, make_policy(spec), Linear(), config, leap=False)
    assert stepped.num_preemptions.sum() > 20
    same(stepped, simulate(work, make_policy(spec), Linear(), config))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_change_that_comes_in_the_first_step_of_a_turn(seed: int) -> None:
    """Preempted with one token of the preamble to go: after the step it returns in, its place is another."""
    spec = "po(preamble=5,starvation_threshold=25,starvation_period=3)"
    work = trace(50, 60.0, seed, longest=300)
    config = engine_config(
        max_num_seqs=2, num_gpu_blocks=5000, max_model_len=800, long_prefill_token_threshold=50
    )
    stepped = simulate(work, make_policy(spec), Linear(), config, leap=False)
    same(stepped, simulate(work, make_policy(spec), Linear(), config))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_head_without_budget_takes_it_from_victims_once_blocks_run_short(asynchronous: bool) -> None:
    """Two that decode use up a budget of two tokens, and nobody can be admitted. Their blocks grow, until the
    better third one would need a victim for its blocks, whose token it then gets too."""
    config = engine_config(
        max_num_seqs=4, max_num_batched_tokens=2, block_size=1, num_gpu_blocks=101, max_model_len=100,
        enable_prefix_caching=False, async_scheduling=asynchronous,
    )  # fmt: skip
    work = Trace(
        arrival_time=np.array([0.0, 0.0, 0.3]),
        num_prompt_tokens=np.array([2, 2, 40]),
        num_output_tokens=np.array([60, 60, 3]),
        predicted_length=np.array([60.0, 60.0, 3.0]),
    )
    stepped, leapt = (
        simulate(work, make_policy("sjf(preemptive=true)"), Linear(), config, leap=leap)
        for leap in (False, True)
    )
    assert stepped.num_preemptions.sum() == 1
    same(stepped, leapt)
