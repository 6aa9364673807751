"""Errors, orders and verdicts, from cells."""

from __future__ import annotations

import math

import pytest

from simsched.reproduce.outcome import PublishedCell, reversals, verdict


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
