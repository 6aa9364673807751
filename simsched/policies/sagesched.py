"""SageSched's cost under the Gittins index: a request takes compute and KV memory for as long as it runs."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.distribution import quantiles_of
from simsched.policies.gittins import Gittins
from simsched.request import RequestView


@register("sagesched")
@dataclass(eq=False)
class SageSched(Gittins):
    """The Gittins index of the cost I X + X^2 / 2 of a prompt of I tokens and an answer of X (Gan et al.,
    arXiv 2603.07917): each of its X steps attends to its whole context and keeps it in memory, so compute and
    memory both grow as the sum of I + 1, I + 2, ... I + X. The paper names the two parts; that one sum stands
    for both is our choice. So a short answer to a long prompt comes later than under `gittins`.
    """

    def costs(self, request: RequestView) -> list[float]:
        prompt = request.num_prompt_tokens
        return [points * (prompt + 0.5 * points) for points in quantiles_of(request)]

    def attained(self, request: RequestView) -> float:
        tokens = request.num_output_tokens
        return tokens * (request.num_prompt_tokens + 0.5 * tokens)
