"""The simulator beside vLLM's real scheduler: every policy, every setting, no step may differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from validate.cases import SETTINGS

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


@pytest.mark.parametrize("other", ["0.30.0", "0.33.0"])
def test_the_quick_cases_tell_versions_apart(vllm_version: str, other: str) -> None:
    """By the rules of another version the simulator differs from the installed one."""
    from simsched.vllm_versions import rules_of
    from validate.cases import quick_cases
    from validate.lockstep import run_case

    if rules_of(vllm_version) == rules_of(other):
        pytest.skip(f"{vllm_version} has the rules of {other}")
    cases = [case for case in quick_cases(vllm_version) if not case.config.async_scheduling]
    wrong = [replace(case, config=case.config.model_copy(update={"vllm_version": other})) for case in cases]
    assert any(run_case(case).divergent_steps for case in wrong)


def test_no_step_differs_in_the_quick_cases(vllm_version: str) -> None:
    """Fewer active sequences, a threshold that adapts, a server that refuses."""
    from validate.cases import quick_cases
    from validate.lockstep import run_case

    outcomes = [run_case(case) for case in quick_cases(vllm_version) if case.name not in SETTINGS]
    assert {outcome.case.name for outcome in outcomes} == {"active", "adaptive", "refusing"}
    assert not [f"{o.case.name}: {o.first_divergence}" for o in outcomes if o.divergent_steps]


@pytest.mark.parametrize(
    ("gpu", "gib"),
    [
        ("NVIDIA A100-SXM4-40GB", 39),
        ("NVIDIA A100-SXM4-80GB", 79),
        ("NVIDIA H100 80GB HBM3", 79),
        ("NVIDIA H200", 139),
        ("NVIDIA B200", 178),
        ("NVIDIA L40S", 44),
    ],
)
def test_the_batch_of_a_gpu_is_vllms(
    vllm_version: str, gpu: str, gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm.engine.arg_utils as arg_utils
    from vllm.usage.usage_lib import UsageContext

    from simsched.engine.gpu_defaults import batch_defaults

    platform = SimpleNamespace(
        get_device_total_memory=lambda: gib << 30,
        get_device_name=lambda: gpu,
        is_device_capability=lambda capability: False,
        is_tpu=lambda: False,
        is_cpu=lambda: False,
    )
    monkeypatch.setattr(arg_utils, "current_platform", platform)
    tokens, seqs = arg_utils.EngineArgs.get_batch_defaults(1)
    server = UsageContext.OPENAI_API_SERVER
    assert (tokens[server], seqs[server]) == batch_defaults(gpu, gib << 30, vllm_version)
