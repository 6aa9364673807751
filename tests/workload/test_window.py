"""A part of a trace by time, and how its load is spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.workload.formats import load_trace
from simsched.workload.trace import Trace
from simsched.workload.window import Window, cut, drift_note, load_of


def trace_at(*times: float) -> Trace:
    n = len(times)
    return Trace(np.array(times), np.arange(1, n + 1), np.ones(n, np.int64))


@pytest.mark.parametrize(
    ("text", "times", "tokens"),
    [
        ("1..3", [0, 1.5], [2, 3]),
        ("..2", [0, 1], [1, 2]),
        ("2..", [0.5, 1, 7], [3, 4, 5]),
        ("0..100", [0, 1, 2.5, 3, 9], [1, 2, 3, 4, 5]),
    ],
)
def test_a_window_counts_from_its_own_start(text: str, times: list[float], tokens: list[int]) -> None:
    part = cut(trace_at(0, 1, 2.5, 3, 9), Window.parse(text))
    assert part.arrival_time.tolist() == times
    assert part.num_prompt_tokens.tolist() == tokens


@pytest.mark.parametrize("text", ["", "3", "3..1", "a..b", "-1..3", "2..2", "nan..3"])
def test_bad_windows(text: str) -> None:
    with pytest.raises(InputError, match=r"--trace-window .*: expected FROM..TO in seconds"):
        Window.parse(text)


def test_an_empty_window_says_where_the_trace_is() -> None:
    with pytest.raises(
        InputError, match=r"--trace-window 20..: no request of trace arrives then; .* 0 to 9 s"
    ):
        cut(trace_at(0, 9), Window.parse("20.."))


def test_a_ramp_is_noticed_and_an_even_load_is_not(shared_cases: Path) -> None:
    even = trace_at(*np.arange(0, 100, 0.5))
    assert drift_note(even) is None
    ramp, _ = load_trace(shared_cases / "01-burstgpt-fails" / "ramp.csv")
    load = load_of(ramp)
    assert load is not None
    assert load.mean == pytest.approx(0.107, abs=5e-4)
    assert load.peak == pytest.approx(0.773, abs=5e-4)
    note = drift_note(ramp)
    assert note is not None
    assert "--trace-window 16834..18705 takes that part alone" in note
