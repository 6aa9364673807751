"""Smallest volume first ("Geometry-aware online scheduling", arXiv 2606.22327)."""

from __future__ import annotations

from math import inf

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, register
from simsched.policies.mc_sf import McSf
from simsched.policies.memory import predicted_length
from simsched.request import RequestView


@register("svf")
@dataclass(eq=False)
class SmallestVolume(McSf):
    """By the volume that a request takes of memory and time: `s o + (o² + o) / 2` token-steps for a
    prompt of s and a predicted answer of o tokens, which are held while it grows. Admission as `mc-sf`:
    what is let in must fit to the end. Where all prompts are equal it is shortest first."""

    def priority(self, request: RequestView, now: float) -> float:
        length = predicted_length(request)
        return inf if length == inf else request.num_prompt_tokens * length + (length * length + length) / 2

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER

    def changes_while_waiting(self) -> bool:
        return False
