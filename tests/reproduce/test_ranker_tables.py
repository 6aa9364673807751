"""The ranker study's tables and figure, on made-up results."""

import pytest

from simsched.plotting.figures import image_bytes
from simsched.reproduce import ranker_tables
from simsched.reproduce.ranker_tables import METRICS, draw, ranker_table, simulation_table


def runs(factor):
    return {
        rate: {metric: [factor * rate, factor * rate * 1.1] for metric in METRICS} for rate in (50.0, 100.0)
    }


def measures(tau):
    return {
        "kendall_tau": tau, "kendall_tau_ci": [tau - 0.01, tau + 0.01], "spearman": tau + 0.2,
        "class_tau": tau, "class_accuracy": 0.2, "regret_latency": 0.3, "regret_latency_per_token": 0.1,
        "ms_per_prompt_by_batch": {"1": 2.0, "32": 1.0}, "ceiling": {"T=0": 0.66},
        "baselines": {"prompt_length": {"kendall_tau": -0.1, "regret_latency": 1.1,
                                        "regret_latency_per_token": 1.2}},
    }  # fmt: skip


def test_rankers_stand_beside_baseline_and_ceiling():
    judged = {"light": {ranker_tables.HOME: measures(0.5), "Elsewhere": measures(0.123)}}
    lines = ranker_table(judged, {"light": {"train_seconds": 30.2, "train_cpu_seconds": 20.0}}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == (
        "| light | 0.500 (0.490 to 0.510) | 0.700 | 0.500, 0.20 | 0.300, 0.100 | 0.123 "
        "| 2.00, 1.00 | 30 s, 20 s |"
    )
    assert lines[3].startswith("| prompt length | -0.100 |")
    assert lines[4].startswith("| another sample: T=0 | 0.660 |")


def test_ratios_are_paired_with_each_entry_s_baseline():
    results = {"FCFS": runs(1.0), "light": runs(0.5)}
    table = simulation_table(
        results, {"FCFS": "fcfs", "light": "ranking"}, {"light": 0.5}, {"FCFS": "FCFS", "light": "FCFS"}
    )
    assert table.splitlines()[3].startswith("| light | ranking | 0.500 | 26.2, 0.500, 26 |")


def test_the_figure_has_a_line_for_each_name():
    figure = draw({"FCFS": runs(1.0), "light": runs(0.5)}, {"FCFS": "fcfs", "light": "ranking(light)"})
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == pytest.approx([52.44, 26.22], abs=0.01)
    assert image_bytes(figure, "png").startswith(b"\x89PNG")
