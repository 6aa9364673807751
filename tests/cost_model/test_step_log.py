"""Step logs: features reconstructed as the engine saw them, known profiles recovered, bad logs refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from simsched.cost_model.calibrate import Target, from_steps
from simsched.cost_model.fit import Steps
from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.profile import load_profile
from simsched.cost_model.step_log import FEATURES, read_step_logs
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace

LINEAR = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8e-8, d=3.7e-9)


def random_trace(count: int = 300, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    return Trace(
        arrival_time=np.cumsum(rng.exponential(0.08, count)),
        num_prompt_tokens=np.round(np.exp(rng.uniform(np.log(8), np.log(1500), count))).astype(np.int64),
        num_output_tokens=rng.integers(1, 300, count),
        request_id=[f"r{index}" for index in range(count)],
    )


def simulated_log(folder: Path, cost: LinearCost | TableCost, noise: float = 0.0, **options: Any) -> None:
    """Write the step log and request table of a simulation; `noise` blurs the logged times."""
    trace = random_trace()
    lines: list[dict[str, Any]] = []
    config = engine_config("vllm-v1", max_model_len=4096, **{"num_gpu_blocks": 4000, **options})
    simulate(trace, make_policy("fcfs"), cost, config, step_log=lines.append)
    rng = np.random.default_rng(0)
    clock = 0.0
    for line in lines if noise else ():
        line["step_time"] *= float(rng.lognormal(0, noise))
        line["time"], clock = clock, clock + line["step_time"]
    (folder / "steps").mkdir(parents=True)
    (folder / "steps" / "cell.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = pl.DataFrame(
        {"request_id": trace.request_ids(), "num_prompt_tokens": trace.num_prompt_tokens.tolist()}
    )
    table.write_parquet(folder / "requests.parquet")


def rows(steps: Steps) -> list[tuple[float, ...]]:
    return list(zip(steps.P, steps.N, steps.S, steps.K, steps.Q, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_gpu_blocks": 300, "max_num_seqs": 16, "max_num_batched_tokens": 512},
        {"num_gpu_blocks": 300, "max_num_seqs": 16, "enable_prefix_caching": False},
    ],
    ids=["roomy", "pressure", "pressure without caching"],
)
def test_features_are_reconstructed_as_the_engine_saw_them(tmp_path: Path, options: dict[str, Any]) -> None:
    simulated_log(tmp_path, LINEAR, **options)
    steps = read_step_logs([tmp_path]).steps
    assert len(steps) > 1000
    # the log's times are the engine's features, priced
    error = np.abs(steps.predict(LINEAR) / steps.time - 1)
    # with hits after preemption, a log does not tell some one-token prefills from decodes
    ambiguous = "max_num_seqs" in options and "enable_prefix_caching" not in options
    assert error.mean() < (1e-4 if ambiguous else 1e-12)


def test_a_linear_profile_is_recovered(tmp_path: Path) -> None:
    simulated_log(tmp_path, LINEAR, noise=0.02)
    done = from_steps([tmp_path], Target("mine"), "linear", seed=0, command="")
    for name, tolerance in (("t0", 0.01), ("a", 0.02), ("b", 0.1), ("c", 0.1), ("d", 0.2)):
        assert getattr(done.cost, name) == pytest.approx(getattr(LINEAR, name), rel=tolerance), name
    assert done.file.fit is not None
    assert done.file.fit.mean < 0.025  # the noise itself is 1.6 % in the mean
    assert done.file.warnings == ()


def test_a_table_profile_is_recovered(tmp_path: Path) -> None:
    truth = load_profile("a100-80gb/llama-3-8b").cost
    simulated_log(tmp_path / "calibration", truth, noise=0.02)
    done = from_steps([tmp_path / "calibration"], Target("mine"), "table", seed=0, command="")
    assert done.file.fit is not None
    assert done.file.fit.mean < 0.025
    # on another workload, without the noise
    simulated_log(tmp_path / "other", truth, max_num_seqs=32)
    steps = read_step_logs([tmp_path / "other"]).steps
    assert np.abs(steps.predict(done.cost) / steps.time - 1).mean() < 0.02


def test_a_log_without_prefills_is_warned_of(tmp_path: Path) -> None:
    simulated_log(tmp_path, LINEAR)
    file = tmp_path / "steps" / "cell.jsonl"
    steps = read_step_logs([file]).steps
    lines = [
        {"scheduled": {"x": 1}, "time": index, "step_time": time, **dict(zip(FEATURES, row, strict=True))}
        for index, (row, time) in enumerate(zip(rows(steps), steps.time, strict=True))
        if row[0] == 0
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = from_steps([file], Target("mine"), "linear", seed=0, command="")
    assert {warning[0] for warning in done.file.warnings} == {"a", "d"}


GOOD = {"scheduled": {"x": 1}, "time": 5.0, "step_time": 0.02, "P": 0, "N": 1, "S": 0, "K": 9, "Q": 0}


def test_overlapping_steps_count_from_one_end_to_the_next(tmp_path: Path) -> None:
    """Asynchronous scheduling forms a step while the one before it still runs."""
    times = [(0.00, 0.020), (0.005, 0.035), (0.021, 0.039), (0.100, 0.020)]
    lines = [{**GOOD, "time": time, "step_time": step_time} for time, step_time in times]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_step_logs([tmp_path]).steps.time == pytest.approx([0.020, 0.020, 0.020, 0.020])


def test_steps_of_several_replicas_are_of_one_engine_each(tmp_path: Path) -> None:
    """Two engines in sequence, whose steps lie side by side in the log."""
    lines = [
        {**GOOD, "replica": replica, "time": time, "step_time": 0.02}
        for time, replica in [(0.0, 0), (0.01, 1), (0.02, 0), (0.03, 1), (0.04, 0)]
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_step_logs([tmp_path]).steps.time == pytest.approx([0.02] * 5)


def test_the_time_of_a_predictor_is_warned_of(tmp_path: Path) -> None:
    simulated_log(tmp_path, LINEAR)
    notes = [
        "read as jsonl",
        "ranking: its predictor takes 1.3 ms a request (P); --predictor-time says otherwise",
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"notes": notes}))
    said = "a predictor's time is in these steps (ranking: its predictor takes 1.3 ms a request (P))"
    found = from_steps([tmp_path], Target("mine", None, None, 1, 0), "linear", 0, "").file.warnings
    assert any(warning.startswith(said) for warning in found)
    (tmp_path / "replay.json").write_text("{}")
    assert not read_step_logs([tmp_path]).warnings


def test_times_that_batches_do_not_explain_are_warned_of(tmp_path: Path) -> None:
    simulated_log(tmp_path, LINEAR, noise=0.5)
    done = from_steps([tmp_path], Target("mine", None, None, 1, 0), "linear", 0, "")
    assert done.file.warnings[-1].startswith("the mean error of ")


def test_logged_features_and_execution_times_are_used(tmp_path: Path) -> None:
    line = {
        "scheduled": {"x": 3},
        "time": 0,
        "step_time": 0.02,
        "exec_time": 0.015,
        "P": 3,
        "N": 0,
        "S": 1,
        "K": 0,
        "Q": 4.5,
    }
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    assert rows(read_step_logs([tmp_path]).steps) == [(3, 0, 1, 0, 4.5)]
    assert read_step_logs([tmp_path]).steps.time.tolist() == [0.02]
    assert read_step_logs([tmp_path], "exec_time").steps.time.tolist() == [0.015]


def test_steps_with_swaps_are_left_out_and_counted(tmp_path: Path) -> None:
    line = GOOD
    swap = {**line, "swapped_out": ["y"]}
    (tmp_path / "log.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(swap)}\n")
    logs = read_step_logs([tmp_path])
    assert len(logs.steps) == 1
    assert logs.notes[0].startswith("1 steps with swapping left out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "log.jsonl, line 1: not JSON"),
        ("[]", "line 1: not a step"),
        ("{}", "line 1: not a step"),
        (json.dumps({**GOOD, "step_time": -1}), "line 1: step_time -1: expected a positive number"),
        (json.dumps({**GOOD, "step_time": 0}), "line 1: step_time 0"),
        (json.dumps({**GOOD, "step_time": float("nan")}), "line 1: step_time nan: expected a number"),
        (json.dumps({**GOOD, "K": "9"}), "line 1: K '9': expected a number"),
        (json.dumps(GOOD) + "\n" + json.dumps({"scheduled": {}, "time": 1}), "line 2: step_time None"),
        (json.dumps({**GOOD, "time": None}), "line 1: time None: expected a number"),
        (
            json.dumps({"scheduled": {"x": 1}, "time": 0, "step_time": 1.0}),
            "no requests.parquet to get them from",
        ),
        ("", "no step to fit"),
    ],
)
def test_bad_logs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InputError) as caught:
        read_step_logs([tmp_path])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_logs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_step_logs([tmp_path / "nothing"])
    with pytest.raises(InputError, match="run with --log-steps"):
        read_step_logs([tmp_path])
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read it"):
        read_step_logs([tmp_path])


def test_too_few_steps_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text((json.dumps(GOOD) + "\n") * 20)
    with pytest.raises(InputError, match="20 steps are too few"):
        from_steps([tmp_path], Target("mine"), "linear", seed=0, command="")


def test_a_request_missing_from_the_table_is_named(tmp_path: Path) -> None:
    simulated_log(tmp_path, LINEAR)
    pl.DataFrame({"request_id": ["r0"], "num_prompt_tokens": [5]}).write_parquet(
        tmp_path / "requests.parquet"
    )
    with pytest.raises(InputError, match="request 'r1' is not in its requests"):
        read_step_logs([tmp_path])
