"""The simulator beside vLLM's real scheduler: every policy, every setting, no step may differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm


def test_no_step_differs_over_a_hundred_thousand(vllm_version: str) -> None:
    from validate.cases import builtin_cases
    from validate.lockstep import run_cases

    outcomes = list(run_cases(builtin_cases(vllm_version)))
    different = [
        f"{o.case.name} {o.case.policy}: {o.first_divergence}" for o in outcomes if o.divergent_steps
    ]
    assert not different
    assert sum(outcome.steps for outcome in outcomes) >= 100_000
    assert {outcome.case.config.async_scheduling for outcome in outcomes} == {False, True}


def test_no_step_differs_on_random_engines(vllm_version: str) -> None:
    from validate.cases import random_cases
    from validate.lockstep import run_cases

    outcomes = list(run_cases(random_cases(25, vllm_version, seed=3)))
    assert not [f"{o.case.policy}: {o.first_divergence}" for o in outcomes if o.divergent_steps]
    assert sum(outcome.steps for outcome in outcomes) >= 10_000


def test_a_wrong_rule_is_found(vllm_version: str) -> None:
    """Lock-step can fail: give the simulator another engine than vLLM has."""
    from simsched.engine.simulator import simulate
    from simsched.policies.spec import make_policy
    from validate.cases import builtin_cases
    from validate.lockstep import difference
    from validate.virtual_engine import VirtualEngine

    cases = builtin_cases(vllm_version)
    case = next(case for case in cases if case.name == "pressure" and case.policy == "srtf")
    real = list(VirtualEngine(case.trace, "srtf", case.cost, case.config, "policy").steps())
    assert case.config.num_gpu_blocks is not None
    wrong = case.config.model_copy(update={"num_gpu_blocks": case.config.num_gpu_blocks - 8})
    simulated: list[dict[str, object]] = []
    simulate(case.trace, make_policy("srtf"), case.cost, wrong, leap=False, step_log=simulated.append)
    assert any(difference(theirs, ours) for theirs, ours in zip(real, simulated, strict=False))


def test_a_case_of_the_callers(vllm_version: str, tmp_path: Path) -> None:
    from validate.cli import cli

    trace = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 0.01 * i, "input_length": 20 + 7 * i % 90, "output_length": 5 + 11 * i % 60}
        for i in range(40)
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.json"
    arguments = ["lockstep", "--trace", str(trace), "--policy", "mlfq", "--async-scheduling"]
    arguments += ["--num-gpu-blocks", "40", "--max-num-seqs", "8", "--max-model-len", "512"]
    arguments += ["--json", str(out)]
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 0
    result = json.loads(out.read_text())
    assert result["vllm_version"] == vllm_version
    assert result["divergent_steps"] == 0
    (case,) = result["cases"]
    assert case["scheduler"] == "policy"
    assert case["async"]
    assert case["steps"] == result["steps_compared"] > 100
