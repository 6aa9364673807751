"""Objectives: what is parsed, what is refused, and when one is met."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.metrics import Requests
from simsched.slo import Condition, parse_slo


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        (
            "p99_ttft<500ms,p99_tpot<50ms",
            (Condition(0.99, {"ttft": 500.0}), Condition(0.99, {"tpot": 50.0})),
        ),
        ("95% ttft<500ms,tpot<50ms", (Condition(0.95, {"ttft": 500.0, "tpot": 50.0}),)),
        ("p99.9_e2el < 30s", (Condition(0.999, {"e2el": 30000.0}),)),
        ("p50_ttft<=200", (Condition(0.5, {"ttft": 200.0}),)),
    ],
)
def test_two_forms(text: str, conditions: tuple[Condition, ...]) -> None:
    found = parse_slo(text).conditions
    assert [each.limits for each in found] == [each.limits for each in conditions]
    assert [each.share for each in found] == pytest.approx([each.share for each in conditions])


@pytest.mark.parametrize(
    "text",
    ["", "ttft<500ms", "95% p99_ttft<500ms", "p99_itl<5ms", "p99_ttft>5ms", "101% ttft<5ms",
     "p99_ttft<0ms", "p0_ttft<5ms", "95% ttft<5ms,ttft<6ms", "95%", "p1.2.3_ttft<5ms"],
)  # fmt: skip
def test_anything_else_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError, match="--slo") as error:
        parse_slo(text)
    assert "\n" not in str(error.value)


def requests(ttft: list[float], tpot: list[float]) -> Requests:
    """Requests of 11 tokens, a second apart; seconds, NaN = never finished."""
    n = len(ttft)
    arrival = np.arange(float(n))
    first = arrival + np.array(ttft)
    tokens, zeros = np.full(n, 11), np.zeros(n, dtype=int)
    nans = np.full(n, math.nan)
    return Requests(arrival, first, first + 10 * np.array(tpot), tokens, tokens, zeros, nans, nans, zeros > 0)


def test_the_unfinished_keep_no_limit_and_conditions_stand_alone() -> None:
    found = requests([0.1, 0.1, 0.9, 0.1], [0.01, 0.09, 0.01, math.nan])
    alone = parse_slo("p50_ttft<500ms,p50_tpot<50ms")
    assert alone.attainment(found) == [0.5, 0.5]
    assert alone.is_met(alone.attainment(found))
    joint = parse_slo("50% ttft<500ms,tpot<50ms")
    assert joint.attainment(found) == [0.25]
    assert not joint.is_met(joint.attainment(found))
    assert joint.attainment(found, (0.0, 0.5)) == [1.0]
    assert not joint.is_met(joint.attainment(found, (10.0, 20.0)))  # of none
    assert joint.limits == {"ttft": 500.0, "tpot": 50.0}
