"""Errors, orders and verdicts, from cells."""

from __future__ import annotations

import math

import pytest

from simsched.reproduce.outcome import Outcome, PublishedCell, over_all, reversals, verdict


def cell(policy: str, published: float, simulated: float, note: str = "") -> PublishedCell:
    return PublishedCell("s", policy, "w", 8.0, "m", published, simulated, note)


def test_a_reversed_pair_is_named_and_a_tie_is_not_compared() -> None:
    cells = [cell("a", 1.0, 3.0), cell("b", 2.0, 2.0), cell("c", 1.05, 9.0)]
    wrong, pairs = reversals(cells)
    assert pairs == 2  # a and c differ by less than the trial spread
    assert [line.split(" (")[0] for line in wrong] == ["a and b", "b and c"]


def test_the_verdict_leaves_out_what_was_used() -> None:
    lines = verdict([cell("a", 1.0, 1.05), cell("b", 1.0, 1.5), cell("c", 1.0, 9.0, "used for the profile")])
    assert lines[0].startswith("2 predicted cells")
    assert "1 within 10 %, 1 over 30 %; worst +50%" in lines[0]


def test_the_last_line_is_of_all_studies_and_hides_nothing() -> None:
    near = [cell("a", 1.0, 1.05), cell("b", 1.0, 1.01, "used for the profile")]
    far = [cell("c", 1.0, 1.2), cell("d", 1.0, 4.0)]
    line = over_all([Outcome("one", [], near), Outcome("two", [], far), Outcome("none", [])])
    assert line.startswith(
        "All studies, 3 predicted cells: median absolute error 20%, 1 within 10 %, 1 over 30 %"
    )
    assert "worst +300% (d, w, 8 req/s, m)" in line
    assert over_all([Outcome("none", [])]) == ""
    missing = verdict([cell("a", 1.0, 1.05), cell("e", 1.0, math.nan)])[0]
    assert "(e, w" in missing


def test_a_cell_in_json_has_the_contract_s_names() -> None:
    assert cell("a", 2.0, 1.0).to_json() == {
        "study": "s",
        "policy": "a",
        "workload": "w",
        "request_rate": 8.0,
        "metric": "m",
        "published": 2.0,
        "simulated": 1.0,
        "relative_error": pytest.approx(-0.5),
    }
    assert cell("a", 2.0, math.nan).to_json()["relative_error"] is None
