"""`emulated(tau=0.52)`: the noise of `emulated.py`, by default as good as published for the workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import Buckets, Predictor, register
from simsched.predictors.emulated import REGIONS, Emulated
from simsched.text.specs import number
from simsched.workload.named import DEFAULT_TAU
from simsched.workload.trace import Trace


@register("emulated")
@dataclass(frozen=True)
class EmulatedPredictor(Predictor):
    """Noise with a chosen Kendall's tau, in all requests or in the shortest or longest share of them."""

    tau: float | None = None
    """None: what `fill` is given, else the workload's published tau."""
    region: str = "all"
    share: float | None = None

    spread: float | None = None
    """Of a distribution: how wide it is, over how wide it should be. None: 1, calibrated."""

    about = (
        "noise with a chosen Kendall tau: emulated(tau=0.52,region=all|shortest|longest,share=0.7,spread=1)"
    )

    def __post_init__(self) -> None:
        if self.tau is not None:
            number("--predictor", self.name, "tau", self.tau, 0.0, 1.0)
        if str(self.region) not in REGIONS:
            raise InputError(f"--predictor {self.name}: region={self.region}: expected {', '.join(REGIONS)}")
        if (self.share is None) != (self.region == "all"):
            raise InputError(f"--predictor {self.name}: expected region=shortest|longest and share= together")
        if self.share is not None:
            number("--predictor", self.name, "share", self.share, 0.01, 1.0)
        if self.spread is not None:
            number("--predictor", self.name, "spread", self.spread, 0.0, 100.0)

    @property
    def tau_is_open(self) -> bool:
        return self.tau is None

    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        chosen = self.tau if self.tau is not None else tau
        published = chosen is None
        if published:
            chosen = _published_tau(trace, column, buckets)
        tau = number("--predictor", self.name, "tau", chosen, 0.0, 1.0)
        spread = 1.0 if self.spread is None else self.spread
        if self.spread is not None and column != "length_quantiles":
            raise InputError(f"--predictor {self.name}: spread is of a distribution; {column} is none")
        noise = Emulated(tau, REGIONS[self.region], self.share or 1.0)
        lengths = trace.num_output_tokens
        columns: dict[Reads, Callable[[], Any]] = {
            "score": lambda: noise.scores(lengths, seed),
            "predicted_class": lambda: noise.classes(lengths, buckets, seed),
            "predicted_length": lambda: noise.lengths(lengths, seed),
            "length_quantiles": lambda: noise.quantiles(lengths, seed, spread),
        }
        where = "" if self.share is None else f" in the {self.region} {self.share:.0%}"
        kind = f" ({buckets})" if column == "predicted_class" else ""
        if self.spread is not None:
            kind = f" ({spread:g} times as wide as calibrated)"
        origin = f" ({_origin(trace, column, buckets)})" if published else ""
        line = f"{column}{kind} from an emulated predictor, tau {tau:g}{where}{origin}"
        return trace.with_columns(**{column: columns[column]()}), line


def _published_tau(trace: Trace, column: Reads, buckets: Buckets) -> float:
    """The tau published for this workload, or for ShareGPT where it has none."""
    table: dict[str, float] = trace.meta.get("predictor_tau", DEFAULT_TAU)
    if column == "predicted_class" and not buckets.as_published:
        return table["score"]  # other buckets: as good as the ranker
    return table.get(column, table["score"])


def _origin(trace: Trace, column: Reads, buckets: Buckets) -> str:
    hidden = column == "predicted_class" and buckets.as_published
    if "predictor_tau" not in trace.meta:
        origin = f"nothing published for {trace.name}: this is sharegpt's"
        return f"of its hidden score; {origin}" if hidden else origin
    if hidden:
        return f"of its hidden score, from which its classes get the tau published for {trace.name}"
    return f"published for {trace.name}"
