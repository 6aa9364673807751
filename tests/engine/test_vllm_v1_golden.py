"""The reference engine takes the decisions of vLLM's own scheduler, step by step.

The logs were made with vLLM 0.32.0's Scheduler and KVCacheManager on a virtual clock, from workloads of our
generator (`python -m validate lockstep` makes new ones and compares them, where vLLM is installed).
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same

LOGS = json.loads(
    gzip.decompress((Path(__file__).parent.parent / "golden/vllm-v1-steps.json.gz").read_bytes())
)


def load(case: dict[str, Any]) -> Trace:
    times, prompts, outputs, score, classes, priority, ids = zip(*LOGS["traces"][case["trace"]], strict=True)
    shared = ids[0] is not None
    return Trace(
        np.array(times),
        np.array(prompts),
        np.array(outputs),
        request_id=[f"r{i}" for i in range(len(times))],
        score=np.array(score),
        predicted_class=np.array(classes),
        predicted_length=np.array(outputs, dtype=np.float64),
        priority=np.array(priority),
        hash_ids=[tuple(each) for each in ids] if shared else None,
        hash_block_size=case["hash_block_size"],
    )


def name(case: dict[str, Any]) -> str:
    options = case["options"]
    caching = "caching" if options["enable_prefix_caching"] else "plain"
    return f"{case['policy']}-{case['trace']}-{caching}-{options['long_prefill_token_threshold']}"


@pytest.mark.parametrize("case", LOGS["cases"], ids=name)
def test_every_step(case: dict[str, Any]) -> None:
    trace = load(case)
    config = engine_config("vllm-v1", **case["options"])
    log: list[dict[str, Any]] = []
    cost = Linear(**case["cost"])
    record = simulate(trace, make_policy(case["policy"]), cost, config, step_log=log.append)
    assert len(log) == len(case["steps"])
    expected = 0
    for number, (line, step) in enumerate(zip(log, case["steps"], strict=True), start=1):
        scheduled, preempted, num_running, num_waiting, blocks, time = step
        expected = scheduled or expected
        assert [[int(key[1:]), n] for key, n in line["scheduled"].items()] == expected, number
        assert sorted(int(key[1:]) for key in line["preempted"]) == preempted, number
        assert (line["num_running"], line["num_waiting"], line["kv_blocks_used"]) == (
            num_running,
            num_waiting,
            blocks,
        ), number
        assert line["step"] == number
        if time:
            assert line["time"] == pytest.approx(time, rel=1e-9)
    same(record, simulate(trace, make_policy(case["policy"]), cost, config))


def test_the_logs_are_under_pressure() -> None:
    """They would prove little if nothing were ever preempted."""
    preempted = [sum(len(step[1]) for step in case["steps"]) for case in LOGS["cases"]]
    assert sum(count > 0 for count in preempted) >= 12
    assert sum(preempted) > 300
