"""Profiles with host times in a study: asynchronous by default, and the host as an axis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from simsched.cli.run import run_command
from simsched.cost_model.profile import load_profile
from simsched.errors import InputError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from tests.engine.test_clock import HOST


@pytest.fixture
def hosted(tmp_path: Path) -> str:
    """The A100's profile with host times."""
    profile = load_profile("a100-80gb/llama-3-8b")
    assert profile.file is not None
    file = profile.file.model_copy(update={"name": "hosted", "host": HOST.to_json()})
    path = tmp_path / "hosted.json"
    path.write_text(file.to_text())
    return str(path)


def results(out: Path, **options: Any) -> Results:
    study = {"policy": "fcfs", "request_rate": 8, "num_requests": 60, **options}
    return run_study(make_study(study), out / "results", jobs=1)


def test_asynchronous_where_the_profile_has_host_times(hosted: str, tmp_path: Path) -> None:
    def scheduling(**options: Any) -> list[bool]:
        manifest = make_plan(make_study({"policy": "fcfs", "request_rate": 8, **options})).manifest()
        found: list[bool] = manifest["async_scheduling"]
        return found

    assert scheduling(cost_profile=hosted) == [True]
    assert scheduling(cost_profile=hosted, async_scheduling=False) == [False]
    bare = tmp_path / "bare.json"
    bare.write_text(
        json.dumps({"form": "linear", "unit": "s", "t0": 0.01, "a": 5e-5, "b": 6e-5, "c": 0, "d": 0})
    )
    memory = {"num_gpu_blocks": 5000, "max_model_len": 8192}
    assert scheduling(cost_profile=str(bare), **memory) == [False]
    assert scheduling(cost_profile=str(bare), async_scheduling=True, **memory) == [True]


def test_the_host_is_an_axis(hosted: str, tmp_path: Path) -> None:
    found = results(tmp_path, cost_profile=hosted, host_speed="0.5,4")
    fast, slow = found.summary.sort("host_speed").iter_rows(named=True)
    assert fast["mean_tpot_ms"] < slow["mean_tpot_ms"]
    assert 0 < fast["host_bound_share"] < slow["host_bound_share"] < 1
    assert found.manifest["study"]["host_speed"] == [0.5, 4.0]


def test_jitter_is_recorded_and_repeats(hosted: str, tmp_path: Path) -> None:
    one = results(tmp_path / "1", cost_profile=hosted, host_jitter=0.3)
    two = results(tmp_path / "2", cost_profile=hosted, host_jitter=0.3)
    none = results(tmp_path / "3", cost_profile=hosted)
    assert one.summary.equals(two.summary)
    assert one.summary["mean_ttft_ms"][0] != none.summary["mean_ttft_ms"][0]
    assert one.manifest["study"]["host_jitter"] == [0.3]


def test_without_host_times_the_share_is_not_known(tmp_path: Path) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(
        json.dumps({"form": "linear", "unit": "s", "t0": 0.01, "a": 5e-5, "b": 6e-5, "c": 0, "d": 0})
    )
    found = results(tmp_path, cost_profile=str(bare), num_gpu_blocks=5000, max_model_len=8192, host_speed=2)
    assert found.summary["host_bound_share"].to_list() == [None]
    assert "--host-speed changes nothing: bare has no host times" in found.manifest["notes"]


def test_the_share_is_printed_with_a_warning(hosted: str, tmp_path: Path) -> None:
    command = ["--policy", "fcfs", "--request-rate", "8", "--num-requests", "60", "--no-plot"]
    command += ["--cost-profile", hosted]
    calm = CliRunner().invoke(run_command, [*command, "--host-speed", "0.1", "-o", str(tmp_path / "calm")])
    assert calm.exit_code == 0, calm.output
    assert "the host bounds" in calm.output
    assert "warning" not in calm.output
    in_turn = ["--no-async-scheduling", "-o", str(tmp_path / "in-turn")]
    turns = CliRunner().invoke(run_command, [*command, *in_turn])
    assert "the host bounds" in turns.output
    assert "what the device waits for" in turns.output
    command[-1] = "a100-80gb/llama-3-8b/serial"
    not_told = CliRunner().invoke(run_command, [*command, "-o", str(tmp_path / "serial")])
    assert "what share of the time the host bounds is not known" in not_told.output
    command[-1] = hosted
    slow = CliRunner().invoke(run_command, [*command, "--host-speed", "9", "-o", str(tmp_path / "slow")])
    assert "warning: so much of these results is as uncertain as the host's speed" in slow.output


@pytest.mark.parametrize(
    "bad", [{"host_speed": 0}, {"host_speed": "fast"}, {"host_speed": "1,1"}, {"host_jitter": 3}]
)
def test_bad_values_are_refused(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}: "):
        make_study({"policy": "fcfs", **bad})
