"""Host and device from the logs of an asynchronous engine: the same clock as the engine's, known costs found
again, host speeds read, what is not told said, and the profile of data/h100 as good as the docs claim."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsched.cost_model.calibrate import Calibration, Target, from_steps
from simsched.cost_model.host import HostedCost
from simsched.cost_model.host_speed import by_launches, by_total, intervals, total_error
from simsched.cost_model.overlapped import is_overlapped, read_overlapped
from simsched.cost_model.profile import parse_profile
from simsched.errors import InputError
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
        before = [before[1], line["end"]]
    write_log(tmp_path, "run", lines)
    steps = read_overlapped([tmp_path])
    inner = slice(2, -2)
    assert steps.launch[inner] == pytest.approx(0.0045)
    assert steps.output[inner] == pytest.approx(0.0005)
    assert steps.gpu[inner] == pytest.approx(0.007)
    assert set(steps.mode.tolist()) == {2}
    assert set(steps.tokens.tolist()) == {77.0}


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
