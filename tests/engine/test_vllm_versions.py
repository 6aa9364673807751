"""What differs from version to version, stepping and leaping."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.vllm_versions import DEFAULT, NEWEST, Rules, parse_version, rules_of
from simsched.workload.trace import Trace
from tests.engine.scenarios import same

COST = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)


FROM_25 = {"balancer_rotates", "cached_prompts_are_not_deferred"}
FROM_28 = {*FROM_25, "balancer_counts_in_flight", "large_gpus_get_16384_tokens"}
FROM_30 = {*FROM_28, "ranks_agree_in_first_step"}


def steps(trace: Trace, policy: str, config: EngineConfig) -> list[dict[str, Any]]:
    """The step log; leaping takes the same steps."""
    log: list[dict[str, Any]] = []
    stepped = simulate(trace, make_policy(policy), COST, config, leap=False, step_log=log.append)
    same(stepped, simulate(trace, make_policy(policy), COST, config))
    return log


@pytest.mark.parametrize(
    ("version", "holding"),
    [
        ("0.24.0", set()),
        ("0.25.1", FROM_25),
        ("0.28.0", FROM_28),
        ("0.30.0", FROM_30),
        ("0.31.0", {*FROM_30, "lone_prefill_is_not_cut"}),
        ("0.32.0+cpu", {*FROM_30, "lone_prefill_is_not_cut"}),
        ("0.33", {field.name for field in fields(Rules)}),
    ],
)
def test_rules(version: str, holding: set[str]) -> None:
    assert {name for name, holds in asdict(rules_of(version)).items() if holds} == holding


@pytest.mark.parametrize("version", ["0.23.0", "0.34.0", "1.0.0", "0.4.1", "dev", "0", ""])
def test_another_version_is_refused_with_the_range(version: str) -> None:
    with pytest.raises(InputError, match=r"^vLLM .*: not supported; tested are 0\.24 to 0\.33"):
        EngineConfig(vllm_version=version)


def test_the_default_is_the_newest() -> None:
    assert parse_version(DEFAULT) == NEWEST
    assert EngineConfig().vllm_version == DEFAULT
    assert EngineConfig(preset="vllm-0.4.1-ltr").vllm_version == "0.4.1"
    with pytest.raises(InputError, match="no such option"):
        EngineConfig(preset="vllm-0.4.1-ltr", vllm_version="0.32.0")


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("version", "alone"),
    [("0.24.0", [48, 48, 48, 48, 8]), ("0.30.0", [48, 48, 48, 48, 8]), ("0.31.0", [200])],
)
@pytest.mark.parametrize("policy", ["fcfs", "priority(preemptive=true)"])
def test_the_chunks_of_a_lone_prompt(policy: str, version: str, alone: list[int], together: bool) -> None:
    """vLLM itself gives these chunks; of two prompts each is cut in every version."""
    n = 1 + together
    trace = Trace(np.zeros(n), np.full(n, 200), np.full(n, 1))
    config = engine_config(
        vllm_version=version, long_prefill_token_threshold=48, max_num_batched_tokens=512,
        num_gpu_blocks=100, max_model_len=512,
    )  # fmt: skip
    chunks = [list(step["scheduled"].values()) for step in steps(trace, policy, config)]
    expected = [48, 48, 48, 48, 8] if together else alone
    assert chunks == [[tokens] * n for tokens in expected]


@pytest.mark.parametrize(
    ("policy", "version", "first"),
    [
        ("priority", "0.32.0", ["0"]),
        ("priority", "0.33.0", ["0", "2"]),
        ("fcfs", "0.33.0", ["0", "1"]),
    ],
)
def test_a_request_that_preempts_itself(policy: str, version: str, first: list[str]) -> None:
    """Three decode when blocks run out: request 1, in the middle and the worst by its priority, gives way.
    From 0.33 on request 2, behind it, still runs in that step. Under fcfs request 2 gives way itself."""
    trace = Trace(
        np.array([0.0, 0.001, 0.012]), np.array([15, 14, 15]), np.array([20, 20, 20]),
        request_id=["0", "1", "2"], priority=np.array([0, 2, 1]),
    )  # fmt: skip
    config = engine_config(vllm_version=version, num_gpu_blocks=5, max_model_len=64)
    log = steps(trace, policy, config)
    (step, *_) = [step for step in log if step["preempted"]]
    assert step["preempted"] == (["2"] if policy == "fcfs" else ["1"])
    assert list(step["scheduled"]) == first


def test_requests_that_are_admitted_together_run_in_the_order_of_their_priority() -> None:
    """Which matters later, when blocks run out."""
    trace = Trace(
        np.array([0.0, 0.001, 0.002]), np.array([15, 15, 15]), np.array([20, 20, 20]),
        request_id=["0", "1", "2"], priority=np.array([0, 2, 1]),
    )  # fmt: skip
    log = steps(trace, "priority", engine_config(num_gpu_blocks=5, max_model_len=64))
    assert list(log[1]["scheduled"]) == ["0", "2", "1"]
