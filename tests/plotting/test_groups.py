"""The figure of tenants, classes and other groups shows what the comparison by them says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.plot import plot_command
from simsched.compare import samples_of
from simsched.compare.groups import by_group
from simsched.errors import InputError
from simsched.plotting.figures import draw, draw_all
from simsched.plotting.groups import GroupDisplay
from simsched.plotting.style import NoDataError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    rows = [
        {
            "timestamp": 0.02 * i,
            "input_length": 20,
            "output_length": 5 + 200 * (i % 3),
            "tenant": "abc"[i % 3],
        }
        for i in range(150)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def results(trace: Path) -> Results:
    study = make_study({"policy": "fcfs,srtf", "trace": str(trace), "max_num_seqs": 8})
    return run_study(study, trace.with_name("out"), jobs=1)


def test_a_dot_for_each_group_and_arm(results: Results) -> None:
    display = GroupDisplay.from_results(results, by="tenant", metric="mean_tpot_ms").plot()
    rows = by_group(results, samples_of(results), 0, "tenant").rows
    assert {(arm, group): value for arm, of in display.values.items() for group, value in of.items()} == {
        (row.arm, row.group): row.metrics["mean_tpot_ms"] for row in rows
    }
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["c", "b", "a"]
    drawn = {line.get_label(): line for line in display.ax_.get_lines()}
    for arm in ("fcfs", "srtf"):
        x, y = drawn[arm].get_data()
        assert list(x) == pytest.approx(list(display.values[arm].values()))
        assert [round(float(each)) for each in y] == [2, 1, 0]  # the first on top
    assert display.ax_.get_ylabel() == "tenant"


def test_from_the_command_line(results: Results, tmp_path: Path) -> None:
    def plot(*options: str) -> tuple[int, str]:
        ended = CliRunner().invoke(plot_command, [str(results.path), *options])
        return ended.exit_code, ended.output or str(ended.exception)

    assert plot("--by", "tenant")[0] == 0
    assert (results.path / "figures" / "groups.png").is_file()
    file = tmp_path / "g.svg"
    assert plot("--by", "tenant", "--metric", "p99_ttft_ms", "-o", str(file))[0] == 0
    assert file.is_file()
    assert "these requests have tenant" in plot("--by", "class")[1]
    assert "these requests have no session_id" in plot("--by", "session")[1]
    assert "--by tenant: not for --kind cdf; expected groups" in plot("--by", "tenant", "--kind", "cdf")[1]
    assert "groups by what" in plot("--kind", "groups")[1]
    assert "metric nonsense" in plot("--by", "tenant", "--metric", "nonsense")[1]


def test_drawn_only_where_asked_for(results: Results) -> None:
    assert "groups" not in draw_all(results)
    with pytest.raises(NoDataError, match="by what"):
        draw(results, "groups")


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({"kind": "groups"}, "kind: groups and by: tenant"),
        ({"kind": "cdf", "by": "tenant"}, "kind: groups and by: tenant"),
        ({"kind": "groups", "by": "colour"}, "by colour: expected one of tenant"),
        ({"kind": "groups", "by": "tenant", "metric": "x"}, "metric x"),
    ],
)
def test_a_study_asks_for_it(trace: Path, figure: dict[str, str], said: str) -> None:
    given = {"policy": "fcfs", "trace": str(trace)}
    make_plan(make_study({**given, "figures": [{"kind": "groups", "by": "tenant"}]}))
    with pytest.raises(InputError, match=said):
        make_plan(make_study({**given, "figures": [figure]}))


def test_a_legend_of_long_names_stays_in_its_figure() -> None:
    fleet = "+".join(f"{n}*a100-80gb/llama-3-8b(max_num_seqs={128 * n})" for n in (1, 2, 3))
    names = [f"{policy}, replicas={fleet}, router=least-requests" for policy in ("fcfs", "ranking")]
    display = GroupDisplay({name: {"a": 1.0, "b": 2.0} for name in names}, "tenant", "mean_ttft_ms").plot()
    figure = display.figure_
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert ["".join(text.get_text().split()) for text in legend.get_texts()] == [
        "".join(name.split()) for name in names
    ]
