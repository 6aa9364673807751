"""Results that grow: what is there stays byte for byte, what is added meets the same loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simsched.cli import main
from simsched.compare import compare
from simsched.compare.lower_bound import cells_of_results
from simsched.compare.samples import samples_of, with_labels
from simsched.errors import InputError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.extend import extended, plan_extension
from simsched.sweep.study import make_study

GIVEN = {"policy": "fcfs,sjf", "request_rate": "0.5x,20", "num_requests": "40"}


def cells(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in (path / "cells").rglob("*")
        if file.is_file()
    }


def extend(out: Path, **given: Any) -> Results:
    return run_study(plan_extension(out, given), out, extend=True)


def rows(results: Results) -> dict[Any, dict[str, Any]]:
    """Metrics by what was simulated, whatever the cell is called."""
    return {
        (row["policy"], row["request_rate"], row["run"], row.get("max_num_seqs")): {
            name: value for name, value in row.items() if name != "cell"
        }
        for row in results.summary.to_dicts()
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run_study(make_study(GIVEN), tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    "added",
    [{"policy": "ljf"}, {"request_rate": "30"}, {"num_runs": "2"}, {"policy": "fcfs,ljf", "num_runs": "2"}],
)
def test_extended_equals_the_whole_grid(out: Path, tmp_path: Path, added: dict[str, str]) -> None:
    before, old = cells(out), Results.open(out).manifest
    grown = extend(out, **added)
    after = cells(out)
    assert {name: after[name] for name in before} == before
    assert len(grown.cells) > len(old["cells"])
    for name, options in old["cells"].items():
        assert grown.cells[name] == options
        assert grown.manifest["capacity"][name] == old["capacity"][name]
    lists = {name: f"{GIVEN[name]},{value}" for name, value in added.items() if name in GIVEN}
    whole = {**GIVEN, **added, **lists}
    whole["policy"] = ",".join(dict.fromkeys(whole["policy"].split(",")))
    at_once = run_study(make_study(whole), tmp_path / "whole")
    assert rows(grown) == rows(at_once)
    assert len(grown.requests) == len(at_once.requests)


def test_an_option_that_was_left_to_its_default(out: Path) -> None:
    before = cells(out)
    results = extend(out, max_num_seqs="512")
    assert {name: cells(out)[name] for name in before} == before
    assert {options["max_num_seqs"] for options in results.cells.values()} == {256, 512}
    assert results.requests["max_num_seqs"].null_count() == 0
    assert "fcfs, max_num_seqs=256" in compare(results).arms
    results = extend(out, max_num_seqs="128", num_runs="2")
    assert list(cells_of_results(results)) == list(results.manifest["cells"])
    assert {name: cells(out)[name] for name in before} == before


def test_loads_that_time_themselves_keep_their_seconds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = {"policy": "fcfs", "request_rate": "7", "max_num_seqs": "64"}
    old = run_study(make_study(given), out).manifest["duration"]
    results = extend(out, max_num_seqs="512")
    assert set(results.manifest["duration"].values()) == set(old.values())
    loads = results.requests.group_by("max_num_seqs").agg("arrival_time").to_dicts()
    assert loads[0]["arrival_time"] == loads[1]["arrival_time"]  # new arms meet the same requests
    alone = run_study(make_study({**given, "max_num_seqs": "512"}), tmp_path / "alone")
    assert set(alone.manifest["duration"].values()) != set(old.values())


def test_an_extension_that_was_cut_goes_on(out: Path) -> None:
    plan = plan_extension(out, {"policy": "ljf"})
    seen: list[str] = []

    def stop(cell: str) -> None:
        seen.append(cell)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(plan, out, extend=True, jobs=1, on_cell=stop)
    with pytest.raises(InputError, match="5 of 6 cells"):
        Results.open(out)
    again: list[str] = []
    run_study(plan_extension(out, {"policy": "ljf"}), out, extend=True, jobs=1, on_cell=again.append)
    assert len(again) == 1
    assert again != seen
    whole = (out / "summary.csv").read_bytes()
    assert extend(out, policy="ljf").path == out  # nothing to add
    assert (out / "summary.csv").read_bytes() == whole


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-requests", "50"], "--num-requests is 40 there, 50 here"),
        (["--seed", "3"], "--seed is 0 there, 3 here"),
        (["--tau", "0.5"], "--tau was not given there"),
        (["--policy", "nonsense"], "nonsense"),
        (["--policy", "ljf", "--resume"], "--extend excludes --resume"),
    ],
)
def test_what_cannot_be_added(
    out: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert said in refusal(capsys, str(out), "--extend", *options)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_other_inputs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, out = tmp_path / "t.jsonl", tmp_path / "out"

    def write(*requests: Mapping[str, Any]) -> None:
        trace.write_text("".join(json.dumps(request) + "\n" for request in requests))

    request = {"timestamp": 0.0, "input_length": 10, "output_length": 5}
    write(request, {**request, "timestamp": 1.0})
    run_study(make_study({"trace": str(trace), "policy": "fcfs"}), out)
    write(request)
    assert "t.jsonl has changed since" in refusal(capsys, "-o", str(out), "--extend", "--policy", "sjf")
    trace.unlink()
    assert "t.jsonl" in refusal(capsys, "-o", str(out), "--extend", "--policy", "sjf")
    assert "no simsched results" in refusal(capsys, "-o", str(tmp_path / "none"), "--extend")


def test_from_the_command_line(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", str(out), "--extend", "--policy", "ljf", "--no-plot"])
    assert not ended.value.code
    assert "ljf" in capsys.readouterr().out
    assert len(Results.open(out).cells) == 6


def test_rates_by_default_are_kept() -> None:
    study = extended(make_study({"policy": "fcfs", "workload": "sharegpt"}), {"request_rate": "5"}, "out")
    assert study.request_rate == ("2", "4", "8", "16", "32", "64", "5")


MINE = """
from dataclasses import dataclass

from simsched.policies.base import Policy

@dataclass
class Mine(Policy):
    cap: int = 1

    def priority(self, request, now):
        return min(request.num_prompt_tokens, self.cap)
"""


def test_a_label_outlives_the_name_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, file = tmp_path / "out", tmp_path / "mine.py"
    file.write_text(MINE)
    given = {"request_rate": "20", "num_requests": "30"}
    study = make_study({**given, "policy": "fcfs", "label": f"mine={file}:Mine(cap=512)"})
    assert study.policy == ("fcfs", f"{file}:Mine(cap=512)")
    results = run_study(study, out)
    assert [options["policy"] for options in results.cells.values()] == ["fcfs", "mine"]
    assert results.requests["policy"].unique().sort().to_list() == ["fcfs", "mine"]
    assert results.manifest["study"]["label"] == {"mine": f"{file}:Mine(cap=512)"}
    assert compare(results, "mine").arms == ["fcfs", "mine"]
    assert list(cells_of_results(results)) == list(results.cells)
    before = cells(out)
    file = file.rename(tmp_path / "new.py")
    grown = extend(out, policy="sjf", label=f"mine={file}:Mine(cap=512)")
    assert [options["policy"] for options in grown.cells.values()] == ["fcfs", "mine", "sjf"]
    assert {name: cells(out)[name] for name in before} == before
    file.write_text(MINE + "\n# changed\n")
    options = ("--policy", "ljf", "--label", f"mine={file}:Mine(cap=512)")
    assert "has changed since" in refusal(capsys, str(out), "--extend", *options)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("fcfs=sjf", "a name that is no policy's"),
        ("mine", "expected NAME=ARM"),
        ("A=num_replicas=4", "no arm has that; there are fcfs"),
        ("ranking=router=session", "a name that is no policy's"),
        ("a=sjf,b=sjf", "is that policy already"),
        ("a=sjf,a=ljf", "each name once"),
        ("a=nonsense", "nonsense"),
    ],
)
def test_labels_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str, said: str
) -> None:
    assert said in refusal(capsys, "-o", str(tmp_path / "out"), "--request-rate", "5", "--label", label)
    assert not (tmp_path / "out").exists()


def test_labels_of_routers_and_arms_are_the_directorys(tmp_path: Path) -> None:
    """They name what is in the grid and run nothing; every later command has them, and they may be more."""
    out = tmp_path / "out"
    given = {"policy": "fcfs,sjf", "request_rate": "40", "num_requests": "30", "num_replicas": "2"}
    label = "Sticky=router=session,Ours=sjf,router=session,short=ljf"
    study = make_study({**given, "router": "round-robin,session", "label": label})
    assert study.label == {"Sticky": "router=session", "Ours": "sjf, router=session", "short": "ljf"}
    assert study.policy == ("fcfs", "sjf", "ljf")
    results = run_study(study, out)
    names = [
        *("fcfs, router=round-robin", "sjf, router=round-robin", "short, router=round-robin"),
        *("fcfs, Sticky", "Ours", "short, Sticky"),
    ]
    assert samples_of(results).names == samples_of(Results.open(out)).names == names
    assert compare(results, "Ours").baseline == "Ours"
    assert {cell["router"] for cell in results.cells.values()} == {"round-robin", "session"}
    (again,) = with_labels([Results.open(out)], ["Theirs=sjf,router=session"])
    assert samples_of(again).names[-2:] == ["Theirs", "short, Sticky"]
    grown = extend(out, label="Even=router=round-robin")
    assert samples_of(grown).names[:2] == ["fcfs, Even", "sjf, Even"]
    assert make_study(study.model_dump(exclude_defaults=True)) == study


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Sticky=router=nope"], "no arm has that; there are fcfs, sjf; router=round-robin, router=session"),
        (["A=router=session", "A=fcfs"], "A twice"),
        (["A=router=session,B=router=round-robin", "A2=fcfs", "B2=lifo"], "lifo"),
    ],
)
def test_labels_of_arms_that_are_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: list[str], said: str
) -> None:
    options = [word for label in labels for word in ("--label", label)]
    grid = ("--policy", "fcfs,sjf", "--num-replicas", "2", "--router", "round-robin,session")
    assert said in refusal(capsys, "-o", str(tmp_path / "out"), "--request-rate", "5", *grid, *options)
    assert not (tmp_path / "out").exists()


def test_a_label_among_the_policies() -> None:
    study = make_study({"policy": "short,fcfs", "label": {"short": "sjf"}})
    assert study.policy == ("sjf", "fcfs")
    assert make_study(study.model_dump(exclude_defaults=True)) == study


def test_gaps_are_said_to_be_the_whole_runs(tmp_path: Path) -> None:
    given = {"policy": "fcfs,sjf", "request_rate": "20", "num_requests": "300", "warmup": "1"}
    results = run_study(make_study(given), tmp_path / "out")
    said = "are the whole runs'"
    assert any(said in note for note in compare(results, metrics=["p99_itl_ms"]).notes)
    assert not any(said in note for note in compare(results, metrics=["p99_ttft_ms"]).notes)
