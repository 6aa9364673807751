"""Replicas that differ: each is the engine that it is said to be."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from simsched.cli import main
from simsched.engine.config import EngineConfig
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.routers.spec import make_router
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.fleet import fleet_of
from simsched.sweep.inputs import prepare
from simsched.sweep.plan import make_plan
from simsched.sweep.run import run
from simsched.sweep.study import make_study

A100, H100 = "a100-80gb/llama-3-8b", "h100-80gb/llama-3-8b"
SMALL = EngineConfig(max_num_seqs=32)


def test_a_fleet_in_words() -> None:
    assert fleet_of(f"2*{A100}+{H100}(max_num_seqs=512,block_size=32)", SMALL) == [
        (A100, SMALL),
        (A100, SMALL),
        (H100, EngineConfig(max_num_seqs=512, block_size=32)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected COUNT"),
        ("0*x", "expected COUNT"),
        ("2*", "expected COUNT"),
        ("x*y", "expected COUNT"),
        ("x++y", "expected COUNT"),
        (f"{A100}(speed=2)", "no option speed"),
        (f"{A100}(preset=vllm-v1)", "no option preset"),
        (f"{A100}(max_num_seqs=0)", "max_num_seqs=0.: --max-num-seqs 0"),
        (f"5000*{A100}", "at most 4,096"),
    ],
)
def test_bad_fleets_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fleet_of(text, SMALL)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replicas": [A100], "num_replicas": [2]}, "exclude each other"),
        ({"replicas": [A100], "cost_profile": [H100]}, "exclude each other"),
        ({"router": ["random"]}, "only with --num-replicas or --replicas"),
    ],
)
def test_options_that_exclude_each_other(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_study({"workload": ["sharegpt"], **given})


def cell(router: str, **arm: object) -> Cell:
    load = Load(workload="sharegpt", arrivals="poisson", request_rate=30.0, num_requests=90, seed=3)
    return Cell(load, Arm("srtf", SMALL, A100, router=router, **arm))  # type: ignore[arg-type]


@pytest.mark.parametrize("router", ["round-robin", "least-requests", "vllm-dp"])
def test_equal_ones_are_num_replicas(router: str) -> None:
    same = run(prepare(cell(router, num_replicas=3)))
    fleet = run(prepare(cell(router, replicas=f"3*{A100}")))
    np.testing.assert_array_equal(fleet.finish_time, same.finish_time)
    np.testing.assert_array_equal(fleet.replica, same.replica)


def test_each_is_the_engine_that_it_is_said_to_be() -> None:
    """Behind round-robin every replica is a run of its own, with its own profile and options."""
    fleet = f"{A100}+{A100}(max_num_seqs=4)+{H100}(async_scheduling=false)"
    inputs = prepare(cell("round-robin", replicas=fleet))
    assert inputs.units is not None
    record = run(inputs)
    trace = inputs.trace
    for number, unit in enumerate(inputs.units):
        rows = np.arange(number, len(trace), 3)
        np.testing.assert_array_equal(np.flatnonzero(record.replica == number), rows)
        alone = simulate(trace.take(rows), make_policy("srtf"), unit.cost, unit.config)
        np.testing.assert_array_equal(record.finish_time[rows], alone.finish_time)
    assert [unit.config.max_num_seqs for unit in inputs.units] == [32, 4, 32]
    assert [unit.config.async_scheduling for unit in inputs.units] == [True, True, False]


@pytest.mark.parametrize("router", ["least-requests", "random"])
def test_leaping_is_stepping(router: str) -> None:
    inputs = prepare(cell(router, replicas=f"{A100}(num_gpu_blocks=900)+2*{H100}(max_num_seqs=8)"))
    leapt, stepped = (
        simulate(
            inputs.trace, make_policy("srtf"), inputs.cost, inputs.config,
            leap=leap, router=make_router(router), units=inputs.units,
        )
        for leap in (True, False)
    )  # fmt: skip
    np.testing.assert_array_equal(leapt.finish_time, stepped.finish_time)
    np.testing.assert_array_equal(leapt.replica, stepped.replica)


def test_what_is_checked_and_priced_is_an_engine_that_is_there() -> None:
    """Not the options of the others, without those that the first replica has of its own."""
    load = Load(workload="sharegpt", arrivals="poisson", request_rate=30.0, num_requests=20, seed=3)
    all_too_short = EngineConfig(max_model_len=100)
    inputs = prepare(Cell(load, Arm("fcfs", all_too_short, A100, replicas=f"2*{A100}(max_model_len=4096)")))
    assert inputs.units is not None
    assert inputs.config == inputs.units[0].config
    assert len(inputs.trace) == 20


def test_requests_must_fit_every_replica() -> None:
    with pytest.raises(InputError, match="can never be scheduled"):
        prepare(cell("random", replicas=f"{A100}+{A100}(max_model_len=100)"))


def test_the_capacity_is_the_sum_and_fleets_are_arms() -> None:
    study = make_study(
        {"policy": "fcfs", "replicas": [A100, f"2*{A100}"], "request_rate": ["0.5x"], "duration": 5.0}
    )
    plan = make_plan(study)
    one, two = plan.capacity.values()
    assert two == pytest.approx(2 * one, rel=1e-3)
    assert [options["replicas"] for options in plan.options.values()] == [A100, f"2*{A100}"]
    assert len({cell.load.request_rate for cell in plan.cells.values()}) == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--policy", "fcfs", "--replicas", f"{A100}+{H100}", "--router", "round-robin",
                 "--request-rate", "8", "--num-requests", "40", "-o", str(tmp_path), "--no-plot"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "1 times" in capsys.readouterr().err


def test_every_profile_of_a_fleet_is_in_the_manifest(tmp_path: Path) -> None:
    """A profile that has changed since is another input."""
    own = tmp_path / "own.json"
    shipped = resources.files("simsched.cost_model") / "profiles" / "h100-80gb--llama-3-8b.json"
    own.write_bytes(shipped.read_bytes())
    fleet = f"{A100}+2*{own}(max_num_seqs=8)"
    study = make_study({"policy": "fcfs", "replicas": fleet, "request_rate": 9, "num_requests": 9})
    before = make_plan(study).manifest()["sha256"]
    assert list(before) == [A100, str(own)]
    own.write_text(own.read_text().replace("{", "{ ", 1))
    after = make_plan(study).manifest()["sha256"]
    assert before[A100] == after[A100]
    assert before[str(own)] != after[str(own)]
