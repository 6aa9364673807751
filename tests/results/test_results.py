"""A results directory: its schema, its atomic writes, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from simsched.errors import InputError
from simsched.metrics import METRICS, SUMMARY, summarize
from simsched.request_table import request_table
from simsched.results import Results, ResultsWriter, over_runs
from tests.test_metrics import make_record


def make_manifest(runs: int = 2, **study: Any) -> dict[str, Any]:
    cells = {
        f"{i}-fcfs": {"policy": "fcfs", "workload": "w", "request_rate": rate, "run": i, "seed": 0}
        for i, rate in enumerate([None, 2.0, 2.0, 2.0][:runs])
    }
    return {"study": study, "cells": cells}


def fill(writer: ResultsWriter) -> Results:
    record = make_record()
    for cell in writer.pending():
        steps = writer.step_log(cell)
        steps({"step": 1, "time": 0.5})
        writer.write_cell(cell, request_table(record), summarize(record), steps)
    return writer.merge()


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_written_and_read(tmp_path: Path) -> None:
    results = fill(ResultsWriter.create(tmp_path / "out", make_manifest()))
    assert list(results.cells) == ["0-fcfs", "1-fcfs"]
    options = ["policy", "workload", "request_rate", "run", "seed"]
    assert results.summary.columns == ["cell", *options, *SUMMARY]
    assert results.summary["request_rate"].to_list() == [None, 2.0]
    assert results.summary["unfinished"].to_list() == [1, 1]
    assert results.requests.columns[:6] == [*options, "request_id"]
    assert results.requests.height == 8
    assert results.requests.schema["request_rate"] == pl.Float64
    assert list(results.steps("1-fcfs")) == [{"step": 1, "time": 0.5}]
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert float(rows[1]["mean_e2el_ms"]) == results.summary["mean_e2el_ms"][1]
    assert rows[0]["request_goodput"] == ""


def test_resume_gives_the_same_bytes(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    fill(ResultsWriter.create(whole, make_manifest()))
    writer = ResultsWriter.create(resumed, make_manifest())
    record = make_record()
    writer.write_cell("1-fcfs", request_table(record), summarize(record))
    (resumed / "cells" / ".tmp-0-fcfs-1").mkdir()  # what a kill leaves
    (resumed / ".tmp-summary.csv-1").touch()
    with pytest.raises(InputError, match=r"unfinished \(1 of 2 cells.*--resume"):
        Results.open(resumed)
    writer = ResultsWriter.create(resumed, make_manifest(), resume=True)
    assert writer.pending() == ["0-fcfs"]
    fill(writer)
    ours, theirs = contents(whole), contents(resumed)
    ours.pop("steps/1-fcfs.jsonl")
    assert ours == theirs


@pytest.mark.parametrize("file", ["requests.parquet", "summary.json"])
def test_a_damaged_cell_says_how_to_go_on(tmp_path: Path, file: str) -> None:
    writer = ResultsWriter.create(tmp_path, make_manifest())
    fill(writer)
    (tmp_path / "cells" / "1-fcfs" / file).write_bytes(b"x")
    with pytest.raises(
        InputError, match="cells/1-fcfs: damaged; remove this folder, and --resume makes it anew"
    ):
        writer.merge()


def test_existing_directory_is_refused(tmp_path: Path) -> None:
    fill(ResultsWriter.create(tmp_path, make_manifest()))
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"2 of 2 cells done.*--resume.*--overwrite"):
        ResultsWriter.create(tmp_path, make_manifest())
    with pytest.raises(InputError, match=r'another configuration: study\.tau is null there, "x" here'):
        ResultsWriter.create(tmp_path, make_manifest(tau="x"), resume=True)
    with pytest.raises(InputError, match="exclude"):
        ResultsWriter.create(tmp_path, make_manifest(), resume=True, overwrite=True)
    assert contents(tmp_path) == before


def test_overwrite_removes_only_what_is_ours(tmp_path: Path) -> None:
    fill(ResultsWriter.create(tmp_path, make_manifest()))
    (tmp_path / "notes.txt").write_text("mine")
    writer = ResultsWriter.create(tmp_path, make_manifest(runs=1), overwrite=True)
    assert sorted(contents(tmp_path)) == ["manifest.json", "notes.txt"]
    assert writer.pending() == ["0-fcfs"]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_foreign_directory_is_left_alone(tmp_path: Path, options: dict[str, bool]) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "precious").touch()
    with pytest.raises(InputError, match="holds no simsched results"):
        ResultsWriter.create(tmp_path, make_manifest(), **options)
    assert (tmp_path / "cells" / "precious").exists()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="not a directory"):
            ResultsWriter.create(tmp_path / "out", make_manifest(), **options)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the directory"):
        ResultsWriter.create(tmp_path / "file" / "out", make_manifest())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"cells": 3}', b'{"cells": {"a": 1}}', b"\xff\xfe\x00"])
def test_damaged_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        Results.open(tmp_path)
    with pytest.raises(InputError, match="remove the directory, or choose another with -o"):
        ResultsWriter.create(tmp_path, make_manifest(), overwrite=True)


def test_damaged_results(tmp_path: Path) -> None:
    results = fill(ResultsWriter.create(tmp_path, make_manifest()))
    (tmp_path / "requests.parquet").write_bytes(b"PAR1")
    (tmp_path / "summary.json").write_text("{")
    (tmp_path / "steps" / "0-fcfs.jsonl").write_text('{"step": 1}\n{"st')
    with pytest.raises(InputError, match=r"requests\.parquet"):
        _ = results.requests
    with pytest.raises(InputError, match=r"summary\.json"):
        _ = results.summary
    with pytest.raises(InputError, match=r"0-fcfs\.jsonl:2"):
        list(results.steps("0-fcfs"))
    with pytest.raises(InputError, match="no cell nope"):
        list(results.steps("nope"))


def test_intervals_over_runs(tmp_path: Path) -> None:
    base = {"policy": "fcfs", "request_rate": 2.0, **dict.fromkeys(METRICS)}
    rows = [{**base, "run": i, "mean_ttft_ms": value} for i, value in enumerate([10.0, 12.0, 14.0])]
    (group,) = over_runs(rows, ["policy", "request_rate", "run"])
    assert group["policy"] == "fcfs"
    assert "run" not in group
    # mean 12, s = 2, t(0.975, 2) = 4.3027
    low, high = group["mean_ttft_ms"]["ci95"]
    assert (low, high) == pytest.approx((12 - 4.3027 * 2 / 3**0.5, 12 + 4.3027 * 2 / 3**0.5), abs=1e-3)
    assert group["mean_ttft_ms"]["n"] == 3
    assert group["p99_ttft_ms"] == {"mean": None, "ci95": None, "n": 0}
    assert over_runs(rows[:1], ["policy", "request_rate", "run"])[0]["mean_ttft_ms"]["ci95"] is None


def test_json_has_no_nan(tmp_path: Path) -> None:
    fill(ResultsWriter.create(tmp_path, make_manifest()))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
