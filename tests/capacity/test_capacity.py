"""The search for the largest rate, and what it finds on a small engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.capacity import Question, arm_rates
from simsched.capacity.search import PRECISION, Bracket, bracket, over_seeds
from simsched.cli import main
from simsched.slo import parse_slo
from simsched.sweep.study import make_study
from simsched.text.table import short_number


@pytest.mark.parametrize("start", [1.0, 9.9, 10.0, 10.1, 60.0])
def test_a_bracket_holds_the_edge(start: float) -> None:
    asked: list[float] = []

    def is_good(rate: float) -> bool:
        asked.append(rate)
        return rate <= 10.0

    found = bracket(is_good, start)
    assert found.good is not None
    assert found.bad is not None
    assert found.good <= 10.0 < found.bad <= (1 + PRECISION) * found.good
    assert len(asked) < 20
    assert len(set(asked)) == len(asked)


def test_a_search_begins_with_two_equal_steps() -> None:
    asked: list[float] = []

    def is_good(rate: float) -> bool:
        asked.append(rate)
        return rate < 8.5

    bracket(is_good, 10.0, step=0.1, precision=0.3)
    assert asked == pytest.approx([10.0, 10 / 1.1, 10 / 1.21])


def test_a_search_without_an_edge_ends() -> None:
    assert bracket(lambda rate: False, 10.0).good is None
    assert bracket(lambda rate: True, 10.0).bad is None


def test_seeds_are_put_together() -> None:
    found = over_seeds([Bracket(10.0, 10.1), Bracket(11.0, 11.1)])
    assert found.rate == pytest.approx(10.5)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 10.0
    assert found.high > 11.1
    assert over_seeds([Bracket(10.0, 10.1), Bracket(None, 1.0)]).rate is None
    assert over_seeds([Bracket(10.0, 10.1)]).low == 10.0


SMALL = {"max_num_seqs": 16, "policy": "fcfs,srtf"}


def test_stable_rates_of_a_small_engine() -> None:
    """Sixteen slots: about 2.8 requests/s, and what meets an objective is less."""
    slo = parse_slo("90% ttft<2000ms")
    rates, _ = arm_rates(make_study(SMALL), Question(slo, burst=100, hour=1500.0), jobs=1)
    assert [arm.name for arm in rates] == ["fcfs", "srtf"]
    for arm in rates:
        assert arm.stable.rate is not None
        assert arm.slo.rate is not None
        assert arm.recovers.rate is not None
        assert 2.2 < arm.slo.rate <= arm.stable.rate < 3.2
        assert arm.recovers.rate <= arm.stable.rate
        by_rate = {probe.rate: probe for probe in arm.probes}
        assert by_rate[arm.stable.rate].steady
        assert arm.replicas(Question(slo), 10 * arm.slo.rate) == 10


@pytest.mark.parametrize(
    ("options", "size", "gpus"),
    [
        ({}, 1, 1),
        ({"num_replicas": 3, "router": "random"}, 3, 3),
        ({"cost_profile": "8xa100-80gb/llama-3-70b", "num_replicas": 2}, 2, 16),
        ({"replicas": "1*a100-80gb/llama-3-8b+1*8xa100-80gb/llama-3-70b"}, 2, 9),
    ],
)
def test_a_load_takes_whole_groups_of_an_arms_replicas(
    options: dict[str, object], size: int, gpus: int
) -> None:
    """The rate is of all replicas of the arm together; how many serve a load counts each of them."""
    question = Question(burst=0, hour=1500.0)
    study = make_study({"max_num_seqs": 16, "policy": "fcfs", **options})
    (arm,), _ = arm_rates(study, question, jobs=1)
    rate = arm.stable.rate
    assert rate is not None
    assert arm.replicas(question, 5 * rate) == 5 * size
    assert arm.replicas(question, 4.5 * rate) == 5 * size
    row = arm.to_dict(question, 5 * rate)
    assert (row["replicas"], row["gpu_hours_per_hour"]) == (5 * size, 5 * gpus)


def test_an_objective_that_nothing_meets_has_a_reason() -> None:
    question = Question(parse_slo("p99_tpot<1ms"), burst=0, hour=300.0)
    (arm,), _ = arm_rates(make_study({**SMALL, "policy": "fcfs"}), question, jobs=1)
    row = arm.to_dict(question, 5.0)
    assert row["slo_rate"] is None
    assert row["slo_rate_ci"] is None
    assert "p99_tpot<1ms: not met even at" in row["reasons"]["slo"]
    assert row["replicas"] is None
    assert row["recovers_rate"] is None


def test_what_is_refused_is_said(tmp_path: Path) -> None:
    """Refused requests are never served. A policy that refuses some at any rate has no stable one, and an
    engine that takes so many at a time has one below its capacity."""
    (tmp_path / "mine.py").write_text(
        "from pydantic.dataclasses import dataclass\n"
        "from simsched.policies.base import ADMIT, NEVER, REJECT, Policy\n"
        "@dataclass\n"
        "class Short(Policy):\n"
        "    preemptive: bool = False\n"
        "    def priority(self, request, now): return request.arrival_time\n"
        "    def next_change(self, request, now): return NEVER\n"
        "    def admit(self, request, engine):\n"
        "        return ADMIT if request.num_prompt_tokens < 200 else REJECT\n"
    )
    question = Question(burst=0, hour=600.0)
    study = make_study({"policy": f"{tmp_path}/mine.py:Short", "max_num_seqs": 16})
    (picky,), _ = arm_rates(study, question, jobs=1)
    assert picky.stable.rate is None
    assert "at each it refuses 0." in picky.reasons["stable"]
    bounded = {"policy": "fcfs", "max_num_seqs": 16, "max_num_queued_reqs": 16}
    (small,), _ = arm_rates(make_study(bounded), question, jobs=1)
    assert small.stable.rate is not None
    assert small.stable.rate < 2.2
    assert "of the requests at" in small.reasons["refused"]


def test_each_rate_that_is_tried_is_told() -> None:
    """So that nobody waits in the dark: the command prints those that take long."""
    told: list[tuple[str, str, float]] = []
    study = make_study({"policy": "fcfs", "max_num_seqs": 4, "num_runs": 1})
    question = Question(burst=50, hour=300.0)
    (arm,), _ = arm_rates(study, question, jobs=1, on_try=lambda *each: told.append(each))
    rates = {
        f"{short_number(probe.rate)} req/s: {'' if probe.steady else 'not '}steady" for probe in arm.probes
    }
    assert rates == {what for _, what, _ in told if "burst" not in what}
    assert any("a burst of 50" in what for _, what, _ in told)
    assert all(name == "fcfs" and seconds > 0 for name, _, seconds in told)


def test_the_command_writes_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "capacity", "--policy", "fcfs", "--max-num-seqs", "8,16", "--burst", "0", "-j", "1",
        "--slo", "90% ttft<5s", "--request-rate", "30", "--json", "c.json", "--figure", "c.png",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    rows = json.loads(Path("c.json").read_text())
    assert [row["arm"] for row in rows] == [
        {"policy": "fcfs", "max_num_seqs": 8},
        {"policy": "fcfs", "max_num_seqs": 16},
    ]
    shown, said = capsys.readouterr()
    assert said.startswith("2 arms to search")
    assert "rates that runs get" not in said  # the rates are searched
    for row in rows:
        assert row["stable_rate_ci"][0] <= row["stable_rate"] <= row["stable_rate_ci"][1]
        assert str(row["replicas"]) in shown
    assert Path("c.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slo", "fast"], "--slo fast"),
        (["--figure", "x.png"], "--figure x.png: needs an objective"),
        (["--arrivals", "burst"], "--request-rate: arrivals burst have no rate"),
        (["--request-rate", "-1"], "--request-rate -1"),
    ],
)
def test_bad_questions_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["capacity", "--policy", "fcfs", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "tenant"], "--by tenant: the requests of sharegpt have none"),
        (["--figure", "a.bmp"], "a.bmp: expected a name that ends in .png, .svg, .pdf"),
    ],
)
def test_what_can_not_be_answered_is_refused_before_the_search(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["capacity", "--policy", "fcfs", "--slo", "95% ttft<500ms", *options])
    assert capsys.readouterr().err == f"simsched: {said}\n"
