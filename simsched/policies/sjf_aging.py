"""Shortest job first with aging, in the five forms that were proposed to vLLM, TensorRT-LLM and SGLang."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, log
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.errors import InputError
from simsched.policies.base import NEVER, Change, Policy, register
from simsched.policies.predicted import needed
from simsched.request import RequestView

Form = Literal["vllm", "trtllm", "trtllm-cached", "sglang", "ewsjf"]
Key = Callable[[float, float, float], float]
"""From the size (tokens), the arrival and the present (s) to a key, the lowest first."""

_PARAMETERS: dict[Form, dict[str, float]] = {
    "vllm": {"length_median": 32768.0, "time_median": 5.0, "time_weight": 0.5},
    "trtllm": {"length_median": 32768.0, "time_median": 5.0, "time_weight": 0.5},
    "trtllm-cached": {"aging": 0.005},
    "sglang": {"aging_tokens": 1000.0},
    "ewsjf": {"class_width": 512.0},
}
"""What each form takes, and its defaults."""

_RUNS_AT_ONCE = Change(after_steps_run=1)
_MOVES = Change(after_steps_run=1, after_time=0.0)
_MOVES_ALWAYS = Change(after_time=0.0, while_running="any")
_IMPROVES = Change(while_running="improves")


@register("sjf-aging")
@dataclass(eq=False)
class SjfAging(Policy):
    """Short requests first, and the longer one waits the earlier. With size L and wait w:

    - `vllm` (vLLM #29366): the largest (1 - u) sigmoid((m - L) / m) + u sigmoid((w - h) / h), with
      m = `length_median`, h = `time_median`, u = `time_weight`. The rule, not its heap, which compares a
      fresh score with an old one.
    - `trtllm` (TensorRT-LLM #12428): the largest (1 - u) / (1 + L / m) + u w / h.
    - `trtllm-cached` (TensorRT-LLM #13096): the smallest L max(0, 1 - `aging` w), L without what is cached.
    - `sglang` (SGLang #30806): the smallest L - `aging_tokens` w, L without what is cached; the default of
      1,000 a second is ours.
    - `ewsjf` (EWSJF, vLLM #33392): the largest w (1 + ln(L + 1) / 2) / (i + 1) in length class i. There the
      classes follow the workload; here they are `class_width` tokens wide, a choice of ours.

    In `trtllm` and `sglang` all requests age alike, so that the order of two never changes and a run leaps.
    In the other three a request overtakes another because time goes by; those who wait are asked in every
    step. As in those engines, only the queue is ordered: who has run goes first, in order of arrival, also
    back in the queue. `preemptive=true` orders the running requests by the same key.
    """

    preemptive: bool = False
    form: Form = "vllm"
    size: Literal["prompt", "output"] = "prompt"
    """What is short: the prompt, as in those engines, or the output that is predicted to be left."""
    length_median: float | None = Field(default=None, gt=0, lt=inf)
    """Tokens; 32,768 (vllm, trtllm)."""
    time_median: float | None = Field(default=None, gt=0, lt=inf)
    """Seconds; 5 (vllm, trtllm)."""
    time_weight: float | None = Field(default=None, ge=0, le=1)
    """0.5; the rest is the length's (vllm, trtllm)."""
    aging: float | None = Field(default=None, ge=0, lt=inf)
    """Share of the size that a second of waiting takes off; 0.005 (trtllm-cached)."""
    aging_tokens: float | None = Field(default=None, ge=0, lt=inf)
    """Tokens that a second of waiting takes off; 1,000 (sglang)."""
    class_width: float | None = Field(default=None, ge=1, lt=inf)
    """Tokens; 512 (ewsjf)."""

    def __post_init__(self) -> None:
        own = dict(_PARAMETERS[self.form])
        for name in dict.fromkeys(name for names in _PARAMETERS.values() for name in names):
            given = getattr(self, name)
            if given is not None and name not in own:
                raise InputError(
                    f"policy sjf-aging: form {self.form} takes no {name}; it takes {', '.join(own)}"
                )
            if given is not None:
                own[name] = given
        self._key = _key(self.form, own)
        self._ages_alike = self.form in ("trtllm", "sglang")
        if self.size == "output":
            self.reads = "predicted_length"  # type: ignore[misc]
        elif self.form in ("trtllm-cached", "sglang"):
            self.reads_cache = True  # type: ignore[misc]

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run and not self.preemptive:
            return 0, request.arrival_time
        return 1, self._key(self._size(request), request.arrival_time, now)

    def _size(self, request: RequestView) -> float:
        """Tokens; at least one, for a request may outlive its prediction."""
        if self.size == "prompt":
            cached = request.num_cached_tokens if self.reads_cache else 0
            return max(1, request.num_prompt_tokens - cached)
        length = needed(request.predicted_length, "predicted_length", request)
        return max(1.0, length - request.num_output_tokens)

    def next_change(self, request: RequestView, now: float) -> Change:
        if self.preemptive:
            if self._ages_alike:
                return _IMPROVES if self.size == "output" else NEVER
            return _MOVES_ALWAYS
        if request.steps_run:
            return NEVER
        return _RUNS_AT_ONCE if self._ages_alike else _MOVES

    def changes_while_waiting(self) -> bool:
        return not self._ages_alike


def _key(form: Form, given: dict[str, float]) -> Key:
    """The form's key. Where all age alike the present is left out: it is the same for all."""
    if form == "sglang":
        per_second = given["aging_tokens"]
        return lambda size, arrival, now: size + per_second * arrival
    if form == "trtllm-cached":
        share = given["aging"]
        return lambda size, arrival, now: size * max(0.0, 1.0 - share * (now - arrival))
    if form == "ewsjf":
        width = given["class_width"]
        return lambda size, arrival, now: (
            -(now - arrival) * (1.0 + 0.5 * log(size + 1.0)) / (size // width + 1.0)
        )
    median, half, weight = given["length_median"], given["time_median"], given["time_weight"]
    if form == "trtllm":
        return lambda size, arrival, now: weight * arrival / half - (1.0 - weight) / (1.0 + size / median)
    return lambda size, arrival, now: (
        -(1.0 - weight) * _sigmoid((median - size) / median)
        - weight * _sigmoid((now - arrival - half) / half)
    )


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + exp(-x)) if x > -700.0 else 0.0
