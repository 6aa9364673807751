"""What is due when, and the clock of steps: tables of input and expected output."""

from __future__ import annotations

from math import inf

import pytest

from simsched.engine.agenda import Agenda
from simsched.engine.step_clock import StepClock

NOTED = [(7, "late"), (3, "early"), (7, "late too"), (5, "between")]


@pytest.mark.parametrize(
    ("now", "due", "left"),
    [
        (2, [], 3),
        (3, ["early"], 5),
        (6, ["early", "between"], 7),
        (9, ["early", "between", "late", "late too"], -1),
    ],
)
def test_what_is_due_comes_out_in_order_and_once(now: int, due: list[str], left: int) -> None:
    agenda: Agenda[int, str] = Agenda()
    for when, what in NOTED:
        agenda.push(when, what)
    assert agenda.due(now) == due
    assert agenda.due(now) == []
    assert agenda.first(lambda when, what: True, -1) == left


@pytest.mark.parametrize(
    ("stale", "first"),
    [
        (set(), 3.0),
        ({"early"}, 5.0),
        ({"early", "between"}, 7.0),
        ({"early", "between", "late too"}, 7.0),
        ({"early", "between", "late", "late too"}, inf),
    ],
)
def test_the_first_that_still_holds(stale: set[str], first: float) -> None:
    agenda: Agenda[float, str] = Agenda()
    for when, what in NOTED:
        agenda.push(float(when), what)
    assert agenda.first(lambda when, what: what not in stale, inf) == first


def clock(*ends: float) -> StepClock:
    made = StepClock()
    made.ends = list(ends)
    made.formed = made.done = len(ends)
    made.time = ends[-1]
    return made


@pytest.mark.parametrize(
    ("time", "step"), [(0.5, 1), (1.0, 1), (1.1, 2), (2.5, 2), (2.6, 3), (4.0, 3), (4.1, 4)]
)
def test_which_step_was_over_first_at_a_time(time: float, step: int) -> None:
    """Steps that end at 1.0, 2.5 and 4.0 s; one too many where no step has ended so late."""
    made = clock(1.0, 2.5, 4.0)
    assert made.step_at(time) == step
    if step <= 3:
        assert made.end_of(step) >= time
    made.trim_history(2)  # nobody asks for the first one any more
    if time > 1.0:
        assert made.step_at(time) == step


def test_a_clock_that_was_turned_back_is_turned_forward_again() -> None:
    made = clock(1.0, 2.5, 4.0)
    made.formed = 4  # one step ahead
    now = made.reading()
    made.turn_to(1)
    assert (made.formed, made.done, made.time) == (2, 1, 1.0)
    made.turn_to(2)
    assert (made.formed, made.done, made.time) == (3, 2, 2.5)
    made.set(now)
    assert (made.formed, made.done, made.time) == (4, 3, 4.0)
