"""How evenly requests are spread over replicas, by hand and in a study."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simsched.balance import balance_values
from simsched.compare.groups import by_group
from simsched.compare.samples import samples_of
from simsched.plotting.groups import GroupDisplay
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study


def test_by_hand() -> None:
    """In a window of 10 s: replica 0 has 2 in flight all the time, replica 1 one for half of it."""
    values = balance_values(
        np.array([0, 0, 1, -1]),
        np.array([-5.0, 0.0, 5.0, 1.0]),
        np.array([20.0, np.nan, 10.0, np.nan]),
        np.array([100, 10, 30, 999]),
        (0.0, 10.0),
    )
    loads = np.array([20.0, 5.0])
    assert values["replica_load_cv"] == pytest.approx(loads.std() / loads.mean())
    tokens = np.array([10.0, 30.0])  # the first arrived before
    assert values["replica_tokens_cv"] == pytest.approx(tokens.std() / tokens.mean())


def test_all_on_one_of_four() -> None:
    values = balance_values(np.array([3]), np.array([0.0]), np.array([1.0]), np.array([5]), (0.0, 10.0))
    assert values["replica_load_cv"] == pytest.approx(math.sqrt(3))


def test_nobody_served() -> None:
    none = np.array([-1])
    values = balance_values(none, np.array([0.0]), np.array([np.nan]), np.array([5]), (0.0, 1.0))
    assert all(math.isnan(value) for value in values.values())


def test_a_study_has_it_and_counts_balance_better_than_chance(tmp_path: Path) -> None:
    study = make_study(
        {
            "policy": "fcfs", "num_replicas": [4], "router": ["random", "least-requests"],
            "request_rate": ["0.8x"], "num_requests": 800, "num_runs": 2,
        }
    )  # fmt: skip
    run_study(make_plan(study), tmp_path, jobs=1)
    summary = Results.open(tmp_path).summary
    chance, counts = (
        summary.filter(router=router)["replica_load_cv"].mean() for router in ("random", "least-requests")
    )
    assert isinstance(chance, float)
    assert isinstance(counts, float)
    assert 0 < counts < chance / 2


def test_a_lone_engine_has_no_such_columns(tmp_path: Path) -> None:
    study = make_study({"policy": "fcfs", "request_rate": ["4"], "num_requests": 20})
    run_study(make_plan(study), tmp_path, jobs=1)
    assert "replica_load_cv" not in Results.open(tmp_path).summary.columns


def test_what_each_replica_finds_in_its_cache(tmp_path: Path) -> None:
    """Sessions that stay find more; a replica's rate is its requests' cached tokens over their prompts."""
    study = make_study(
        {
            "workload": "vllm-multi-turn", "policy": "fcfs", "num_replicas": [2], "num_requests": 120,
            "router": ["round-robin", "session"], "arrivals": ["sessions(rate=0.5)"], "max_num_seqs": [16],
        }
    )  # fmt: skip
    run_study(make_plan(study), tmp_path, jobs=1)
    results = Results.open(tmp_path)
    found = by_group(results, samples_of(results), 0, "replica")
    requests = results.requests
    for row in found.rows:
        router = row.arm.partition("router=")[2]
        mine = requests.filter((pl.col("router") == router) & (pl.col("replica") == int(row.group)))
        expected = mine["num_cached_tokens"].sum() / mine["num_prompt_tokens"].sum()
        assert row.metrics["prefix_cache_hit_rate"] == pytest.approx(expected)
        assert expected > 0.1
    table = found.to_table()
    assert "cache hits" in table.splitlines()[0]
    assert all("prefix_cache_hit_rate" in row for row in found.to_dict()["rows"])
    figure = GroupDisplay.from_results(results, by="replica", metric="prefix_cache_hit_rate")
    assert {group for values in figure.values.values() for group in values} == {"0", "1"}
