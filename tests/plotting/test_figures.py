"""Figures: what they show is what the results hold, they look the same everywhere, and files are whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from simsched.cli.plot import plot_command
from simsched.compare import PRIMARY, samples_of
from simsched.errors import InputError
from simsched.plotting import (
    CDFDisplay,
    DecileDisplay,
    LatencyDisplay,
    OccupancyDisplay,
    PolicyDisplay,
    TauDisplay,
)
from simsched.plotting.figures import KINDS, draw, draw_all, save
from simsched.plotting.grids import HeatmapDisplay, ParetoDisplay
from simsched.plotting.occupancy import by_replica, series_of
from simsched.plotting.style import image_bytes, legend_columns, policy_color, policy_line, policy_marker
from simsched.results import Results
from tests.fake_results import make_results

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def step(time: float, length: float, running: int, **more: Any) -> dict[str, Any]:
    values = {"kv_blocks_used": 10 * running, "num_running": running, "num_waiting": 1}
    return {"step": 1, "time": time, "step_time": length, **values, **more}


STEPS = [step(0.0, 1.0, 2), step(1.0, 1.0, 4), step(5.0, 5.0, 8)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    policies = ("fcfs", "mlfq", "po", "classification", "ranking")
    return make_results(tmp_path_factory.mktemp("a") / "out", policies=policies, steps=STEPS)


@pytest.fixture(scope="module")
def with_tau(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(
        tmp_path_factory.mktemp("b") / "out", rates=(8.0,), extra={"tau": [0.2, 0.5, 0.8]}, runs=2
    )


def lines_of(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def test_a_policy_looks_the_same_everywhere(results: Results, with_tau: Results) -> None:
    axes = [
        LatencyDisplay.from_results(results).plot().ax_,
        CDFDisplay.from_results(results).plot().ax_,
        DecileDisplay.from_results(results, where={"request_rate": 8.0}).plot().ax_,
        TauDisplay.from_results(with_tau).plot().ax_,
        OccupancyDisplay.from_results(results).plot().axes_[0],
    ]
    for ax in axes:
        for policy, line in lines_of(ax).items():
            assert line.get_color() == policy_color(policy)
            assert line.get_marker() in (policy_marker(policy), "None")
    shown = [
        policy_color(name) for name in ("fcfs", "mlfq", "po", "classification", "ranking", "srtf", "sjf")
    ]
    assert len(set(shown)) == len(shown)


def test_variants_share_the_colour_and_differ_otherwise() -> None:
    assert policy_color("mlfq(threshold=10)") == policy_color("mlfq")
    assert policy_line("mlfq(threshold=10)") != policy_line("mlfq")
    assert policy_line("mlfq(threshold=10)") != policy_line("mlfq(threshold=2)")
    assert policy_color("./mine.py:Mine") == policy_color("./other/mine.py:Mine")


def test_latency_shows_means_and_intervals(results: Results) -> None:
    display = LatencyDisplay.from_results(results, metric="mean_ttft_ms").plot()
    fcfs = results.summary.filter(policy="fcfs")
    for x, y in zip(*lines_of(display.ax_)["fcfs"].get_data(), strict=True):
        values = fcfs.filter(request_rate=x)["mean_ttft_ms"].to_numpy()
        assert y == pytest.approx(np.exp(np.log(values).mean()))
    assert len(display.ax_.collections) == 5
    assert display.ax_.get_xlabel() == "Request rate (req/s)"
    assert display.ax_.get_ylabel() == "Mean time to first token (ms, log scale)"
    assert {text.get_text() for text in display.ax_.texts} == set(display.lines)


def test_relative_lines_start_from_the_baseline(results: Results) -> None:
    display = LatencyDisplay.from_results(results, relative_to="fcfs").plot()
    assert all(point.mean == 1 for point in display.lines["fcfs"])
    assert all(point.mean < 1 for point in display.lines["ranking"])


def test_labels_do_not_overlap(results: Results) -> None:
    """Even where all lines end in one place."""
    display = LatencyDisplay.from_results(results, metric="output_throughput")
    for points in display.lines.values():
        points[-1] = replace(points[-1], mean=500.0)
    ax = display.plot().ax_
    figure = ax.get_figure()
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 5
    for lower, upper in pairwise(boxes):
        assert upper.y0 >= lower.y1 - 1
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_cdf_is_the_empirical_distribution(results: Results) -> None:
    display = CDFDisplay.from_results(results, metric="ttft", where={"request_rate": 8.0}).plot()
    requests = results.requests.filter(policy="mlfq", request_rate=8.0)
    ttft = np.sort((requests["first_token_time"] - requests["arrival_time"]).to_numpy())
    assert np.allclose(display.values["mlfq"], ttft)
    x, y = lines_of(display.ax_)["mlfq"].get_data()
    assert np.interp(50, y, x) == pytest.approx(np.median(ttft), rel=0.02)
    with pytest.raises(InputError, match="metric speed"):
        CDFDisplay.from_results(results, metric="speed")


def test_occupancy_weighs_steps_by_their_length() -> None:
    series = series_of(STEPS, bins=5)  # spans of two seconds, none of which is idle throughout but the second
    assert series.time.tolist() == [1, 3, 5, 7, 9]
    running = series.values["num_running"]
    assert running[0] == pytest.approx(3.0)
    assert np.isnan(running[1])
    assert running[2:] == pytest.approx([8.0, 8.0, 8.0])
    with pytest.raises(InputError):
        series_of([])


def test_tau_needs_several(results: Results, with_tau: Results) -> None:
    assert [point.x for point in TauDisplay.from_results(with_tau).lines["fcfs"]] == [0.2, 0.5, 0.8]
    with pytest.raises(InputError, match="two or more values of tau"):
        TauDisplay.from_results(results)


def test_dots_for_a_single_load(tmp_path: Path) -> None:
    single = make_results(tmp_path / "out", rates=(None,))
    display = PolicyDisplay.from_results(single).plot()
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["fcfs", "mlfq", "ranking"]
    assert len(draw(single).axes) == 2
    with pytest.raises(InputError):
        LatencyDisplay.from_results(single)


@pytest.mark.parametrize(
    ("kind", "form"), [*((kind, "png") for kind in KINDS), ("latency", "svg"), ("latency", "pdf")]
)
def test_every_kind_in_every_format_with_the_same_bytes(
    results: Results, with_tau: Results, tmp_path: Path, kind: str, form: str
) -> None:
    source = with_tau if kind == "tau" else results
    if kind == "groups":
        source = make_results(tmp_path / "tenants", runs=1)
    if kind == "heatmap":
        source = make_results(tmp_path / "grid", runs=1, extra={"max_num_seqs": [64, 128]})
    paths = [tmp_path / f"{i}.{form}" for i in range(2)]
    options = {}
    if kind == "groups":
        options = {"by": "tenant"}
        source.__dict__["requests"] = source.requests.with_columns(tenant="policy")
    for path in paths:
        save(draw(source, kind, **options), path)
    assert paths[0].read_bytes().startswith(MAGIC[form])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_every_axis_has_its_unit(results: Results, with_tau: Results) -> None:
    for figure in [*draw_all(results).values(), draw(with_tau, "tau")]:
        for ax in figure.axes:
            below = any(other.get_xlabel() for other in figure.axes)
            assert ax.get_ylabel() or below
            assert below
    assert "ms" in draw(results).axes[0].get_ylabel()


def test_at_readme_size(results: Results) -> None:
    """Letters keep their size on a page 800 pixels wide, and have more dots each."""
    figure = draw(results)
    assert figure.get_figwidth() == 8
    assert int.from_bytes(image_bytes(figure, "png")[16:20]) == 1280


@pytest.mark.parametrize(
    ("widths", "columns"),
    [([20], 1), ([20, 20, 20], 3), ([13, 13, 23, 16, 62, 13], 3), ([110, 10], 1), ([200], 1)],
)
def test_a_legend_has_as_many_columns_as_its_names_allow(widths: list[int], columns: int) -> None:
    assert legend_columns(widths) == columns


def test_draw_all_leaves_out_what_there_is_no_data_for(results: Results, tmp_path: Path) -> None:
    assert set(draw_all(results)) == {"latency", "cdf", "decile", "occupancy", "backlog"}
    bare = make_results(tmp_path / "out", rates=(2.0,), runs=1)
    assert set(draw_all(bare)) == {"latency", "cdf", "decile", "backlog"}


def test_a_study_chooses_its_figures(results: Results) -> None:
    figures: list[Mapping[str, Any]] = [
        {"kind": "latency", "metric": PRIMARY, "title": "One"},
        {"kind": "latency", "metric": ["mean_ttft_ms"], "relative_to": "fcfs"},
        {"kind": "cdf"},
    ]
    chosen = Results(results.path, {**results.manifest, "study": {"figures": figures}})
    drawn = draw_all(chosen)
    assert list(drawn) == ["latency-1", "latency-2", "cdf"]
    assert drawn["latency-1"].get_suptitle() == "One"


def test_wrong_options_are_named(results: Results) -> None:
    with pytest.raises(InputError, match="kind pie: expected one of latency"):
        draw(results, "pie")
    with pytest.raises(InputError, match="figure option metrics: latency has no such option"):
        draw(results, "latency", metrics="x")
    with pytest.raises(InputError, match="no cell with request_rate 3"):
        draw(results, "cdf", where={"request_rate": 3.0})
    with pytest.raises(InputError, match="where rate: no such option; expected some of policy, workload"):
        draw(results, "decile", where={"rate": 8.0})
    assert draw(results, "decile", where={"request_rate": 8, "preset": "vllm-v1"})
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        save(draw(results, "decile"), "figure.gif")


def test_command(results: Results, tmp_path: Path) -> None:
    def invoke(*options: str) -> Any:
        return CliRunner().invoke(plot_command, [str(results.path), *options])

    shown = invoke("-o", str(tmp_path / "figures"), "--format", "png,svg")
    assert shown.exit_code == 0, shown.output
    assert len(list((tmp_path / "figures").iterdir())) == 10
    assert len(shown.output.splitlines()) == 10
    one = invoke(
        "--kind",
        "latency",
        "--metric",
        "mean_tpot_ms",
        "--relative-to",
        "fcfs",
        "-o",
        str(tmp_path / "x.pdf"),
    )
    assert one.exit_code == 0, one.output
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    for options in (
        ("--kind", "pie"),
        ("--format", "gif"),
        ("-o", str(tmp_path / "y.png")),
        ("-o", str(tmp_path / "y.gif")),
        ("-o", str(tmp_path / "y.jpeg"), "--kind", "cdf"),
        ("--metric", "mean_ttft_ms"),
        ("--kind", "latency", "--metric", "speed"),
        ("--kind", "tau"),
    ):
        assert isinstance(invoke(*options).exception, InputError), options
    assert not list(tmp_path.glob("y.*"))
    assert invoke("--kind", "cdf", "-o", str(tmp_path / "of.0.9x")).exit_code == 0
    assert (tmp_path / "of.0.9x" / "cdf.png").is_file()


def test_matplotlib_settings_are_left_alone(results: Results) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(results)
    assert dict(matplotlib.rcParams) == before


def test_long_names_leave_room_for_the_figure(tmp_path: Path) -> None:
    long = "ranking(starvation_threshold=200,starvation_period=10)"
    for rates in ((8.0,), (2.0, 8.0)):
        results = make_results(tmp_path / f"{len(rates)}", policies=("fcfs", long), rates=rates, n=60)
        for figure in draw_all(results).values():
            figure.draw_without_rendering()
            for ax in figure.axes:
                assert ax.get_position().width * figure.get_figwidth() > 2.5
                boxes = [label.get_window_extent() for label in (*ax.get_yticklabels(), ax.xaxis.label)]
                assert min(box.x0 for box in boxes) >= 0
                assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_users_policy_looks_like_no_other(tmp_path: Path) -> None:
    """Whatever it is called, and whichever built-in policies are in the figure."""
    policies = ("fcfs", "./mine.py:Ranking", "ranking", "srtf", "./mine.py:Short", "./mine.py:Short(cap=2)")
    display = LatencyDisplay.from_results(make_results(tmp_path / "out", policies=policies, n=60)).plot()
    lines = lines_of(display.ax_)
    looks = {name: (line.get_color(), line.get_marker()) for name, line in lines.items()}
    colors = [looks[name][0] for name in policies[:5]]
    assert len(set(colors)) == 5
    assert len({look[1] for look in looks.values()}) == 6
    assert looks["./mine.py:Short(cap=2)"][0] == looks["./mine.py:Short"][0]
    assert looks["ranking"][0] == policy_color("ranking")


def test_variants_of_one_policy_are_told_apart() -> None:
    """Up to as many as there are markers; the first of them looks as it does alone."""
    arms = [f"ranking, router={name}" for name in ("least-requests", "session", "random", "vllm-dp", "llm-d")]
    assert policy_marker(arms[0]) == policy_marker(arms[1])
    assert len({policy_marker(arm, arms) for arm in arms}) == len(arms)
    assert len({policy_line(arm, arms)["linestyle"] for arm in arms}) == 4
    assert policy_marker(arms[0], arms) == policy_marker(arms[0])


def test_a_long_legend_makes_the_figure_higher(tmp_path: Path) -> None:
    variants = [f"ranking(starvation_threshold={n},starvation_period=10)" for n in (50, 100, 200, 400)]
    results = make_results(tmp_path / "out", policies=("fcfs", "mlfq", "po", "srtf", *variants), n=60)
    for figure in draw_all(results).values():
        figure.draw_without_rendering()
        for ax in figure.axes:
            assert ax.get_position().height * figure.get_figheight() > 2.4
            assert ax.yaxis.label.get_window_extent().y0 >= 0


def test_rates_that_are_close_share_a_tick(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(0.5, 0.5733, 2.0, 8.0), n=60)
    figure = draw(results)
    figure.draw_without_rendering()
    for ax in figure.axes:
        labels = [label for label in ax.get_xticklabels() if label.get_text()]
        assert [label.get_text() for label in labels] == ["0.5", "2", "8"]
        boxes = [label.get_window_extent() for label in labels]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_long_times_are_drawn_in_seconds(tmp_path: Path) -> None:
    slow: dict[str, float] = {"fcfs": 20_000.0, "mlfq": 1_000.0, "ranking": 500.0}
    several, single = (
        make_results(
            tmp_path / f"{len(rates)}",
            rates=rates,
            metrics=lambda policy, rate, run: {"mean_ttft_ms": slow[policy]},
        )
        for rates in ((2.0, 8.0), (8.0,))
    )
    along = LatencyDisplay.from_results(several, metric="mean_ttft_ms").plot()
    assert along.ax_.get_ylabel() == "Mean time to first token (s, log scale)"
    assert lines_of(along.ax_)["fcfs"].get_data()[1] == pytest.approx([20, 20])
    ratios = LatencyDisplay.from_results(several, metric="mean_ttft_ms", relative_to="fcfs").plot()
    assert lines_of(ratios.ax_)["mlfq"].get_data()[1] == pytest.approx([0.05, 0.05])
    dots = PolicyDisplay.from_results(single, metric="mean_ttft_ms").plot()
    assert dots.ax_.get_xlabel() == "Mean time to first token (s)"
    assert {text.get_text() for text in dots.ax_.texts} == {"20.0", "1.00", "0.500"}


def test_policies_come_in_the_studys_order_everywhere(tmp_path: Path) -> None:
    policies = ("srtf", "fcfs", "mlfq")
    results = make_results(tmp_path / "out", policies=policies)
    displays = (LatencyDisplay, CDFDisplay, DecileDisplay)
    for display in displays:
        assert tuple(lines_of(display.from_results(results).plot().ax_)) == policies


def test_a_small_range_has_its_ticks(tmp_path: Path) -> None:
    values = {2.0: 16.0, 8.0: 23.0}
    results = make_results(
        tmp_path / "out", metrics=lambda policy, rate, run: {PRIMARY: values[rate or 0] + run / 10}
    )
    ax = LatencyDisplay.from_results(results).plot().ax_
    low, high = ax.get_ylim()
    assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 3


def test_outputs_of_one_token_have_no_panel_of_tpot(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(None,), runs=1, n=50)
    table = results.requests.with_columns(num_output_tokens=np.ones(150, dtype=np.int64))
    results.__dict__["requests"] = table
    assert [ax.get_xlabel() for ax in draw(results, "cdf").axes] == ["Time to first token (s, log scale)"]
    with pytest.raises(InputError, match="no finished request of two or more output tokens"):
        draw(results, "cdf", metric="tpot")


def test_relative_to_is_named_in_its_message(results: Results) -> None:
    with pytest.raises(InputError, match="--relative-to nope: fits no arm of these results"):
        draw(results, "latency", relative_to="nope")


def test_the_capacity_is_marked_along_the_rate(results: Results) -> None:
    def marks(capacity: float) -> list[float]:
        known = Results(
            results.path, {**results.manifest, "capacity": dict.fromkeys(results.cells, capacity)}
        )
        ax = LatencyDisplay.from_results(known).plot().ax_
        assert any(text.get_text() == "capacity" for text in ax.texts) == (capacity < 8)
        return [line.get_xdata()[0] for line in ax.get_lines() if line.get_label().startswith("_")]

    assert marks(5.0) == [5.0]
    assert marks(100.0) == []


def test_the_axis_says_how_long_requests_arrive(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "out", metrics=lambda policy, rate, run: {"num_requests": 60 * (rate or 0)}
    )
    assert draw(results).axes[0].get_xlabel() == "Request rate (req/s), 60 s of arrivals"


def test_a_heat_map_has_the_means_on_one_scale(tmp_path: Path) -> None:
    grid = make_results(tmp_path / "out", policies=("fcfs", "ranking"), extra={"max_num_seqs": [64, 128]})
    display = HeatmapDisplay.from_results(grid, along=["request_rate", "max_num_seqs"])
    assert display.values == ([2.0, 8.0], [64, 128])
    samples = samples_of(grid)
    mean = samples.mean(1, "ranking, max_num_seqs=128", PRIMARY)
    assert display.panels["ranking"][1, 1] == mean
    images = [image for ax in display.plot().figure_.axes for image in ax.images]
    assert len({(image.norm.vmin, image.norm.vmax) for image in images[:2]}) == 1
    with pytest.raises(InputError, match="expected two of max_num_seqs, request_rate"):
        HeatmapDisplay.from_results(grid, along=["policy", "max_num_seqs"])


def test_a_front_holds_what_no_other_beats_in_both() -> None:
    points = {"a": (1.0, 5.0), "b": (2.0, 9.0), "c": (3.0, 8.0), "d": (0.5, 1.0)}
    display = ParetoDisplay(points, (PRIMARY, "request_goodput"))
    assert display.front() == ["d", "a", "b"]


def test_along_an_arms_option_lines_are_the_other_arms(tmp_path: Path) -> None:
    grid = make_results(tmp_path / "out", rates=(8.0,), extra={"max_num_seqs": [64, 128, 256]})
    lines = LatencyDisplay.from_results(grid, along="max_num_seqs").lines
    assert list(lines) == ["fcfs", "mlfq", "ranking"]
    assert [point.x for point in lines["fcfs"]] == [64, 128, 256]
    with pytest.raises(InputError, match="along preset: it does not vary"):
        draw(grid, along="preset")


def test_occupancy_of_replicas_is_told_apart_and_on_one_scale() -> None:
    """Their steps lie side by side in the log, and overlap in time."""
    steps = []
    for number, running in ((0, 2), (1, 20)):
        steps += [{**step, "replica": number, "num_running": running} for step in STEPS]
    steps.sort(key=lambda step: step["time"])
    one, other = by_replica(steps)
    assert np.nanmax(one.values["num_running"]) == pytest.approx(2)
    assert np.nanmin(other.values["num_running"]) == pytest.approx(20)
    axes = OccupancyDisplay({"fcfs": [one, other]}).plot().axes_
    assert [ax.get_title(loc="left") for ax in axes[:2]] == ["replica 0", "replica 1"]
    assert axes[2].get_ylim() == axes[3].get_ylim()
    assert axes[2].get_ylim()[1] > 20
    assert len(OccupancyDisplay({"fcfs": [one]}).plot().axes_) == 3
