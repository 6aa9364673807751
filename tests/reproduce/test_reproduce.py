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
from simsched.reproduce.outcome import Sources
from simsched.reproduce.settings import PROFILES, Metrics, Setting, execute, execute_all, least, requests
from tests.headless import Links, browse, needs_browser

KEYS = {
    "study", "policy", "workload", "request_rate", "metric", "published", "simulated", "relative_error"
}  # fmt: skip


def test_list_names_every_study() -> None:
    lines = CliRunner().invoke(cli, ["reproduce", "--list"]).output.splitlines()
    assert [line.split()[0] for line in lines] == [*reproduce.STUDIES, "claims"]


def test_one_study_writes_a_page_and_its_cells(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["reproduce", "overhead", "--jobs", "1", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "overhead: 4 predicted cells: median absolute error" in result.output
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


class Alike(dict[str, float]):
    """Metrics of a run that nobody simulated: every policy the same, twice the bound."""

    def __missing__(self, key: str) -> float:
        return 500.0 if key.startswith("least_") else 1000.0


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All studies on one page, as `simsched reproduce` writes it."""

    def look(run: Setting) -> Metrics:
        return Alike()

    folder = tmp_path_factory.mktemp("reproduction")
    outcomes = {name: study(Sources(), look) for name, (_, study) in reproduce.STUDIES.items()}
    reproduce.write(outcomes, folder, data=None, title="Reproduction")
    return folder / "report.html"


def test_every_mean_stands_beside_its_bound(whole_page: Path) -> None:
    sections = whole_page.read_text().split("<section")[1:]
    bounded = ("Table 1", "Table 3", "Figure 3", "The independent", "Why the pub", "Size of", "Conclusions")
    for title in bounded:
        section = next(each for each in sections if f">{title}" in each)
        assert "/ bound" in section
        assert ">2.00<" in section


def test_nothing_on_the_page_is_loaded_from_elsewhere(whole_page: Path) -> None:
    links = Links()
    links.feed(whole_page.read_text())
    assert all(link.startswith(("data:", "#")) for link in links.found)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_whole_page_in_a_browser(whole_page: Path, tmp_path: Path, width: int) -> None:
    seen, console = browse(whole_page, width, tmp_path / "profile")
    assert console == []
    assert seen["width"] == width
    assert seen["needed"] <= width  # tables and figures scroll inside their boxes
    drawn = len(list(whole_page.parent.glob("*.png")))
    assert seen["images"] == seen["loaded"] == drawn > 8
    assert seen["small"] == 0


def test_a_bound_is_the_same_for_all_policies_and_below_each() -> None:
    bounds = set()
    for policy in ("fcfs", "mlfq", "ranking"):
        metrics = execute(Setting(policy, request_rate=8.0, system="8b-80gb"))
        bounds.add(metrics["least_mean_latency_per_token_ms"])
        assert bounds.copy().pop() <= metrics["mean_latency_per_token_ms"]
    assert len(bounds) == 1
    assert least(Setting("fcfs", num_requests=10_000)) == {}


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
    runs = reproduce.settings_of(reproduce.STUDIES[name][1], Sources())
    assert runs
    for run in set(runs):
        assert len(requests(run)) > 0


def test_any_number_of_processes_gives_the_same() -> None:
    runs = [
        Setting("ranking", request_rate=2.0),
        Setting("classification", num_requests=100),
        Setting("po", num_requests=90),
    ]
    one, two = execute_all(runs, 1), execute_all(runs, 2)
    assert {run: repr(one[run]) for run in runs} == {run: repr(two[run]) for run in runs}


def test_perception_only_answers_are_longer_and_bursts_are_in_order() -> None:
    plain, po = requests(Setting("fcfs", num_requests=50)), requests(Setting("po", num_requests=50))
    assert (po.num_output_tokens - plain.num_output_tokens == 15).all()
    assert (plain.arrival_time[1:] > plain.arrival_time[:-1]).all()
    assert plain.arrival_time[-1] < 1e-3


def test_8b_sharegpt_runs_have_the_longest_answer_of_their_data_set() -> None:
    for run, there in (
        (Setting("fcfs", request_rate=8.0, system="8b-80gb"), True),
        (Setting("fcfs"), True),
        (Setting("fcfs", system="70b"), False),
        (Setting("fcfs", "lmsys"), False),
    ):
        outputs = requests(run).num_output_tokens
        assert (outputs[170] == 6328) == there
        assert (outputs == 6328).sum() == there


def test_fcfs_rows_are_met_by_the_profile_that_was_fitted_to_them() -> None:
    rows = {rate: row for policy, rate, row in published.rep_rows() if policy == "fcfs"}
    for rate in (16.0, 32.0):
        simulated = execute(Setting("fcfs", request_rate=rate, system="8b-80gb"))
        assert simulated["mean_latency_per_token_ms"] == pytest.approx(
            rows[rate]["mean_latency_per_token_ms"], rel=0.15
        )


@pytest.mark.parametrize("name", PROFILES.values())
def test_the_profiles_say_how_they_were_made(name: str) -> None:
    profile = load_profile(name)
    assert profile.file is not None
    assert profile.file.provenance.command.startswith("python -m simsched.reproduce.fit_fork")
    assert profile.num_gpu_blocks(16)
