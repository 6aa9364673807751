"""The two cost models: linear, and a table over the tokens of a step.

    linear   max(floor, t0 + a·P + b·N)       + c·K + d·Q + host
    table    max(floor, interp(P + N; knots)) + c·K + d·Q + host,   with host = h·(N + S) + per_chunk·S + ...

where S > 0, also per_mixed_decode·N.

The table exists because matrix products cost whole tiles: a step of 65 tokens costs 9 % more than one of 64,
one of 129 a quarter more than one of 128. Both are affine in K, so k decode steps have a closed-form sum.

An eager-mode engine launches kernels from Python, and a small step costs what the launches cost. That floor
is applied before K and Q are added: with a maximum over everything the time would not be affine in K. The
error is at most the attention time of a step that is under the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, replace
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from simsched.cost_model.base import StepFeatures

Seconds = Annotated[float, Field(ge=0, le=1e6)]

STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Model:
    """What both forms share. All coefficients in seconds, finite and not negative."""

    c: Seconds
    """Per token of decode context (K)."""
    d: Seconds
    """Per token pair of prefill attention (Q)."""
    h: Seconds = 0.0
    """Host time per sequence in the batch (N + S)."""
    per_chunk: Seconds = 0.0
    """Host time per prefill chunk (S): a new request's entry, products of few rows."""
    per_mixed_decode: Seconds = 0.0
    """Per decode in a step with prefill chunks: its attention is then computed by kernels made for chunks."""
    floor: Seconds = 0.0
    """Least time of a step before attention and host terms (eager mode)."""
    per_waiting: Seconds = 0.0
    """Host time per unfinished request outside the batch."""
    per_ordered: Seconds = 0.0
    """Host time per request sorted (the fork's general path)."""
    per_compared: Seconds = 0.0
    """Host time per pair compared in the fork's lists."""
    per_swapped_token: Seconds = 0.0
    """Per KV token moved between GPU and host memory."""
    per_padded: Seconds = 0.0
    """Per number in the fork's sampler tensors, context and padding."""
    per_scoring: Seconds = 0.0
    """Per step in which a predictor is called, whatever the number of requests."""

    # N -> decode base; filled on demand
    _bases: dict[int, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    # tokens of a step -> tokens that the device computes; what is beyond the list is not padded
    _padded: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    # made by `on_graphs`: all replicas ask for the same one, and its tables take time
    _copies: list[Self] = field(default_factory=list, init=False, repr=False, compare=False)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        self._check()
        if self.step_time(StepFeatures(N=1, K=1)) <= 0:
            raise ValueError("a decode step must take more than 0 s")
        return self

    def _check(self) -> None:
        """Raise ValueError where coefficients do not fit together."""

    def _tokens(self, P: int, N: int) -> float:
        """Seconds for the part of a step that depends on its tokens alone."""
        raise NotImplementedError

    def _padding(self, tokens: int) -> int:
        """Tokens that the device computes besides so many."""
        return self._padded[tokens] - tokens if tokens < len(self._padded) else 0

    def on_graphs(self, padded: Sequence[int]) -> Self:
        """The same model with the tokens of a step padded: `padded[tokens]` are computed for so many, and no
        more than there are beyond the end of `padded`. Terms per sequence, chunk, context stay those of the
        batch itself."""
        for known in self._copies:
            if known._padded == padded:
                return known
        copy = replace(self)
        copy._padded.extend(padded)
        copy._forget()  # what the check of a new model has filled, without padding
        self._copies.append(copy)
        return copy

    def _forget(self) -> None:
        """What has been filled on demand."""
        self._bases.clear()

    def step_time(self, features: StepFeatures) -> float:
        """Seconds for one step with these features."""
        P, N, S, K, Q, waiting, swapped, predicted, ordered, compared, padding = features
        return self.time_of(P, N, S, K, Q, waiting, predicted, swapped, ordered, compared, padding)

    def time_of(
        self,
        P: int,
        N: int,
        S: int,
        K: int,
        Q: float,
        waiting: int,
        predicted: int,
        swapped: int = 0,
        ordered: int = 0,
        compared: int = 0,
        padding: int = 0,
    ) -> float:
        """`step_time`, feature by feature."""
        time = self._tokens(P, N)
        if time < self.floor:
            time = self.floor
        time += self.h * (N + S)
        if S:
            time += self.per_chunk * S + self.per_mixed_decode * N
        if waiting:
            time += self.per_waiting * waiting
        if ordered:
            time += self.per_ordered * ordered + self.per_compared * compared
        if swapped:
            time += self.per_swapped_token * swapped
        if predicted:
            time += self.per_scoring
        if padding:
            time += self.per_padded * padding
        # K last, so that a pure decode step equals its decode_line to the last bit
        return time + self.d * Q + (self.c + self.per_padded) * K

    def decode_line(
        self, N: int, num_waiting: int, num_ordered: int = 0, num_compared: int = 0, padding: int = 0
    ) -> tuple[float, float]:
        """`(base, slope)`: a step of N decodes and nothing else takes `base + slope * K` seconds."""
        base = self._bases.get(N)
        if base is None:
            base = self._bases[N] = max(self.floor, self._tokens(0, N)) + self.h * N
        if num_waiting:
            base += self.per_waiting * num_waiting
        if num_ordered:
            base += self.per_ordered * num_ordered + self.per_compared * num_compared
        if padding:
            base += self.per_padded * padding
        return base, self.c + self.per_padded

    def scaled(self, factor: float) -> Self:
        """The same model with every time multiplied by `factor`."""
        times: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float):
                times[each.name] = value * factor
            elif each.name == "g":
                times[each.name] = tuple(seconds * factor for seconds in value)
        return replace(self, **times)

    def to_json(self) -> dict[str, Any]:
        """The content of a cost file, in seconds, without optional terms that are zero."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self) if each.init}
        form = values.pop("form")[0]
        terms = {name: value for name, (value, default) in values.items() if value or default != 0.0}
        return {"form": form, "unit": "s", **terms}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LinearCost(_Model):
    """`t0 + a·P + b·N + c·K + d·Q`, in seconds."""

    form: Literal["linear"] = "linear"
    t0: Seconds
    """Of every step."""
    a: Seconds
    """Per prefill token."""
    b: Seconds
    """Per decode."""

    def _tokens(self, P: int, N: int) -> float:
        if self._padded:
            padding = self._padding(P + N)
            if P:
                P += padding
            else:
                N += padding
        return self.t0 + self.a * P + self.b * N


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TableCost(_Model):
    """Linear interpolation over P + N between knots; beyond the last knot its last slope goes on."""

    form: Literal["table"] = "table"
    knots: tuple[Annotated[int, Field(ge=1, le=2**20)], ...] = Field(min_length=2)
    """Tokens of a step (P + N), increasing."""
    g: tuple[Seconds, ...] = Field(min_length=2)
    """Seconds at each knot."""

    _dense: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def _check(self) -> None:
        if len(self.g) != len(self.knots):
            raise ValueError(f"{len(self.knots)} knots but {len(self.g)} times")
        if any(after <= before for before, after in pairwise(self.knots)):
            raise ValueError("knots must increase")
        if self.g[-1] < self.g[-2]:
            raise ValueError("the last two times must not decrease (they are extrapolated)")

    def _forget(self) -> None:
        super()._forget()
        self._dense.clear()

    def _tokens(self, P: int, N: int) -> float:
        tokens = P + N
        dense = self._dense
        if not dense:
            # every whole number of tokens, once: an index is quicker than a search
            computed = [each + self._padding(each) for each in range(self.knots[-1] + 1)]
            dense.extend(np.interp(computed, self.knots, self.g).tolist())
            for each, padded in enumerate(computed):
                if padded > self.knots[-1]:
                    dense[each] = self._beyond(padded)
        if tokens < len(dense):
            return dense[tokens]
        return self._beyond(tokens + self._padding(tokens))

    def _beyond(self, tokens: int) -> float:
        (x0, x1), (y0, y1) = self.knots[-2:], self.g[-2:]
        return y1 + (tokens - x1) * (y1 - y0) / (x1 - x0)
