"""Arms behind routers are told apart in every figure, and look the same in all of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from simsched.plotting import CDFDisplay, DecileDisplay, LatencyDisplay, OccupancyDisplay, PolicyDisplay
from simsched.plotting.backlog import BacklogDisplay
from simsched.plotting.grids import ParetoDisplay
from simsched.plotting.looks import Looks, looks_among
from simsched.plotting.style import policy_line
from simsched.results import Results
from tests.fake_results import make_results
from tests.plotting.test_figures import STEPS, lines_of

ROUTERS = ("least-requests", "vllm-dp", "session")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("routers") / "out"
    return make_results(folder, policies=("fcfs", "ranking"), extra={"router": ROUTERS}, steps=STEPS)


def grid(policies: int, routers: int) -> dict[str, dict[str, Any]]:
    names = ["fcfs", "ranking", "mlfq", "po", "srtf"][:policies]
    return {f"{a}, router={b}": {"policy": a, "router": str(b)} for a, b in product(names, range(routers))}


@pytest.mark.parametrize(
    ("policies", "routers", "colors"),
    [(1, 3, 3), (1, 8, 8), (1, 12, 8), (2, 3, 6), (2, 4, 8), (2, 9, 2), (3, 2, 6), (3, 4, 3), (5, 3, 5)],
)
def test_no_two_arms_look_alike_and_few_have_a_colour_each(policies: int, routers: int, colors: int) -> None:
    arms = grid(policies, routers)
    looks = looks_among(arms, list(arms.values()))
    found = {arm: looks.line(arm, arms) for arm in arms}
    assert len({(str(line["linestyle"]), line["marker"], line["color"]) for line in found.values()}) == len(
        arms
    )
    assert len({line["color"] for line in found.values()}) == colors
    if routers <= 12 and policies > 1:  # a router has its marker under every policy
        for router in range(routers):
            assert len({found[arm]["marker"] for arm in arms if arm.endswith(f"={router}")}) == 1


def test_arms_look_the_same_in_every_figure(results: Results) -> None:
    axes = [
        LatencyDisplay.from_results(results).plot().ax_,
        CDFDisplay.from_results(results).plot().ax_,
        DecileDisplay.from_results(results, where={"request_rate": 8.0}).plot().ax_,
        BacklogDisplay.from_results(results).plot().ax_,
        ParetoDisplay.from_results(results, metrics=("mean_ttft_ms", "mean_tpot_ms")).plot().ax_,
        OccupancyDisplay.from_results(results).plot().axes_[0],
    ]
    expected = {arm: line.get_color() for arm, line in lines_of(axes[0]).items()}
    assert len(set(expected.values())) == 6
    for ax in axes:
        assert {arm: line.get_color() for arm, line in lines_of(ax).items()} == expected
        markers = {line.get_marker() for line in lines_of(ax).values()}
        assert len(markers) == (1 if ax is axes[-1] else len(ROUTERS))
    assert list(lines_of(axes[1]))[:3] == [f"fcfs, router={router}" for router in ROUTERS]  # policy by policy


def test_a_part_of_a_study_keeps_its_colours(results: Results) -> None:
    whole = lines_of(CDFDisplay.from_results(results).plot().ax_)
    part = lines_of(CDFDisplay.from_results(results, where={"router": "session"}).plot().ax_)
    for policy in ("fcfs", "ranking"):
        assert part[policy].get_color() == whole[f"{policy}, router=session"].get_color()
    along = LatencyDisplay.from_results(results, where={"policy": "ranking"}).plot().ax_
    for router in ROUTERS:
        assert (
            lines_of(along)[f"router={router}"].get_color() == whole[f"ranking, router={router}"].get_color()
        )


def test_dots_have_the_colours_of_lines(results: Results) -> None:
    display = PolicyDisplay.from_results(results).plot()
    found = {line.get_color() for line in display.ax_.get_lines()}
    assert found == {display.looks.line(arm, display.points)["color"] for arm in display.points}
    assert len(found) == 6


def test_behind_one_engine_policies_keep_their_look(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", extra={"max_num_seqs": [64, 256]}, runs=1)
    display = CDFDisplay.from_results(results)
    assert display.looks == Looks()
    for arm in display.values:
        assert display.looks.line(arm, display.values) == policy_line(arm, display.values)
