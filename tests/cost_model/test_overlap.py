"""Host and device from the logs of an asynchronous engine: the same clock as the engine's, known costs found
again, host speeds read, what is not told said, and the profile of data/h100 as good as the docs claim."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.calibrate import Calibration, Target, from_steps
from simsched.cost_model.device_fit import fit_device
from simsched.cost_model.host import Graphs, HostedCost
from simsched.cost_model.host_speed import by_launches, by_total, intervals, total_error
from simsched.cost_model.models import TableCost
from simsched.cost_model.overlapped import captured, is_overlapped, read_overlapped
from simsched.cost_model.profile import parse_profile
from simsched.errors import InputError
from simsched.workload.trace import Trace
from tests.cost_model.overlapped_logs import COST, HOST, simulated_lines, trace, write_log

SPEEDS = (1.0, 1.3)


def at_speed(speed: float, **changes: float) -> HostedCost:
    return replace(COST, host=replace(HOST, speed=speed, **changes))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, below and above what the engine can serve, the second on a slower host."""
    folder = tmp_path_factory.mktemp("overlapped")
    for number, (rate, speed) in enumerate(zip((12.0, 60.0), SPEEDS, strict=True)):
        lines = simulated_lines(trace(150, rate, number), at_speed(speed))
        write_log(folder, f"{number}-fcfs", lines)
    return folder


@pytest.fixture(scope="module")
def fitted(logs: Path) -> Calibration:
    return from_steps([logs], Target("mine"), "table", seed=0, command="")


def test_the_recursion_is_the_engines_clock(tmp_path: Path) -> None:
    cost = at_speed(1.1, output_per_sequence=0.0)
    write_log(tmp_path, "run", simulated_lines(trace(60, 15, 0), cost))
    steps = read_overlapped([tmp_path])
    found = intervals(steps, replace(cost, host=replace(cost.host, speed=1.0)), np.array([1.1]))
    assert found.interval[:, 0] == pytest.approx(steps.batch.time, abs=1e-12)
    assert (found.by_host > found.by_device).mean() > 0.05
    assert (found.by_host < found.by_device).mean() > 0.05


def test_a_known_cost_is_found_again(logs: Path, fitted: Calibration) -> None:
    profile = parse_profile(fitted.file.to_text().encode(), "mine")
    assert profile.host is not None
    cost = HostedCost(device=profile.cost, host=profile.host, graphs=profile.graphs)
    steps = read_overlapped([logs])
    unit = profile.host.none / HOST.none  # in which the profile counts speeds: some mean of the runs'
    assert min(SPEEDS) < unit < max(SPEEDS)
    for run, speed in enumerate(SPEEDS):
        of_run = steps.of_run(run)
        assert by_total(of_run, cost) == pytest.approx(speed / unit, rel=0.03)
        assert by_launches(of_run, cost) == pytest.approx(speed / unit, rel=0.03)
        assert abs(total_error(of_run, cost, speed / unit)) < 0.005
    for name in ("full", "piecewise", "per_sequence"):
        assert getattr(profile.host, name) == pytest.approx(unit * getattr(HOST, name), rel=0.08), name
    assert fitted.file.fit is not None
    assert fitted.file.fit.median < 0.01
    assert abs(fitted.file.fit.total or 0) < 0.01
    assert profile.host.provenance == "a card; vLLM 0.25.1; in process"


def test_a_simulation_with_the_fitted_profile_takes_as_long(fitted: Calibration) -> None:
    profile = parse_profile(fitted.file.to_text().encode(), "mine")
    assert profile.host is not None
    requests, unit = trace(150, 25.0, 7), profile.host.none / HOST.none
    cost = HostedCost(device=profile.cost, host=profile.host, graphs=profile.graphs)
    theirs, ours = simulated_lines(requests, at_speed(unit)), simulated_lines(requests, cost)
    assert ours[-1]["end"] == pytest.approx(theirs[-1]["end"], rel=0.01)


def test_what_the_steps_do_not_tell_is_said(tmp_path: Path) -> None:
    requests = trace(60, 8, 0)
    short = requests.with_columns(num_prompt_tokens=np.minimum(requests.num_prompt_tokens, 64))
    write_log(tmp_path, "run", simulated_lines(short, COST))
    done = from_steps([tmp_path], Target("mine"), "table", seed=0, command="")
    said = [line.partition(" ")[0] for line in done.file.warnings]
    assert {"none", "per_token", "output_per_sequence"} <= set(said)  # no batch without graphs, no requests
    assert "full" not in said
    assert "floor" not in said
    assert "log prefills beyond the captured sizes" in " ".join(done.file.warnings)


def test_stamps_are_read(tmp_path: Path) -> None:
    lines = simulated_lines(trace(40, 20, 0), at_speed(1.0, output_per_sequence=0.0))
    before = [-1.0, -1.0]
    for line in lines:
        idle = line["time"] > before[1]
        line["schedule_begin"] = line["time"] if idle or before[0] < 0 else before[0] + 0.0005
        line["launch_end"] = line["schedule_begin"] + 0.004
        line["device_begin"], line["device_end"] = line["launch_end"] + 0.001, line["launch_end"] + 0.008
        line["launch_mode"], line["padded_tokens"] = "none", 77
        line["wait_begin"], line["output_ready"] = line["end"] - 0.001, line["end"]
        before = [before[1], line["end"]]
    write_log(tmp_path, "run", lines)
    steps = read_overlapped([tmp_path])
    inner = slice(2, -2)
    assert steps.launch[inner] == pytest.approx(0.0045)
    assert steps.output[inner] == pytest.approx(0.0005)
    assert steps.gpu[inner] == pytest.approx(0.007)
    late = np.array([line["end"] - line["device_end"] for line in lines])
    assert steps.copied[inner] == pytest.approx(np.where(late > 0, late, np.nan)[inner], nan_ok=True)
    assert np.isfinite(steps.copied[inner]).any()
    assert set(steps.mode.tolist()) == {2}
    assert set(steps.tokens.tolist()) == {77.0}


CURVED = TableCost(
    knots=(1, 64, 128, 256, 512, 2048), g=(0.005, 0.0053, 0.0058, 0.0083, 0.0135, 0.048),
    c=3e-8, d=9e-10, h=5e-6, per_mixed_decode=1e-5,
)  # fmt: skip


def timed_lines(requests: Trace) -> list[dict[str, Any]]:
    """A log of an engine with a curved device: its launches, and CUDA events that don't wait for them."""
    cost = replace(at_speed(1.0), device=CURVED)
    lines = simulated_lines(requests, cost)
    capture = cost.graphs.capture(256, 2048)
    ends, launched = [-1.0, -1.0], -1.0
    for line in lines:
        batch = StepFeatures(*(line[name] for name in ("P", "N", "S", "K", "Q")))
        idle = line["time"] > ends[1]
        base = line["time"] if idle else max(ends[0], launched)
        launched = base + HOST.launch(batch, capture.mode(batch))
        padding = capture.padded(batch.P + batch.N) - batch.P - batch.N
        seconds = CURVED.step_time(batch._replace(P=batch.P + padding))
        line["launch_end"], line["device_begin"] = launched, launched + 0.001
        line["device_end"] = line["device_begin"] + seconds
        line["wait_begin"], line["output_ready"] = line["end"] - 0.002, line["end"]
        ends = [ends[1], line["end"]]
    return lines


def test_cuda_events_alone_tell_the_device(tmp_path: Path) -> None:
    """A curve that two lines can't follow, and what decodes cost beside chunks."""
    for number, rate in enumerate((12.0, 40.0)):
        write_log(tmp_path, f"{number}-fcfs", timed_lines(trace(150, rate, number)))
    done = from_steps([tmp_path], Target("mine"), "table", seed=0, command="")
    cost = done.cost
    assert isinstance(cost, TableCost)
    assert cost.per_mixed_decode == pytest.approx(1e-5, rel=0.05)
    for batch in (
        StepFeatures(N=1, K=100),
        StepFeatures(N=96, K=96 * 300),
        StepFeatures(P=256, S=1, Q=256 * 128),
        StepFeatures(P=512, N=40, S=2, K=9000, Q=2 * 256 * 128),
    ):
        assert cost.step_time(batch) == pytest.approx(CURVED.step_time(batch), rel=0.01), batch
    assert any(
        "steps between CUDA events; a step held out is 0." in line for line in done.file.provenance.derived
    )
    assert not any(line.startswith(("floor", "slope", "copy")) for line in done.file.warnings)


def test_few_cuda_events_leave_the_device_to_the_intervals(tmp_path: Path) -> None:
    lines = timed_lines(trace(150, 12.0, 0))
    for line in lines:
        if line["S"]:
            line["device_end"] = None  # no prefill is timed
    write_log(tmp_path, "run", lines)
    steps = read_overlapped([tmp_path])
    known = np.ones(len(steps), dtype=bool)
    assert np.isfinite(steps.gpu).sum() > 500
    assert fit_device(steps, known) is None


def test_the_graphs_are_those_of_the_engine(tmp_path: Path, logs: Path) -> None:
    lines = simulated_lines(trace(5, 20, 0), COST)
    assert captured([logs]) == Graphs()  # nothing is known
    for name, facts, expected in (
        ("usual", {"mode": "FULL_AND_PIECEWISE", "capture_sizes": [1, 2, 256, 512]}, Graphs()),
        ("large", {"mode": "FULL_AND_PIECEWISE", "capture_sizes": [1, 256, 2048]}, Graphs(piecewise=2048)),
        ("none", {"mode": "NONE", "capture_sizes": []}, Graphs(full=0, piecewise=0)),
        ("small", {"mode": "PIECEWISE", "capture_sizes": [1, 64]}, Graphs(full=0, piecewise=64)),
    ):
        write_log(tmp_path / name, "run", lines)
        known = json.loads((tmp_path / name / "replay.json").read_text())
        (tmp_path / name / "replay.json").write_text(json.dumps({**known, "graphs": facts}))
        assert captured([tmp_path / name]) == expected
    with pytest.raises(InputError, match="had other CUDA graphs than that of"):
        captured([tmp_path / "usual", tmp_path / "large"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": None}, "line 2: no end; expected a step log of real vLLM"),
        ({"end": -5.0}, "line 2: end -5.0: expected one after the last step's"),
        ({"P": None}, "line 2: P None: expected a number"),
    ],
)
def test_damaged_logs_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    lines = simulated_lines(trace(5, 20, 0), COST)
    lines[1].update(change)
    write_log(tmp_path, "run", lines)
    with pytest.raises(InputError, match=message):
        read_overlapped([tmp_path])


def test_logs_of_one_kind_of_engine_and_the_form_that_there_is(tmp_path: Path, logs: Path) -> None:
    lines = simulated_lines(trace(40, 20, 0), COST)
    write_log(tmp_path, "run", lines)
    (tmp_path / "replay.json").write_text(json.dumps({"device": "cpu"}))
    assert is_overlapped(logs)
    assert not is_overlapped(tmp_path)
    with pytest.raises(InputError, match="of another kind of engine"):
        from_steps([logs, tmp_path], Target("mine"), "table", seed=0, command="")
    with pytest.raises(InputError, match="--form linear"):
        from_steps([logs], Target("mine"), "linear", seed=0, command="")
