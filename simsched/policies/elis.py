"""ELIS (2025): iterative shortest remaining time first, by a length that is predicted every 50 tokens."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, register
from simsched.policies.distribution import mean_beyond, quantiles_of
from simsched.request import RequestView


@register("elis")
@dataclass(eq=False)
class Elis(Policy):
    """By the tokens that were still to come when last predicted: a new prediction every `every` tokens (Choi
    et al., arXiv 2505.09142), none in between. The paper's predictor reads the prompt and the answer so far;
    here the new prediction is the mean of the predicted distribution beyond what has been generated. The
    paper forms a batch every 50 tokens; here a better request need not wait until then.
    """

    every: int = Field(default=50, ge=1)
    """Tokens between two predictions."""

    reads = "length_quantiles"

    def priority(self, request: RequestView, now: float) -> float:
        asked = request.num_output_tokens - request.num_output_tokens % self.every
        return mean_beyond(quantiles_of(request), asked) - asked

    def next_change(self, request: RequestView, now: float) -> Change:
        return Change(after_steps_run=self.every - request.num_output_tokens % self.every)

    def changes_while_waiting(self) -> bool:
        return False
