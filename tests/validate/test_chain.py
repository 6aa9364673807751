"""The whole chain on an engine whose cost is known: it must find that cost, and predict it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from validate.chain import judge
from validate.cli.all import all_command
from validate.job import Job, Outcome
from validate.replay import Engines
from validate.replayed import plan_of, read_facts
from validate.session import Session, Settings, interleaved
from validate.setups import SETUPS, Setup

COST = LinearCost(t0=0.004, a=6e-5, b=1e-4, c=2e-7, d=1e-8)


class Unsteady:
    """That cost, each step up to 4 % off: no two runs are alike. On a machine with moods, every other hundred
    steps take half as long again."""

    def __init__(self, moods: bool) -> None:
        self._stream = np.random.default_rng(0)
        self._moods = moods
        self._steps = 0

    def step_time(self, features: StepFeatures) -> float:
        return COST.step_time(features) * self._factor()

    def decode_line(self, *counts: int) -> tuple[float, float]:
        base, slope = COST.decode_line(*counts)
        factor = self._factor()
        return base * factor, slope * factor

    def _factor(self) -> float:
        self._steps += 1
        slow = 1.5 if self._moods and self._steps // 100 % 2 else 1.0
        return slow * self._stream.uniform(0.96, 1.04)


class KnownEngine:
    """Stands for a real engine: the simulator with a cost that the chain is not told."""

    version = "0.32.0"
    graphs = None

    def __init__(self, job: Job, moods: bool = False) -> None:
        self.num_gpu_blocks = int(job.config.num_gpu_blocks or 0)
        self._cost = Unsteady(moods)

    def run(self, job: Job) -> Outcome:
        steps: list[dict[str, Any]] = []
        record = simulate(
            job.trace, make_policy(job.policy), self._cost, job.config, leap=False, step_log=steps.append
        )
        arrivals = dict(zip(job.trace.request_ids(), job.trace.arrival_time.tolist(), strict=True))
        for step in steps:
            seen = {name: time for name, time in arrivals.items() if time <= step["time"]}
            for name in seen:
                del arrivals[name]
            step |= {"arrived": seen, "end": step["time"] + step["step_time"]}
        return Outcome(record, steps, [0.0])

    def close(self) -> None:
        """Nothing runs."""


def session(setup: Setup, out: Path, engines: Engines, repeats: int, **more: Any) -> Session:
    policies, loads = setup.policies, setup.loads
    settings = Settings("cpu", "wall", 0, repeats, policies, loads, KnownEngine.version)
    return Session(settings, setup, out, engines, more.pop("say", lambda line: None), **more)


def test_the_chain_finds_and_predicts_a_known_cost(tmp_path: Path) -> None:
    setup = replace(SETUPS["cpu"], num_requests=80, loads=("0.8x", "1.2x"))
    said: list[str] = []
    out = tmp_path / "out"
    with Engines(KnownEngine) as engines:
        measured = session(setup, out, engines, 2, say=said.append)
        assert measured.run()
    result = judge(measured, said.append)
    assert result is not None
    assert result["verdict"]["within_spread"], result["verdict"]["failures"]
    assert result["order_tau_distinct"] == 1
    assert all(found["first_difference"] is None for found in result["decisions"].values())
    assert len(result["decisions"]) == 2 * 2 * 5
    assert len(errors(result["at_machine_speed"])) == len(errors(result)) == 2 * 5
    for load in result["loads"]:
        for row in load["policies"].values():
            mean = row["metrics"]["mean_latency_per_token_ms"]
            assert abs(mean["relative_error"]) < 0.05
            assert 0 < mean["spread"] < 0.2
    for cells in result["step_error"].values():
        assert all(abs(cell["total"]) < 0.01 for cell in cells.values())
    profile = json.loads((out / "profile.json").read_text())
    assert profile["fit"]["mean"] < 0.03
    assert (out / "cdfs.png").stat().st_size > 1000
    assert any("held-out error" in line for line in said)
    assert json.loads((out / "real-2" / "manifest.json").read_text())["clock"] == "wall"


def test_without_vllm_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simsched.vllm.version.find_spec", lambda name: None)
    result = CliRunner().invoke(all_command, ["-o", str(tmp_path / "out")])
    assert isinstance(result.exception, InputError)
    assert "vLLM is not installed; install the CPU engine with" in str(result.exception)
    assert not (tmp_path / "out").exists()


class GoneError(Exception):
    """The machine is taken away."""


class Repeatable(KnownEngine):
    """The same run in the same time."""

    def run(self, job: Job) -> Outcome:
        self._cost = Unsteady(False)
        return super().run(job)


def test_cut_anywhere_it_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """Cut off after each number of cells, and resumed: the same files as in one go, no cell played twice."""
    setup = replace(SETUPS["cpu"], num_requests=20, loads=("1.2x",), calibration_rates=(20.0, 80.0))
    setup = replace(setup, policies=("fcfs", "srtf"), calibration_requests=30)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with Engines(Repeatable) as engines:
        assert session(setup, whole, engines, 2).run()
    played: list[tuple[str, float]] = []

    class Dying(Repeatable):
        def run(self, job: Job) -> Outcome:
            if len(played) >= limit:
                raise GoneError
            played.append((job.policy, float(job.trace.arrival_time[-1])))
            return super().run(job)

    for limit in range(9):
        with Engines(Dying) as engines:
            measured = session(setup, parts, engines, 2)
            if limit == 8:
                assert measured.run()
            else:
                with pytest.raises(GoneError):
                    measured.run()
        assert len(played) == limit
    assert {path.relative_to(whole) for path in whole.rglob("*")} == {
        path.relative_to(parts) for path in parts.rglob("*")
    }
    assert [path.name for path in measured.replays] == ["real-1", "real-2"]
    assert len(read_facts(parts / "real-2")["cells"]) == 2
    other = Session(replace(measured.settings, seed=1), setup, parts, Engines(Repeatable), print)
    with pytest.raises(InputError, match="seed was 0, is 1"):
        other.run()


def test_out_of_time_it_stops_and_what_there_is_is_compared(tmp_path: Path) -> None:
    setup = replace(SETUPS["cpu"], num_requests=20, loads=("1.2x",), policies=("fcfs", "srtf"))
    said: list[str] = []
    with Engines(KnownEngine) as engines:
        first = session(setup, tmp_path, engines, 1)
        assert first.run()
        rest = session(setup, tmp_path, engines, 1, deadline=time.monotonic() + 5)
        assert rest.run()  # nothing is left to do
        none = session(setup, tmp_path / "other", engines, 1, say=said.append, deadline=time.monotonic() + 5)
        assert not none.run()
    assert any("no time for calibrated on" in line for line in said)
    assert judge(none) is None
    # another machine compares what this one has measured, finished or not, and begins nothing without time
    manifest = tmp_path / "real-1" / "manifest.json"
    there = json.loads(manifest.read_text())
    there["versions"]["python"] = "3.0.0"
    manifest.write_text(json.dumps(there))
    shutil.copytree(tmp_path, tmp_path / "part", ignore=shutil.ignore_patterns("part", "summary.json"))
    with Engines(KnownEngine) as engines:
        away = session(setup, tmp_path, engines, 1, deadline=time.monotonic())
        assert away.run()
        part = session(setup, tmp_path / "part", engines, 1, deadline=time.monotonic())
        assert not part.run()
    assert [path.name for path in away.replays] == ["real-1"]
    assert part.replays == []
    result = judge(rest)
    assert result is not None
    assert result["replays"] == 1


def test_turns_alternate(tmp_path: Path) -> None:
    setup = replace(SETUPS["cpu"], num_requests=20, loads=("0.5x", "1.2x"), policies=("fcfs", "srtf", "mlfq"))
    with Engines(KnownEngine) as engines:
        measured = session(setup, tmp_path, engines, 1)
        assert measured.run()
    plan = plan_of(tmp_path / "real-1")
    there = [(cell.load.request_rate, cell.arm.policy) for cell in plan.cells.values()]
    names = list(plan.cells)

    def order(turn: int) -> list[tuple[float | None, str]]:
        return [there[names.index(name)] for name in interleaved(plan, names, turn)]

    low, high = sorted({rate for rate, _ in there if rate is not None})
    expected = [(rate, policy) for rate in (low, high) for policy in ("fcfs", "srtf", "mlfq")]
    assert order(1) == order(3) == expected
    assert order(2) == expected[::-1]


def errors(result: dict[str, Any]) -> list[float]:
    """Of the mean latency per token, of every load and policy."""
    return [
        abs(row["metrics"]["mean_latency_per_token_ms"]["relative_error"])
        for load in result["loads"]
        for row in load["policies"].values()
    ]


def test_what_the_machine_did_is_told_from_what_the_simulator_does(
    tmp_path: Path,
) -> None:
    """Its speed changes by half, and the simulator cannot know when; told, it is right again."""
    setup = replace(SETUPS["cpu"], num_requests=80, loads=("1.5x",))
    with Engines(lambda job: KnownEngine(job, moods=True)) as engines:
        measured = session(setup, tmp_path / "out", engines, 1)
        assert measured.run()
    result = judge(measured)
    assert result is not None
    assert np.mean(errors(result)) > 0.05
    assert np.mean(errors(result["at_machine_speed"])) < 0.03
