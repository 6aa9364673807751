"""The three verdicts of a comparison, on small tables worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from validate.verdicts import decisions_verdict, order_verdict, times_verdict, to_lines


def pair(error: float, spread: float | None = None) -> dict[str, Any]:
    return {"relative_error": error, "spread": spread}


def row(
    mean: float, p99: float = 0.0, tpot: float = 0.0, speedup: float = 0.0, spread: float | None = None
) -> dict[str, Any]:
    return {
        "metrics": {
            "mean_latency_per_token_ms": pair(mean, spread),
            "p99_latency_per_token_ms": pair(p99),
            "mean_tpot_ms": pair(tpot),
        },
        "speedup": pair(speedup),
    }


def comparison(
    rows: dict[str, Any], replays: int = 1, distinct: int = 0, wrong: int = 0, tied: int = 0
) -> dict[str, Any]:
    load = {
        "workload": "chat", "request_rate": 8.0, "policies": rows, "order_distinct": distinct,
        "order_reversed": [["srtf", "fcfs"]] * wrong, "order_tied": [["fcfs", "mlfq"]] * tied,
    }  # fmt: skip
    return {"loads": [load], "baseline": "fcfs", "replays": replays}


@pytest.mark.parametrize(
    ("rows", "given", "blind"),
    [
        # errors: (mean, P99, TPOT, speed-up); how many failures with the host speed given, and blind
        ({"fcfs": row(0.04), "srtf": row(-0.05)}, 0, 0),
        ({"fcfs": row(0.09), "srtf": row(0.0)}, 0, 0),  # 4.5 % in the mean
        ({"fcfs": row(0.09), "srtf": row(-0.02)}, 1, 0),  # 5.5 % in the mean
        ({"fcfs": row(0.11), "srtf": row(0.0)}, 2, 1),  # one cell, and the mean
        ({"fcfs": row(0.11, spread=0.14), "srtf": row(0.0)}, 2, 0),  # no more than the machine repeats
        ({"fcfs": row(0.0, p99=-0.13, tpot=0.07)}, 2, 0),
        ({"fcfs": row(0.0, speedup=0.5), "srtf": row(0.0, speedup=0.09)}, 1, 0),  # the baseline has none
        ({"fcfs": row(float("nan"))}, 2, 1),
    ],
)
def test_times(rows: dict[str, Any], given: int, blind: int) -> None:
    found = times_verdict(comparison(rows), "given")
    assert len(found["failures"]) == given
    assert found["within_limits"] is not bool(given)
    found = times_verdict(comparison(rows), None)
    assert len(found["failures"]) == blind
    assert found["within_limits"] is not bool(blind)


@pytest.mark.parametrize(
    ("replays", "distinct", "wrong", "expected"),
    [(1, 0, 0, (False, None, None)), (3, 0, 0, (True, None, None)), (3, 4, 0, (True, 1.0, True)),
     (3, 4, 1, (True, 0.5, False))],
)  # fmt: skip
def test_order(replays: int, distinct: int, wrong: int, expected: tuple[Any, ...]) -> None:
    found = order_verdict(comparison({"fcfs": row(0.0)}, replays, distinct, wrong))
    assert (found["judged"], found["tau"], found["within_limits"]) == expected


def test_decisions() -> None:
    cells = {
        "a": {"decisions": {"steps": 10, "first_difference": None, "not_judged": None}},
        "b": {"decisions": {"steps": 4, "first_difference": "step 4: preempted", "not_judged": None}},
        "c": {"decisions": None},
        "d": {"decisions": {"steps": 0, "first_difference": None, "not_judged": "mlfq reads seconds"}},
    }
    found = decisions_verdict([{"cells": cells}])
    assert found == {
        "steps": 14, "different": ["b: step 4: preempted"], "not_judged": ["c", "d"], "within_limits": False
    }  # fmt: skip
    assert decisions_verdict([{"cells": {"c": cells["c"]}}])["within_limits"] is None


def test_a_line_each() -> None:
    result = comparison({"fcfs": row(0.02), "srtf": row(-0.2)}, 3, 4, 1, 2)
    verdicts = {
        "decisions": decisions_verdict([{"cells": {"c": {"decisions": None}}}]),
        "times_given": times_verdict(result, "given"),
        "times_blind": times_verdict(result, None),
        "order": order_verdict(result),
    }
    assert to_lines(verdicts) == [
        "decisions: 0 steps checked, 0 runs differ; 1 runs not judged (python -m validate decisions)",
        "times, host speed given: outside limits; mean latency 11.0% (worst -20.0%), p99 latency 0.0% "
        "(worst +0.0%), tpot 0.0% (worst +0.0%), speedup 0.0% (worst +0.0%)",
        "  chat at 8 req/s, srtf: mean_latency -20.0% (limit 10%)",
        "  mean latency: 11.0% in the mean (limit 5%)",
        "times, blind: outside limits; mean latency 11.0% (worst -20.0%); not judged: p99 latency 0.0% "
        "(worst +0.0%), tpot 0.0% (worst +0.0%), speedup 0.0% (worst +0.0%)",
        "  chat at 8 req/s, srtf: mean_latency -20.0% (limit 10%)",
        "order: 4 pairs whose real runs don't overlap, 1 of them simulated the other way round; "
        "2 pairs overlap",
        "  chat at 8 req/s: srtf < fcfs",
    ]
