"""The work that is really left on each replica: what no router knows, for the one that shows the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simsched.engine.arrival import Arrival


class TrueWork:
    """Tokens still to be computed, by replica: the prompts whose answers have not begun, and what is left of
    the answers that have. A decoding request gets a token in every step; one that is preempted in between has
    more left than is counted here."""

    def __init__(self) -> None:
        self._num_steps: list[Callable[[float], int]] = []
        self._not_begun: list[int] = []
        self._num_decoding: list[int] = []
        # of the decoding ones: the step in which the last token comes, if nothing stops it
        self._last_steps: list[int] = []
        self._last_step: dict[int, int] = {}  # by row

    def add(self, num_steps: Callable[[float], int]) -> None:
        """One more replica, and how many steps it has done by a time."""
        self._num_steps.append(num_steps)
        for counts in (self._not_begun, self._num_decoding, self._last_steps):
            counts.append(0)

    def sent(self, arrival: Arrival, number: int) -> None:
        """A request goes to this replica."""
        self._not_begun[number] += arrival.num_prompt_tokens + arrival.num_output_tokens

    def first_token(self, arrival: Arrival, number: int, now: float) -> None:
        """It has its first token."""
        self._not_begun[number] -= arrival.num_prompt_tokens + arrival.num_output_tokens
        last = self._num_steps[number](now) + arrival.num_output_tokens - 1
        self._last_step[arrival.row] = last
        self._last_steps[number] += last
        self._num_decoding[number] += 1

    def finished(self, arrival: Arrival, number: int) -> None:
        """It has its answer."""
        self._last_steps[number] -= self._last_step.pop(arrival.row)
        self._num_decoding[number] -= 1

    def left(self, now: float) -> Sequence[float]:
        """Tokens left on each replica."""
        return [
            prompts + last_steps - num_decoding * num_steps(now)
            for prompts, last_steps, num_decoding, num_steps in zip(
                self._not_begun, self._last_steps, self._num_decoding, self._num_steps, strict=True
            )
        ]
