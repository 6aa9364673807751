"""When each part of a step happened: the raw times that the scheduler and the executor stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from simsched.vllm.clock import Clock

ATTRIBUTE = "simsched_stamps"
"""Of vLLM's `SchedulerOutput`: where the executor finds the stamps of the step that it launches."""

COLUMNS = (
    "schedule_begin",
    "schedule_end",
    "launch_begin",
    "forward_launched",
    "launch_end",
    "wait_begin",
    "output_ready",
    "update_begin",
    "update_end",
    "device_begin",
    "device_end",
)
"""In the step log, in seconds of its clock."""


@dataclass(slots=True)
class Stamps:
    """Seconds of `clock`; None where nobody has stamped."""

    clock: Clock
    alone: bool
    """No other step was under way when this one was formed: the device is idle."""
    schedule_begin: float
    schedule_end: float | None = None
    launch_begin: float | None = None
    """The executor's `execute_model` is entered."""
    forward_launched: float | None = None
    """It has returned: the forward pass is launched."""
    launch_end: float | None = None
    """`sample_tokens` has returned: the whole step is launched."""
    wait_begin: float | None = None
    """The engine begins to wait for the step's output."""
    output_ready: float | None = None
    update_begin: float | None = None
    update_end: float | None = None
    device_begin: float | None = None
    device_end: float | None = None
    events: tuple[Event, Event] | None = None
    timer: DeviceTimer | None = None

    def complete(self, *, wait: bool) -> bool:
        """Is the device's part known? If not, `wait` for it or say so."""
        return self.timer is None or self.timer.read(self, wait=wait)

    def columns(self) -> dict[str, float | None]:
        """As the step log has them."""
        return {name: getattr(self, name) for name in COLUMNS}


class Event(Protocol):
    """What is used of a `torch.cuda.Event` that takes times."""

    def record(self) -> None: ...
    def query(self) -> bool: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, end: Any, /) -> float: ...


class DeviceTimer:
    """Two events a step on the device's stream, read once they are over: nothing waits for the device.

    The device's clock is set by the host's whenever a step is launched while none is under way: the first
    event is then reached as soon as it is recorded. From there on times add up from event to event.
    """

    def __init__(self, make_event: Callable[[], Event]) -> None:
        self._make_event = make_event
        self._free: list[Event] = []
        self._last: tuple[Event, float] | None = None

    def record(self) -> Event:
        """An event behind all that has been launched."""
        event = self._free.pop() if self._free else self._make_event()
        event.record()
        return event

    def read(self, stamps: Stamps, *, wait: bool) -> bool:
        """Fill in the device's times of a step, once for each step in their order; False: not over yet."""
        if stamps.events is None:
            return True
        begin, end = stamps.events
        if not end.query():
            if not wait:
                return False
            end.synchronize()
        if self._last is None or stamps.alone:
            device_begin = stamps.launch_begin
            assert device_begin is not None
        else:
            last, time = self._last
            device_begin = time + last.elapsed_time(begin) / 1e3
        if self._last is not None:
            self._free.append(self._last[0])
        self._free.append(begin)
        stamps.device_begin = device_begin
        stamps.device_end = device_begin + begin.elapsed_time(end) / 1e3
        self._last = (end, stamps.device_end)
        stamps.events = None
        return True
