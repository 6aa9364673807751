"""PolicyScheduler on vLLM's own classes: settings, hints, log, overhead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.errors import InputError
from simsched.workload.trace import Trace

pytestmark = pytest.mark.vllm
COST = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)


def crowd(num_requests: int, outputs: int, **columns: Any) -> Trace:
    """Requests that all come at once."""
    rng = np.random.default_rng(0)
    return Trace(
        arrival_time=np.linspace(0, 1e-3, num_requests),
        num_prompt_tokens=rng.integers(20, 60, num_requests),
        num_output_tokens=rng.integers(outputs, 3 * outputs, num_requests),
        **columns,
    )


def engine(trace: Trace, policy: str, config: EngineConfig, scheduler: str = "policy") -> Any:
    from validate.virtual_engine import VirtualEngine

    return VirtualEngine(trace, policy, COST, config, scheduler)


@pytest.mark.parametrize("policy", ["fcfs", "srtf", "ranking", "mlfq"])
def test_a_step_costs_at_most_a_third_more(vllm_version: str, policy: str) -> None:
    """256 running, 1,000 waiting: than the built-in scheduler's, or, where the policy preempts in every step,
    than what vLLM's own methods take of it."""
    from validate.overhead import measure

    found = measure(policy, rounds=8)
    assert found.step_ms >= found.vllm_ms > 0
    assert found.same_batches <= 1.3
    if policy == "mlfq":
        assert found.preemptions > 1
    else:
        assert found.preemptions == 0
        assert found.against_builtin <= 1.3


def test_a_request_without_its_hint_is_served_last(vllm_version: str) -> None:
    config = engine_config(max_num_seqs=1, num_gpu_blocks=100, max_model_len=256)
    scores = np.array([5.0, np.nan, 1.0])
    made = engine(crowd(3, 5, score=scores), "ranking(preemptive=false)", config)
    order: list[str] = []
    for step in made.steps():
        order += [name for name in step["scheduled"] if name not in order]
    assert order[-1] == "1"


def test_settings_are_checked_at_start(vllm_version: str) -> None:
    config = engine_config(num_gpu_blocks=100, max_model_len=256)
    with pytest.raises(InputError, match="policy nonsense: unknown"):
        engine(crowd(1, 5), "nonsense", config)
    made = engine(crowd(1, 5), "fcfs", config)
    with pytest.raises(InputError, match=r"polcy.*valid keys: policy, step_log, cost_profile, decodes_first"):
        made.scheduler.restart({"polcy": "fcfs"})


def test_the_wrong_class_for_the_loop_is_refused(vllm_version: str) -> None:
    from types import SimpleNamespace

    from simsched.vllm.settings import refuse_unsupported

    class Config(SimpleNamespace):
        scheduler_config = SimpleNamespace(async_scheduling=True)

    with pytest.raises(InputError, match=r"use simsched\.vllm\.AsyncPolicyScheduler"):
        refuse_unsupported(Config(), asynchronous=False)


def test_the_step_log_has_the_simulators_columns(vllm_version: str, tmp_path: Path) -> None:
    from simsched.engine.simulator import simulate
    from simsched.policies.spec import make_policy

    trace = crowd(12, 8, predicted_length=np.arange(12.0))
    config = engine_config(max_num_seqs=4, num_gpu_blocks=100, max_model_len=256)
    made = engine(trace, "srtf", config)
    log = tmp_path / "steps.jsonl"
    made.scheduler.restart({"policy": "srtf", "step_log": str(log)})
    steps = list(made.steps())
    made.scheduler.restart({})
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    simulated: list[dict[str, Any]] = []
    simulate(trace, make_policy("srtf"), COST, config, leap=False, step_log=simulated.append)
    assert len(logged) == len(steps) == len(simulated)
    for ours, theirs in zip(simulated, logged, strict=True):
        for column, value in ours.items():
            expected = pytest.approx(value) if isinstance(value, float) else value
            assert theirs[column] == expected, column
        assert {"exec_time", "end", "P", "N", "S", "K", "Q", "arrived"} <= set(theirs)
        assert theirs["P"] + theirs["N"] == sum(theirs["scheduled"].values())


OWN = """
from simsched.policies.base import NEVER, Policy


class Shortest(Policy):
    def on_queue(self, waiting, now):
        return None

    def priority(self, request, now):
        return request.num_prompt_tokens

    def next_change(self, request, now):
        return NEVER

    def victim(self, candidates, engine):
        return max(candidates, key=lambda each: each.num_prompt_tokens)


class Writes(Shortest):
    def on_queue(self, waiting, now):
        waiting[-1].num_prompt_tokens = 1


class WritesVictim(Shortest):
    def victim(self, candidates, engine):
        engine.running[0].score = 1.0
        return candidates[0]
"""


def test_a_policy_of_ones_own_reads_requests_and_may_not_write(vllm_version: str, tmp_path: Path) -> None:
    from simsched.engine.simulator import simulate
    from simsched.policies.spec import make_policy

    (tmp_path / "mine.py").write_text(OWN)
    mine = f"{tmp_path}/mine.py:"
    trace = crowd(12, 40)
    config = engine_config(max_num_seqs=8, num_gpu_blocks=30, max_model_len=256)
    batches = [step["scheduled"] for step in engine(trace, f"{mine}Shortest", config).steps()]
    simulated: list[dict[str, Any]] = []
    record = simulate(
        trace, make_policy(f"{mine}Shortest"), COST, config, leap=False, step_log=simulated.append
    )
    assert record.num_preemptions.sum()
    assert batches == [step["scheduled"] for step in simulated]
    with pytest.raises(InputError, match="on_queue sets num_prompt_tokens of a request"):
        list(engine(trace, f"{mine}Writes", config).steps())
    with pytest.raises(InputError, match="victim sets score of a request"):
        list(engine(trace, f"{mine}WritesVictim", config).steps())
