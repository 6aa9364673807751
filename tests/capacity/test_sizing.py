"""How many replicas behind a router a load needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from simsched.capacity import Question, arm_sizes
from simsched.capacity.sizing import smallest
from simsched.capacity.tasks import prober_of, tasks_of
from simsched.cli import main
from simsched.sweep.study import make_study

RATE = ["--request-rate", "6"]
SMALL = {"policy": "fcfs", "max_num_seqs": 4, "num_replicas": 1}


@pytest.mark.parametrize(
    ("needed", "start", "asked"),
    [
        (5, 5, [5, 4]),
        (6, 5, [5, 6]),
        (12, 5, [5, 6, 8, 12, 10, 11]),
        (1, 1, [1]),
        (1, 6, [6, 5, 3, 1]),
        (2, 6, [6, 5, 3, 1, 2]),
        (4, 6, [6, 5, 3, 4]),
    ],
)
def test_the_smallest_number_is_found_near_the_estimate(needed: int, start: int, asked: list[int]) -> None:
    seen: list[int] = []

    def serves(number: int) -> bool:
        seen.append(number)
        return number >= needed

    size = smallest(serves, start)
    assert size.replicas == needed
    assert seen == asked
    assert size.tried == {number: number >= needed for number in sorted(asked)}


def test_a_search_that_nothing_ends_does() -> None:
    size = smallest(lambda number: False, 2)
    assert size.replicas is None
    assert max(size.tried) == 40


def test_one_less_does_not_serve_it() -> None:
    question = Question(burst=0, hour=600.0)
    study = make_study({**SMALL, "router": "least-requests,random"})
    sizes, _ = arm_sizes(study, question, 1.5, jobs=1)
    assert [size.name for size in sizes] == ["fcfs, router=least-requests", "fcfs, router=random"]
    for (arm, load, _), size in zip(
        (tasks[0] for tasks in tasks_of(study).tasks.values()), sizes, strict=True
    ):
        assert size.replicas is not None
        assert size.replicas == size.num_gpus
        for number, expected in ((size.replicas, True), (size.replicas - 1, False)):
            probe = prober_of(replace(arm, num_replicas=number), load, question).probe(1.5)
            assert probe.steady == expected


def test_arms_are_called_as_the_study_says() -> None:
    study = make_study({**SMALL, "router": "least-requests,random", "label": "Dealt=router=random"})
    assert [name for _, name in tasks_of(study).tasks] == ["fcfs, router=least-requests", "fcfs, Dealt"]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simsched.cli.capacity._LONG", 0.0)
    file = tmp_path / "sizes.json"
    arguments = [
        "capacity", "--policy", "fcfs", "--max-num-seqs", "8", "--router", "round-robin", "-j", "1",
        "--slo", "90% ttft<1s", "--request-rate", "6", "--json", str(file),
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    (row,) = json.loads(file.read_text())
    assert row["arm"] == {"policy": "fcfs"}
    assert row["replicas"] == row["gpu_hours_per_hour"] >= 3
    assert {each["replicas"]: each["serve"] for each in row["tried"]}[row["replicas"]]
    shown, said = capsys.readouterr()
    assert f"fcfs: {row['replicas']} replicas serve (" in said
    assert f"fcfs: {row['replicas'] - 1} replicas do not (" in said
    assert "the fewest that serve 6 requests/s with 90% ttft<1s, all behind one router" in shown


def test_no_figure_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["capacity", "--router", "random", *RATE, "--slo", "90% ttft<1s", "--figure", "x.png"])
    assert ended.value.code == 2
    assert "--figure x.png: --router with --request-rate searches no rates" in capsys.readouterr().err
