"""vLLM's own asynchronous loop around our scheduler and executor, over a device that only takes time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.engine.config import ResolvedConfig, engine_config
from simsched.workload.trace import Trace
from tests.vllm.fake_gpu import make_core
from validate.decisions import check_decisions
from validate.job import Job

pytestmark = pytest.mark.vllm
LAUNCH, DEVICE = 0.004, 0.0065
BLOCKS = 18


class Constant:
    """Every batch takes the same."""

    def of(self, scheduler_output: Any) -> tuple[float, float, float]:
        return LAUNCH / 2, LAUNCH / 2, DEVICE


def engine(trace: Trace, policy: str, log: Path, *, asynchronous: bool) -> tuple[Any, ResolvedConfig]:
    config = engine_config(
        max_num_seqs=4, max_num_batched_tokens=64, num_gpu_blocks=BLOCKS, max_model_len=256,
        async_scheduling=asynchronous,
    )  # fmt: skip
    return make_core(trace, policy, log, config, Constant()), config


def play(trace: Trace, policy: str, log: Path, *, asynchronous: bool) -> tuple[list[dict[str, Any]], Any]:
    """The step log of a whole trace; a request is added once its time has come, as a client would."""
    made, config = engine(trace, policy, log, asynchronous=asynchronous)
    clock, core, scheduler = made.clock, made.core, made.core.scheduler
    arrived = 0
    while arrived < len(trace) or scheduler.has_requests() or core.batch_queue:
        while arrived < len(trace) and trace.arrival_time[arrived] <= clock.time:
            scheduler.add_request(made.virtual.request(arrived, trace.request_ids()[arrived]))
            arrived += 1
        if not scheduler.has_requests() and not core.batch_queue:
            clock.time = float(trace.arrival_time[arrived])
            continue
        core.step_fn()
    scheduler.restart({})
    return [json.loads(line) for line in log.read_text().splitlines()], config


def requests(count: int = 40) -> Trace:
    rng = np.random.default_rng(3)
    return Trace(
        arrival_time=np.cumsum(rng.exponential(0.03, count)),
        num_prompt_tokens=rng.integers(4, 90, count),
        num_output_tokens=rng.integers(1, 25, count),
        score=rng.normal(size=count),
        predicted_length=rng.integers(1, 25, count).astype(float),
    )


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(
    "policy",
    [
        "fcfs",
        "ranking",
        "srtf",
        "mlfq(base_quantum=0.02)",
        "mlfq(base_quantum=0.02,starvation_seconds=0.3)",
        "po(starvation_threshold=12,starvation_period=4)",
    ],
)
def test_decisions_are_the_simulators_by_the_logs_stamps(
    vllm_version: str, tmp_path: Path, policy: str, asynchronous: bool
) -> None:
    """With preemptions, for policies that read seconds, too; other times of the calls would differ."""
    trace = requests()
    steps, config = play(trace, policy, tmp_path / "steps.jsonl", asynchronous=asynchronous)
    job = Job(policy, trace, config, {})
    found = check_decisions(job, steps, BLOCKS)
    assert found == {"steps": len(steps), "first_difference": None, "not_judged": None}
    assert len(steps) > 100
    assert sum(len(step["preempted"]) for step in steps) > 0
    if policy.startswith("mlfq"):
        for step in steps:
            step["schedule_begin"] = step["time"] = step["time"] + 0.003
        assert check_decisions(job, steps, BLOCKS)["first_difference"] is not None


def test_stamps_are_in_the_order_of_events(vllm_version: str, tmp_path: Path) -> None:
    """Synchronous: one after the other. Asynchronous: step k + 1 is launched before step k is waited for."""
    trace = requests()
    own = ["schedule_begin", "schedule_end", "launch_begin", "forward_launched", "launch_end", "wait_begin",
           "output_ready", "update_begin", "update_end"]  # fmt: skip
    for asynchronous in (False, True):
        steps, _ = play(trace, "fcfs", tmp_path / f"{asynchronous}.jsonl", asynchronous=asynchronous)
        for step in steps:
            stamps = [step[name] for name in own]
            assert stamps == sorted(stamps)
            assert step["update_begin"] == step["end"]
            assert step["launch_end"] - step["launch_begin"] == pytest.approx(LAUNCH, abs=1e-4)
            assert step["device_begin"] <= step["device_end"] <= step["output_ready"] + 1e-9
            assert step["launch_mode"] == "none"
            assert step["padded_tokens"] == sum(step["scheduled"].values())
        for step, following in pairwise(steps):
            assert step["device_end"] <= following["device_begin"] + 1e-9
            if not asynchronous:
                assert step["update_end"] < following["schedule_begin"]
        overlapping = [a for a, b in pairwise(steps) if b["launch_end"] < a["wait_begin"]]
        assert len(overlapping) > (0.8 * len(steps) if asynchronous else -1)
        assert asynchronous or not overlapping
        saturated = [b for a, b in pairwise(steps) if b["launch_end"] < a["device_end"]]
        for step in saturated:  # its launch is hidden: what is left is the device's own time
            assert step["device_end"] - step["device_begin"] == pytest.approx(DEVICE, abs=1e-6)


def test_stamps_cost_at_most_20_microseconds(vllm_version: str) -> None:
    """The best of three: the machine may be busy with something else."""
    from validate.log_overhead import measure_log

    found = [measure_log(running=32, rounds=4) for _ in range(3)]
    assert 0 < min(each.stamps_us for each in found) < 20
    assert min(each.line_us for each in found) < 200


def test_without_a_step_log_nothing_is_stamped(vllm_version: str, tmp_path: Path) -> None:
    made, _ = engine(requests(4), "fcfs", tmp_path / "steps.jsonl", asynchronous=True)
    made.core.scheduler.restart({})
    made.core.scheduler.add_request(made.virtual.request(0, "0"))
    made.core.step_fn()
    (_, output, _) = made.core.batch_queue[0]
    assert not hasattr(output, "simsched_stamps")


def test_an_error_on_the_device_reaches_the_engine(vllm_version: str, tmp_path: Path) -> None:
    made, _ = engine(requests(4), "fcfs", tmp_path / "steps.jsonl", asynchronous=False)

    def fail(grammar_output: Any) -> Any:
        raise RuntimeError("the device is lost")

    made.core.model_executor.driver_worker.sample_tokens = fail
    made.core.scheduler.add_request(made.virtual.request(0, "0"))
    with pytest.raises(RuntimeError, match="the device is lost"):
        made.core.step_fn()
