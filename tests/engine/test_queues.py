"""The leaping engine's queues, orders and announced changes: small tables."""

from __future__ import annotations

from math import inf, nextafter

import pytest

from simsched.engine.agenda import NO_LIMIT
from simsched.engine.arrival import Arrival
from simsched.engine.base import CannotLeap
from simsched.engine.step_clock import StepClock
from simsched.engine.vllm_v1.changes import Changes
from simsched.engine.vllm_v1.discipline import FcfsOrder, PriorityOrder
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.queues import RunningByPriority, WaitingQueue
from simsched.policies.base import NEVER, Change


def arrival(number: int, **facts: object) -> Arrival:
    return Arrival(number, float(number), 10, 5, str(number))._replace(**facts)


def request(number: int, clock: StepClock | None = None, **facts: object) -> LeapRequest:
    made = LeapRequest(number, arrival(number, **facts))
    made.attach_view(clock or StepClock(), arrival(number, **facts))
    return made


def served(queue: WaitingQueue) -> list[int]:
    order = []
    while (head := queue.head()) is not None:
        assert queue.pop() is head
        order.append(head.number)
    return order


@pytest.mark.parametrize(
    ("pushes", "order"),
    [
        ([(0, 3.0), (1, 1.0), (2, 2.0)], [1, 2, 0]),
        ([(0, 1.0), (1, 1.0), (2, 1.0)], [0, 1, 2]),  # ties by arrival
        ([(2, 1.0), (0, 1.0)], [0, 2]),
        ([(0, 1.0), (1, 2.0), (0, 3.0)], [1, 0]),  # it has moved back
        ([(0, 3.0), (1, 2.0), (0, 1.0)], [0, 1]),  # and forward
        ([(0, 1.0), (1, 2.0), (0, 3.0), (0, 1.0)], [0, 1]),  # and back to where it was
    ],
)
def test_the_waiting_queue(pushes: list[tuple[int, float]], order: list[int]) -> None:
    requests = {number: request(number) for number, _ in pushes}
    queue = WaitingQueue()
    for number, priority in pushes:
        queue.push(requests[number], priority)
    assert served(queue) == order


@pytest.mark.parametrize(
    ("keys", "moved", "gone", "worst_first"),
    [
        ([1.0, 3.0, 2.0], {}, [], [1, 2, 0]),
        ([1.0, 1.0, 1.0], {}, [], [2, 1, 0]),  # of equal ones the latest
        ([1.0, 3.0, 2.0], {0: 9.0}, [], [0, 1, 2]),
        ([1.0, 3.0, 2.0], {}, [1], [2, 0]),
    ],
)
def test_the_running_order_gives_the_worst(
    keys: list[float], moved: dict[int, float], gone: list[int], worst_first: list[int]
) -> None:
    running = {number: request(number) for number in range(len(keys))}
    for number, key in enumerate(keys):
        running[number].key = key
    order = RunningByPriority(running)
    for number, key in moved.items():
        running[number].key = key
        order.push(running[number])
    for number in gone:
        del running[number]
    found = []
    while (worst := order.worst()) is not None:
        order.take_out()
        del running[worst.number]
        found.append(worst.number)
    assert found == worst_first


def test_vllms_fcfs_puts_the_preempted_in_front_and_preempts_the_last() -> None:
    running = {number: request(number) for number in (0, 1)}
    order = FcfsOrder(running)
    order.arrived(2, arrival(2), 0.0)
    assert order.victim(list(running.values()), 0).number == 1
    order.requeue(running[1], 0.0)
    assert [order.pop().number for _ in range(2)] == [1, 2]


def test_vllms_priority_goes_by_priority_arrival_and_id() -> None:
    order = PriorityOrder({})
    facts = [(0, 1, 5.0, "b"), (1, 1, 5.0, "a"), (2, 0, 9.0, "z"), (3, 1, 4.0, "y")]
    come = [arrival(n, priority=p, arrival_time=t, request_id=name) for n, p, t, name in facts]
    for number, each in enumerate(come):
        order.arrived(number, each, 9.0)
    made = [order.request(number, each, 9.0) for number, each in enumerate(come)]
    assert [order.pop().number for _ in range(4)] == [2, 3, 1, 0]
    assert order.victim(made, 0).number == 0  # of two that are equal, the first in the batch


@pytest.mark.parametrize(
    ("change", "ran", "step", "time"),
    [
        (NEVER, True, NO_LIMIT, inf),
        (Change(after_steps_run=4), True, 14, inf),
        (Change(after_steps_run=4), False, NO_LIMIT, inf),  # it does not run
        (Change(after_steps_idle=3), False, 13, inf),
        (Change(after_steps_idle=3), True, NO_LIMIT, inf),
        (Change(after_time=0.5), True, NO_LIMIT, 2.5),
        (Change(after_time=0.5), False, NO_LIMIT, 2.5),
        (Change(after_service=0.5), True, NO_LIMIT, nextafter(2.5, inf)),  # the service must be greater
        (Change(after_service=0.5), False, NO_LIMIT, inf),
        (Change(after_service=2.0, after_time=1.0, after_steps_run=1), True, 11, 3.0),
    ],
)
def test_when_an_announced_change_comes(change: Change, ran: bool, step: int, time: float) -> None:
    """Announced at step counter 10 and 2.0 s."""
    clock = StepClock()
    clock.formed = clock.done = 10
    changes = Changes(clock)
    changes.on_time = True
    one = request(0, clock)
    if ran:
        changes.announce_running(one, change, 10, 2.0, 11)
    else:
        changes.announce_waiting(one, change, 10, 2.0)
    assert changes.limit() == (step, time)
    if step < NO_LIMIT:
        clock.done = step - 1
        assert changes.due(2.0) == []
        clock.done = step
        assert changes.due(2.0) == [one]
    elif time < inf:
        assert changes.due(nextafter(time, 0.0)) == []
        assert changes.due(time) == [one]


def test_what_was_announced_before_is_void() -> None:
    clock = StepClock()
    changes = Changes(clock)
    one = request(0, clock)
    changes.announce_waiting(one, Change(after_steps_idle=3), 0, 0.0)
    changes.announce_waiting(one, Change(after_steps_idle=8), 0, 0.0)
    assert changes.limit() == (8, inf)
    clock.done = 5
    assert changes.due(0.0) == []


def test_priorities_that_drift_while_requests_run_are_stepped() -> None:
    changes = Changes(StepClock())
    with pytest.raises(CannotLeap):
        changes.announce_running(request(0), Change(while_running="any"), 0, 0.0, 1)
