"""`simsched reproduce`, end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli import cli
from simsched.cost_model.profile import load_profile
from simsched.errors import InputError
from simsched.reproduce import published, reproduce
from simsched.reproduce.outcome import Setting
from simsched.reproduce.runs import PROFILES, Run, execute, execute_all, requests

KEYS = {
    "study", "policy", "workload", "request_rate", "metric", "published", "simulated", "relative_error"
}  # fmt: skip


def test_list_names_every_study() -> None:
    lines = CliRunner().invoke(cli, ["reproduce", "--list"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(reproduce.STUDIES)


def test_one_study_writes_a_page_and_its_cells(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["reproduce", "overhead", "--jobs", "1", "-o", str(out)])
    assert result.exit_code == 0, result.output
    cells = json.loads((out / "cells.json").read_text())
    assert len(cells) == len(published.OVERHEAD)
    for cell in cells:
        assert set(cell) == KEYS
        assert cell["relative_error"] == pytest.approx(cell["simulated"] / cell["published"] - 1)
        # a burst's predictor work comes first, so every request waits for it
        assert 0 < cell["simulated"] < 5
    page = (out / "report.html").read_text()
    assert "Predictor overhead" in page
    assert not re.search(r'(src|href)="https?:', page)
    assert (out / "overhead.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_study_is_one_line() -> None:
    with pytest.raises(InputError, match=r"reproduce table9: unknown; expected table1"):
        reproduce.choose(["table9"])


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for option in ("--data", "-o"):
        result = CliRunner().invoke(cli, ["reproduce", "overhead", option, str(file)])
        assert isinstance(result.exception, InputError)


@pytest.mark.parametrize("name", reproduce.STUDIES)
def test_a_study_asks_for_its_runs_before_they_are_known(name: str) -> None:
    runs = reproduce.runs_of(reproduce.STUDIES[name][1], Setting())
    assert runs
    for run in set(runs):
        assert len(requests(run)) > 0


def test_any_number_of_processes_gives_the_same() -> None:
    runs = [
        Run("ranking", request_rate=2.0),
        Run("classification", num_requests=100),
        Run("po", num_requests=90),
    ]
    one, two = execute_all(runs, 1), execute_all(runs, 2)
    assert {run: repr(one[run]) for run in runs} == {run: repr(two[run]) for run in runs}


def test_perception_only_answers_are_longer_and_bursts_are_in_order() -> None:
    plain, po = requests(Run("fcfs", num_requests=50)), requests(Run("po", num_requests=50))
    assert (po.num_output_tokens - plain.num_output_tokens == 15).all()
    assert (plain.arrival_time[1:] > plain.arrival_time[:-1]).all()
    assert plain.arrival_time[-1] < 1e-3


def test_fcfs_rows_are_met_by_the_profile_that_was_fitted_to_them() -> None:
    rows = {rate: row for policy, rate, row in published.rep_rows() if policy == "fcfs"}
    for rate in (16.0, 32.0):
        simulated = execute(Run("fcfs", request_rate=rate))
        assert simulated["mean_latency_per_token_ms"] == pytest.approx(
            rows[rate]["mean_latency_per_token_ms"], rel=0.15
        )


@pytest.mark.parametrize("name", PROFILES.values())
def test_the_profiles_say_how_they_were_made(name: str) -> None:
    profile = load_profile(name)
    assert profile.file is not None
    assert profile.file.provenance.command.startswith("simsched calibrate --from-summary")
    assert profile.num_gpu_blocks(16)
