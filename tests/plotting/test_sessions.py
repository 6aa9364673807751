"""`plot --by session`: figures of sessions, with the numbers of `compare --by session`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.plot import plot_command
from simsched.compare import samples_of
from simsched.compare.sessions import by_session, session_table
from simsched.errors import InputError
from simsched.plotting.figures import draw, draw_all
from simsched.plotting.requests import CDFDisplay
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("sessions")
    rows = []
    for name in range(20):
        start = {"session_id": name, "timestamp": 0.1 * name}
        rows.append({**start, "input_length": 50, "output_length": 10 + 9 * name})
        rows.append({"session_id": name, "think_time": 0.5, "input_length": 600, "output_length": 20})
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    given = {"policy": "fcfs,srtf", "trace": str(folder / "t.jsonl"), "max_num_seqs": (2, 4)}
    return run_study(make_study(given), folder / "out", jobs=1)


def test_it_draws_the_kinds_that_make_sense(results: Results, tmp_path: Path) -> None:
    shown = CliRunner().invoke(plot_command, [str(results.path), "--by", "session", "-o", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sessions-cdf.png", "sessions-latency.png"]
    file = tmp_path / "one.svg"
    options = ["--by", "session", "--kind", "cdf", "--metric", "session_completion", "-o", str(file)]
    assert CliRunner().invoke(plot_command, [str(results.path), *options]).exit_code == 0
    assert file.is_file()


def test_the_cdf_is_that_of_the_sessions(results: Results) -> None:
    figure = draw(results, "cdf", by="session")
    labels = [ax.get_xlabel().partition(" (")[0] for ax in figure.axes if ax.get_visible()]
    assert labels == ["Time to a session's first answer", "Session completion time", "Session slowdown"]
    samples = samples_of(results)
    display = CDFDisplay.from_results(results, metric="session_completion")
    for arm in samples.arms:
        whole = session_table(results, samples, 0, arm)["completion"].sort().to_list()
        assert display.values[arm].tolist() == whole
        assert len(whole) == 20


def test_along_an_option_are_the_means_of_sessions(results: Results) -> None:
    figure = draw(results, "latency", by="session", along="max_num_seqs", metric="mean_session_slowdown")
    (ax,) = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    samples = samples_of(results)
    expected = {row.arm: row.mean_slowdown for row in by_session(results, samples, 0, samples.names[0]).rows}
    for policy in ("fcfs", "srtf"):
        means = [expected[f"{policy}, max_num_seqs={seqs}"] for seqs in (2, 4)]
        assert list(drawn[policy]) == pytest.approx(means)


def test_a_study_may_ask_for_it(results: Results, tmp_path: Path) -> None:
    trace = results.manifest["study"]["trace"][0]
    given = {"policy": "fcfs", "trace": trace, "figures": [{"kind": "cdf", "by": "session"}]}
    assert list(draw_all(run_study(make_study(given), tmp_path / "out", jobs=1))) == ["cdf"]
    wrong = {**given, "figures": [{"kind": "decile", "by": "session"}]}
    with pytest.raises(InputError, match="or kind: latency or cdf by: session"):
        run_study(make_study(wrong), tmp_path / "other", jobs=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "decile"], "--by session: not for --kind decile; expected latency or cdf"),
        (["--kind", "groups"], "--by session: not for --kind groups; expected latency or cdf"),
        (
            ["--kind", "cdf", "--metric", "ttft"],
            "metric ttft: not of sessions; expected some of first_answer",
        ),
        (["--kind", "latency", "--metric", "mean_ttft_ms"], "metric mean_ttft_ms: not of sessions"),
        (["--metric", "first_answer"], "--metric: only with one --kind"),
        (["-o", "x.png"], "a file holds one figure"),
    ],
)
def test_what_makes_no_sense_by_session_is_refused(results: Results, options: list[str], said: str) -> None:
    with pytest.raises(InputError) as refused:
        CliRunner().invoke(
            plot_command, [str(results.path), "--by", "session", *options], catch_exceptions=False
        )
    assert said in str(refused.value)
