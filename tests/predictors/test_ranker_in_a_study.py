"""A trained ranker as `--predictor MODEL`: its scores order the queue, its measured time is charged."""

import json

import polars as pl
import pytest

from simsched.predictors.evaluation import tau_b
from simsched.predictors.model import load_model
from tests.predictors.ranker_cases import rows, write_jsonl
from tests.predictors.test_ranker_light import call, refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_jsonl(folder / "train.jsonl", rows(200))
    test = [{**entry, "timestamp": 0.0, "input_length": 20} for entry in rows(120, seed=1)]
    write_jsonl(folder / "trace.jsonl", test)
    call("train", "--data", folder / "train.jsonl", "--output", folder / "model")
    return folder


def run(folder, out, *more):
    return call("run", "--trace", folder / "trace.jsonl", "--policy", "fcfs,ranking", "--max-num-seqs", 4,
                "-o", out, "--no-plot", "-j", 1, *more)  # fmt: skip


def test_a_model_is_a_predictor(folder, tmp_path):
    result = run(folder, tmp_path / "out", "--predictor", folder / "model")
    seconds = load_model(folder / "model").seconds_per_prompt
    assert f"{seconds * 1e3:.4g} ms a request" in result.stderr
    means = {
        row["policy"]: row["mean_e2el_ms"] for row in pl.read_csv(tmp_path / "out" / "summary.csv").to_dicts()
    }
    assert means["ranking"] < means["fcfs"]


def test_predicted_columns_are_what_the_model_would_give(folder, tmp_path):
    trace = tmp_path / "scored.jsonl"
    call("predict", folder / "model", "--data", folder / "trace.jsonl", "--output", trace)
    run(folder, tmp_path / "model", "--predictor", folder / "model", "--predictor-time", 0)
    call("run", "--trace", trace, "--policy", "fcfs,ranking", "--max-num-seqs", 4, "-o", tmp_path / "trace",
         "--no-plot", "-j", 1, "--predictor", "trace", "--predictor-time", 0)  # fmt: skip
    first, second = (
        pl.read_csv(tmp_path / name / "summary.csv")["mean_e2el_ms"].to_list() for name in ("model", "trace")
    )
    assert first == second
    scored = [json.loads(line) for line in trace.read_text().splitlines()]
    lengths = pl.Series([row["output_length"] for row in scored]).cast(float).to_numpy()
    assert tau_b(pl.Series([row["score"] for row in scored]).to_numpy(), lengths) > 0.4


def test_a_folder_without_a_ranker_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    args = ("run", "--trace", folder / "trace.jsonl", "--policy", "ranking", "-o", tmp_path / "o")
    assert "no ranker" in refusal(*args, "--predictor", tmp_path / "empty")
    assert not (tmp_path / "o").exists()
