"""The fork's engine against a naive model of its rules, and its leaps against its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from tests.engine.ltr_reference import Reference

COST = LinearCost(t0=0.01137, a=5.31e-5, b=6.41e-5, c=8.07e-8, d=3.7e-9)
CONTROL = "(starvation_threshold=7,starvation_period=3)"
SPECS = ["fcfs", "ranking", "classification", "srtf", "po", "mlfq(base_quantum=0.03,threshold=2)"]
STARVED = [name + CONTROL for name in ("fcfs", "ranking", "classification", "srtf")]

# left out in one step, one of the two promoted; once both are they are equal, and go in list order
LEFT_OUT_TOGETHER = (
    Trace(
        np.array([0.0, 0.1, 0.1, 0.2, 0.3, 0.3, 0.4]),
        np.array([25, 28, 13, 22, 36, 19, 28]),
        np.array([33, 14, 7, 22, 18, 35, 31]),
        score=np.array([0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]),
        predicted_class=np.zeros(7, dtype=np.int64),
        predicted_length=np.array([33.0, 14, 7, 22, 18, 35, 31]),
    ),
    engine_config(
        "vllm-0.4.1-ltr", max_num_seqs=2, max_num_batched_tokens=4, num_gpu_blocks=16, max_model_len=512
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Trace, EngineConfig]:
    """Small engines under heavy traffic: slots, tokens and blocks all bind, and many keys are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    gap = draw(st.sampled_from([0.0, 0.01, 0.05, 0.3]))
    prompts, outputs = rng.integers(1, 90, n), rng.integers(1, 60, n)
    trace = Trace(
        np.cumsum(rng.exponential(1, n)) * gap if gap else np.zeros(n),
        prompts,
        outputs,
        score=rng.normal(size=n).round(draw(st.integers(0, 3))),
        predicted_class=rng.integers(0, 3, n),
        predicted_length=outputs.astype(float),
    )
    config = engine_config(
        "vllm-0.4.1-ltr",
        max_num_seqs=draw(st.integers(1, 12)),
        max_num_batched_tokens=draw(st.integers(4, 80)),
        num_gpu_blocks=draw(st.integers(14, 60)),
        max_model_len=512,
        watermark=draw(st.sampled_from([0.0, 0.01, 0.05])),
    )
    return trace, config


def naive_steps(trace: Trace, config: EngineConfig, spec: str) -> list[dict[str, Any]]:
    starvation = (7, 3) if spec.endswith(CONTROL) else None
    model = Reference(trace, config, spec.partition("(")[0], starvation)
    arrivals, now, log, left, nxt = trace.arrival_time.tolist(), 0.0, [], len(trace), 0
    while left:
        if nxt + left == len(trace) and now < arrivals[nxt]:
            now = arrivals[nxt]
        while nxt < len(trace) and arrivals[nxt] <= now:
            model.add(nxt)
            nxt += 1
        step, batch = model.step(now)
        duration = COST.t0 + COST.a * step["P"] + COST.b * step["N"] + COST.c * step["K"] + COST.d * step["Q"]
        log.append({"time": now, "step_time": duration, **step})
        left -= len(model.update(batch, duration, (0.03, 2.0)))
        now += duration
    return log


@pytest.mark.parametrize("spec", [*SPECS, *STARVED])
@settings(max_examples=60, deadline=None)
@given(case=cases())
@example(case=LEFT_OUT_TOGETHER)
def test_every_step_equals_the_naive_model(spec: str, case: tuple[Trace, EngineConfig]) -> None:
    trace, config = case
    steps: list[dict[str, Any]] = []
    simulate(trace, make_policy(spec), COST, config, step_log=steps.append)
    naive = naive_steps(trace, config, spec)
    assert len(steps) == len(naive)
    for mine, model in zip(steps, naive, strict=True):
        assert mine["time"] == pytest.approx(model["time"], rel=1e-9)
        assert mine["step_time"] == pytest.approx(model["step_time"], rel=1e-9)
        assert [(int(i), n) for i, n in mine["scheduled"].items()] == list(model["scheduled"].items())
        assert mine["kv_blocks_used"] == model["kv"]
        for key in ("preempted", "swapped_out", "swapped_in"):
            assert [int(i) for i in mine[key]] == model[key]


@pytest.mark.parametrize("spec", [*SPECS, *STARVED, f"po{CONTROL}", "sjf", "ljf", "priority", "fastserve"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_leaping_equals_stepping(spec: str, case: tuple[Trace, EngineConfig]) -> None:
    trace, config = case
    leaping = simulate(trace, make_policy(spec), COST, config)
    stepping = simulate(trace, make_policy(spec), COST, config, leap=False)
    assert leaping.num_steps == stepping.num_steps
    assert leaping.counters == stepping.counters
    for column in ("first_scheduled_time", "first_token_time", "finish_time", "max_itl"):
        np.testing.assert_allclose(getattr(leaping, column), getattr(stepping, column), rtol=1e-9)
    np.testing.assert_array_equal(leaping.num_preemptions, stepping.num_preemptions)
    assert leaping.itl.count == stepping.itl.count == int((trace.num_output_tokens - 1).sum())
    assert leaping.itl.total == pytest.approx(stepping.itl.total, rel=1e-9)


@pytest.mark.parametrize("option", ["starvation_seconds", "starvation_threshold"])
def test_what_the_fork_cannot_do_is_an_error(option: str) -> None:
    trace = Trace(np.zeros(1), np.array([4]), np.array([4]))
    config = engine_config("vllm-0.4.1-ltr", num_gpu_blocks=60, max_model_len=512)
    with pytest.raises(InputError, match=f"policy mlfq: {option}"):
        simulate(trace, make_policy(f"mlfq({option}=3)"), COST, config)


def test_a_full_swap_space_stops_it_as_it_stops_the_fork() -> None:
    n = 30
    rng = np.random.default_rng(0)
    trace = Trace(np.arange(n) * 0.05, np.full(n, 60), np.full(n, 60), score=rng.normal(size=n))
    config = engine_config("vllm-0.4.1-ltr", num_gpu_blocks=40, max_model_len=512, num_swap_blocks=3)
    with pytest.raises(InputError, match="--num-swap-blocks 3"):
        simulate(trace, make_policy("ranking"), COST, config)


def test_random_ties_depend_on_the_seed_only() -> None:
    n = 40
    trace = Trace(
        np.arange(n) * 0.01, np.full(n, 30), np.full(n, 40), predicted_class=np.zeros(n, dtype=np.int64)
    )
    options = {"num_gpu_blocks": 200, "max_model_len": 512, "max_num_seqs": 4}
    by_arrival, random = (
        engine_config("vllm-0.4.1-ltr", **options, random_ties=ties) for ties in (False, True)
    )

    def finish(config: EngineConfig, seed: int) -> list[float]:
        record = simulate(trace, make_policy("classification"), COST, config, seed=seed)
        return list(record.finish_time.tolist())

    assert np.argsort(finish(by_arrival, 0)).tolist() == list(range(n))
    assert finish(by_arrival, 1) == finish(by_arrival, 0)
    assert finish(random, 1) == finish(random, 1)
    assert finish(random, 1) != finish(random, 0)
