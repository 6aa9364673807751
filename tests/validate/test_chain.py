"""The whole chain on an engine whose cost is known: it must find that cost, and predict it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from validate import chain
from validate.job import Job, Outcome
from validate.replay import Engines

COST = LinearCost(t0=0.004, a=6e-5, b=1e-4, c=2e-7, d=1e-8)


class KnownEngine:
    """Stands for a real engine: the simulator with a cost that the chain is not told."""

    version = "0.32.0"

    def __init__(self, job: Job) -> None:
        self.num_gpu_blocks = int(job.config.num_gpu_blocks or 0)

    def run(self, job: Job) -> Outcome:
        steps: list[dict[str, Any]] = []
        record = simulate(job.trace, make_policy(job.policy), COST, job.config, step_log=steps.append)
        arrivals = dict(zip(job.trace.request_ids(), job.trace.arrival_time.tolist(), strict=True))
        for step in steps:
            seen = {name: time for name, time in arrivals.items() if time <= step["time"]}
            for name in seen:
                del arrivals[name]
            step |= {"arrived": seen, "end": step["time"] + step["step_time"]}
        return Outcome(record, steps, [0.0])

    def close(self) -> None:
        """Nothing runs."""


def test_the_chain_finds_and_predicts_a_known_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = replace(
        chain.SETUPS["cpu"], num_requests=80, loads=("0.8x", "1.2x"), policies=("fcfs", "mlfq", "srtf")
    )
    monkeypatch.setitem(chain.SETUPS, "cpu", setup)
    said: list[str] = []
    with Engines(KnownEngine) as engines:
        result = chain.run_chain("cpu", tmp_path / "out", engines, say=said.append)
    assert result["verdict"]["within_tolerance"], result["verdict"]["failures"]
    assert result["order_tau"] == pytest.approx(1)
    assert all(found["first_difference"] is None for found in result["decisions"].values())
    assert len(result["decisions"]) == 6
    assert all(error == 0 for error in result["spread"]["speedup_error"].values())
    profile = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert profile["fit"]["mean"] < 0.01
    assert (tmp_path / "out" / "cdfs.png").stat().st_size > 1000
    assert any("held-out error" in line for line in said)
