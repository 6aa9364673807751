"""The two clocks of a run."""

from __future__ import annotations

import time

import pytest

from simsched.errors import InputError
from validate.engine_options import environment
from validate.run_clock import ProcessorClock, WallClock, check_clock


def test_the_processors_clock_counts_work_and_skips_waiting() -> None:
    clock = ProcessorClock()
    start = time.process_time()
    while time.process_time() - start < 0.02:
        pass
    worked = clock.now()
    assert worked >= 0.02
    time.sleep(0.05)  # others' time is not ours
    assert clock.now() < worked + 0.04
    clock.wait_until(5.0)
    assert 5.0 <= clock.now() < 5.1
    clock.wait_until(3.0)  # the past: nothing to wait for
    assert 5.0 <= clock.now() < 5.2


def test_the_walls_clock_passes() -> None:
    clock = WallClock()
    clock.wait_until(0.02)
    assert clock.now() >= 0.02
    assert clock.from_wall(1.5) == 1.5


@pytest.mark.parametrize(("device", "engine"), [("cuda", "offline"), ("cpu", "http")])
def test_the_processors_clock_is_refused_where_others_compute(device: str, engine: str) -> None:
    check_clock("wall", device, engine)
    with pytest.raises(InputError, match="--clock cpu: needs the offline engine on the cpu"):
        check_clock("cpu", device, engine)


def test_on_the_processors_clock_the_engine_has_one_thread() -> None:
    assert environment("cpu", "cpu")["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in environment("cpu", "wall")
