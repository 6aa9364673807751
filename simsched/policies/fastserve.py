"""FastServe's skip-join MLFQ (Wu et al., 2023): long prompts start further down."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.mlfq import Mlfq
from simsched.request import RequestView


@register("fastserve")
@dataclass(eq=False)
class FastServe(Mlfq):
    """MLFQ in which a request joins the first level whose quantum covers its prefill, so that it is not
    demoted before its first token."""

    prefill_time_per_token: float = Field(default=5.3e-5, ge=0, lt=inf)
    """Seconds; the default is Llama-3-8B's on an A100, from the fit of the embedded profile."""

    def first_level(self, request: RequestView) -> int:
        prefill = self.prefill_time_per_token * request.num_prompt_tokens
        level = 0
        while self.quantum(level) < prefill and self.threshold > 1:
            level += 1
        return level
