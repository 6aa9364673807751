"""Perception only: the model guesses its own length in the first tokens of its answer."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView


@register("po")
@dataclass(eq=False)
class Po(Policy):
    """Until a request has generated `preamble` tokens it is served first come, first served, ahead of all
    others; then by the length it has guessed."""

    preamble: int = Field(default=15, ge=0)

    reads = "predicted_length"
    predicts_itself = True

    def priority(self, request: RequestView, now: float) -> tuple[float, float]:
        if request.num_output_tokens < self.preamble:
            return 0, request.arrival_time
        return 1, needed(request.predicted_length, "predicted_length", request)

    def next_change(self, request: RequestView, now: float) -> Change:
        # a step in which it runs gives it one token at most
        left = self.preamble - request.num_output_tokens
        return Change(after_steps_run=left) if left > 0 else NEVER

    def changes_while_waiting(self) -> bool:
        return False
