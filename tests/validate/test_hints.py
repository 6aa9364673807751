"""What a request tells the scheduler, and what its view makes of it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from simsched.engine.step_clock import StepClock
from simsched.vllm.view import HINT, VllmView
from simsched.workload.trace import Trace
from validate.hints import Hints


def turns(n: int) -> Trace:
    return Trace(
        np.zeros(n), np.full(n, 8), np.full(n, 2), request_id=[f"r{row}" for row in range(n)],
        session_id=[None if row % 5 == 4 else f"s{row % 5}" for row in range(n)],
        parent=[(f"r{row - 1}", 'a "quoted", id') if row % 3 == 2 else () for row in range(n)],
        history_length=np.zeros(n, dtype=np.int64),
    )  # fmt: skip


def view(hints: dict[str, str | int | float]) -> VllmView:
    request = SimpleNamespace(
        request_id="r", num_prompt_tokens=8, priority=0, sampling_params=SimpleNamespace(extra_args=hints)
    )
    return VllmView(request, 0.0, 0, StepClock())


def test_a_view_gets_session_turn_and_parents() -> None:
    hints = Hints(turns(12))
    facts = [view(hints.of(row)).facts for row in range(12)]
    assert [each.session_id for each in facts[:6]] == ["s0", "s1", "s2", "s3", None, "s0"]
    assert [each.turn for each in facts] == [0, 0, 0, 0, None, 1, 1, 1, 1, None, 2, 2]
    assert facts[2].parents == ("r1", 'a "quoted", id')
    assert facts[3].parents == ()


@pytest.mark.parametrize("given", ["", "r1", "3", '{"a": 1}'])
def test_bad_parents_are_none(given: str) -> None:
    assert view({HINT + "parents": given}).facts.parents == ()


def test_hints_of_a_long_trace_take_no_longer_each() -> None:
    """The number of a turn was counted anew for each request."""

    def seconds(n: int) -> float:
        start = time.process_time()
        hints = Hints(turns(n))
        for row in range(n):
            hints.of(row)
        return time.process_time() - start

    seconds(500)
    assert seconds(8000) < 8 * 4 * seconds(1000)
