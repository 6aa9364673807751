"""Names of one's own for policies, routers and whole arms, the same in tables, figures and reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.compare import compare_command
from simsched.cli.plot import plot_command
from simsched.cli.report import report_command
from simsched.compare.samples import samples_of, with_labels
from simsched.errors import InputError
from simsched.plotting import CDFDisplay, LatencyDisplay
from simsched.results import Results
from simsched.text.arm_names import parse_labels
from tests.fake_results import make_results

POLICIES = ("fcfs", "mlfq(threshold=2)", "mlfq(threshold=4)", "ranking")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("fleet") / "out"
    return make_results(
        folder, policies=("fcfs", "ranking"), rates=(2.0,), extra={"router": ["vllm-dp", "session"]}
    )


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(tmp_path_factory.mktemp("lone") / "out", policies=POLICIES, rates=(2.0, 8.0), runs=1)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["A=fcfs"], {"A": {"policy": "fcfs"}}),
        (["A=mlfq(threshold=2)"], {"A": {"policy": "mlfq(threshold=2)"}}),
        (["Sticky=router=session"], {"Sticky": {"router": "session"}}),
        (["A=ranking,router=session"], {"A": {"policy": "ranking", "router": "session"}}),
        (["A=router=session,ranking"], {"A": {"policy": "ranking", "router": "session"}}),
        (
            ["A=ranking, router=session, B=fcfs", "C=max-num-seqs=64"],
            {
                "A": {"policy": "ranking", "router": "session"},
                "B": {"policy": "fcfs"},
                "C": {"max_num_seqs": "64"},
            },
        ),
    ],
)
def test_a_label_is_a_name_and_an_arm(texts: list[str], labels: dict[str, dict[str, str]]) -> None:
    assert parse_labels(texts, ["policy", "router", "max_num_seqs"]) == labels


@pytest.mark.parametrize(
    ("label", "names"),
    [
        (
            "F=fcfs",
            ["F, router=vllm-dp", "ranking, router=vllm-dp", "F, router=session", "ranking, router=session"],
        ),
        ("S=router=session", ["fcfs, router=vllm-dp", "ranking, router=vllm-dp", "fcfs, S", "ranking, S"]),
        (
            "S=router=session,F=fcfs,Ours=ranking,router=session",
            ["F, router=vllm-dp", "ranking, router=vllm-dp", "F, S", "Ours"],
        ),
    ],
)
def test_it_stands_in_the_place_of_what_it_names(fleet: Results, label: str, names: list[str]) -> None:
    (named,) = with_labels([fleet], [label])
    assert samples_of(named).names == names
    assert samples_of(named).arms[names[-1]] == {"policy": "ranking", "router": "session"}


def test_where_its_options_are_held_fixed_it_names_the_rest(fleet: Results) -> None:
    (named,) = with_labels([fleet], ["Ours=ranking,router=session", "S=router=session"])
    assert samples_of(named, where={"router": "session"}).names == ["fcfs", "Ours"]
    assert samples_of(named, where={"router": "vllm-dp"}).names == ["fcfs", "ranking"]
    assert samples_of(named, where={"policy": "ranking"}).names == ["router=vllm-dp", "Ours"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("A=router=nope", "no arm has that; there are fcfs, ranking; router=vllm-dp, router=session"),
        ("A=lifo", "--label A=lifo: no arm has that; there are fcfs, ranking; router="),
        ("A=preset=vllm-v1", "--label A=preset=vllm-v1: no arm has that"),
        ("A", "--label A: expected NAME=ARM"),
        ("=fcfs", "--label =fcfs: expected NAME=ARM"),
        ("router=session", "--label router=session: expected NAME=ARM"),
        ("A=fcfs,A=ranking", "A twice"),
        ("A=fcfs,ranking", "two policies"),
        ("ranking=fcfs", "would both be called ranking, router=vllm-dp"),
    ],
)
def test_what_is_no_arm_is_refused_in_one_line(fleet: Results, label: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        with_labels([fleet], [label])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_policys_name_is_enough_where_it_means_one(lone: Results) -> None:
    (named,) = with_labels([lone], ["M=mlfq(threshold=2)", "R=ranking"])
    assert samples_of(named).names == ["fcfs", "M", "mlfq(threshold=4)", "R"]
    with pytest.raises(InputError, match=r"M=mlfq: expected one of mlfq\(threshold=2\); mlfq\(threshold=4\)"):
        with_labels([lone], ["M=mlfq"])


def test_a_label_changes_no_colour(lone: Results, fleet: Results) -> None:
    for results, label in ((lone, "A=fcfs,B=mlfq(threshold=2),C=ranking"), (fleet, "S=router=session")):
        (named,) = with_labels([results], [label])
        for display in (CDFDisplay, *([LatencyDisplay] if results is lone else [])):
            looks = [
                [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.get_lines()]
                for ax in (display.from_results(each).plot().ax_ for each in (results, named))
            ]
            assert looks[0] == looks[1]


def test_one_syntax_in_compare_plot_and_report(fleet: Results, tmp_path: Path) -> None:
    labels = ["--label", "Ours=ranking,router=session", "--label", "Dealt=router=vllm-dp"]
    runner = CliRunner()
    compared = runner.invoke(
        compare_command, [str(fleet.path), "--baseline", "Ours", "--json", *labels], catch_exceptions=False
    )
    answer = json.loads(compared.stdout)
    assert {row["arm"] for row in answer["rows"]} == {
        "fcfs, Dealt", "ranking, Dealt", "fcfs, router=session", "Ours",
    }  # fmt: skip
    assert answer["baseline"] == {"policy": "ranking", "router": "session"}
    figure = tmp_path / "cdf.svg"
    drawn = runner.invoke(
        plot_command, [str(fleet.path), "--kind", "cdf", "-o", str(figure), *labels], catch_exceptions=False
    )
    assert drawn.exit_code == 0
    page = tmp_path / "report.html"
    made = runner.invoke(report_command, [str(fleet.path), "-o", str(page), *labels], catch_exceptions=False)
    assert made.exit_code == 0
    assert "Ours: ranking, router=session; Dealt: router=vllm-dp" in page.read_text()
    assert "fcfs, Dealt" in page.read_text()
    for command in (compare_command, plot_command, report_command):
        with pytest.raises(InputError, match="no arm has that"):
            runner.invoke(command, [str(fleet.path), "--label", "A=nope"], catch_exceptions=False)


def test_of_two_directories_a_label_fits_either(fleet: Results, lone: Results) -> None:
    named = with_labels([fleet, lone], ["S=router=session", "M=mlfq(threshold=2)"])
    assert samples_of(named[0]).names[-1] == "ranking, S"
    assert samples_of(named[1]).names == ["fcfs", "M", "mlfq(threshold=4)", "ranking"]


def test_a_file_whose_path_looks_like_an_option_is_a_policy(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", policies=("fcfs", "mine"), runs=1)
    file = tmp_path / "out" / "manifest.json"
    labels = {"mine": "dir=x/mine.py:Mine"}
    file.write_text(json.dumps({**results.manifest, "study": {"label": labels}}))
    assert samples_of(Results.open(results.path)).names == ["fcfs", "mine"]
