"""What the engine one step ahead and its uncontended run give each other: the step that is under way, and the
requests that decode."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simsched.cost_model.base import StepFeatures
from simsched.engine.base import Batch
from simsched.engine.vllm_v1.arriving import Arriving
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.state import LeapingState


class UncontendedStep(NamedTuple):
    """A step that is formed and not over."""

    features: StepFeatures
    formed_at: float
    first_done: int
    end_done: int
    """Whose prompt is computed by its end: from the one up to the other."""
    prompts: list[tuple[int, int]]
    """Who has how many tokens of its prompt in it."""
    endings: list[int]
    """Who gets its last token, but for those."""


class HandsOver(Protocol):
    """The leaping engine one step ahead, as far as it hands over to the uncontended run."""

    ended: float
    """When the step done last ended."""

    def hand_over(self) -> tuple[UncontendedStep | None, dict[int, int]]:
        """The step under way, if there is one, and by number the offsets of the decoding requests."""

    def take_back(self, current: UncontendedStep | None, offsets: dict[int, int]) -> Batch | None:
        """The same, at the end of the stretch; all of them are in `running`."""


def in_turn(offsets: dict[int, int], places: dict[int, int]) -> dict[int, int]:
    """Offsets by number, in order of admission; `places`: of those that were not admitted in turn."""
    return {who: offsets[who] for who in sorted(offsets, key=lambda who: places.get(who, who))}


def make_running(
    engine: LeapingState,
    policy_order: PolicyOrder | None,
    offsets: dict[int, int],
    starts: dict[int, float] | None,
    arriving: Arriving,
    now: float,
) -> None:
    """Make those of these decoding requests that have been no more than an offset so far.

    Args:
        starts: when the first step of each began that has had one; None: their policy has been told.
    """
    running, first_token_time = engine.running, engine.recorder.first_token_time
    if policy_order is not None:
        policy_order.ask_unasked()
    for who, offset in offsets.items():
        request = running.get(who)
        if request is None:
            arrival = arriving.arrival(who)
            request = running[who] = engine.order.request(who, arrival, now)
            request.decode(offset)
        if policy_order is not None and starts is not None and who in starts and not request.ran:
            policy_order.began_before(request, starts[who], first_token_time[who])
