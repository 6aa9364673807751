"""What the engine one step ahead and its uncontended run give each other: the step that is under way."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simsched.cost_model.base import StepFeatures
from simsched.engine.base import Batch


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
