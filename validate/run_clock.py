"""The clock of a run: the wall's, or the processor time of this process with idle time skipped."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from simsched.errors import InputError

ClockName = Literal["wall", "cpu"]

CLOCKS: dict[ClockName, str] = {
    "wall": "wall: seconds that pass",
    "cpu": "cpu: processor seconds of this process, whose engine has one thread; idle time is skipped",
}


class RunClock(Protocol):
    """Seconds since the run began; also the scheduler's clock (`simsched.vllm.clock.Clock`)."""

    def now(self) -> float: ...
    def from_wall(self, wall_time: float) -> float: ...
    def wait_until(self, due: float) -> None: ...
    def restart(self) -> None:
        """It is 0 now."""
        ...


class WallClock:
    """Seconds of `time.monotonic`; waiting is sleeping."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._start

    def from_wall(self, wall_time: float) -> float:
        return wall_time  # arrivals are given on this clock

    def wait_until(self, due: float) -> None:
        time.sleep(max(0.0, due - self.now()))


class ProcessorClock:
    """Seconds that this process has computed (all its threads); waiting puts the clock forward.

    Other processes on the machine then cost a run nothing but what they take of caches and memory bandwidth.
    Only for an engine that lives in this process and computes in one thread: threads that compute at the same
    time would be added up.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._offset = -time.process_time()

    def now(self) -> float:
        return time.process_time() + self._offset

    def from_wall(self, wall_time: float) -> float:
        return wall_time

    def wait_until(self, due: float) -> None:
        self._offset += max(0.0, due - self.now())


def check_one_thread() -> None:
    """Is this process fit for `ProcessorClock`?

    Raises:
        InputError: torch would compute in several threads.
    """
    import torch

    if (threads := torch.get_num_threads()) != 1:
        raise InputError(
            f"--clock cpu: torch computes in {threads} threads, which would be added up; needs 1"
        )


def check_clock(clock: ClockName, device: str, engine: str) -> None:
    """Does this engine have this clock?

    Raises:
        InputError: no.
    """
    if clock == "cpu" and (device != "cpu" or engine != "offline"):
        raise InputError(
            f"--clock cpu: needs the offline engine on the cpu, in this process; not {engine} on {device}"
        )
