"""`emulated(tau=0.52)`: the noise of `emulated.py`, by default as good as published for the workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import Buckets, Predictor, register
from simsched.predictors.emulated import REGIONS, Emulated
from simsched.streams import stream
from simsched.text.specs import number
from simsched.workload.named import DEFAULT_TAU
from simsched.workload.trace import FloatArray, IntArray, Trace


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
    uneven: float | None = None
    """Half of the requests, drawn at random, have so much more tau, the others so much less: how far off a
    prediction may be differs between requests. A score is then the mean length given what is known."""

    about = (
        "noise with a chosen Kendall tau: emulated(tau=0.52,region=all|shortest|longest,share=0.7); "
        "uneven=0.3, and of distributions spread=1"
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
        if self.uneven and self.region != "all":
            raise InputError(f"--predictor {self.name}: uneven={self.uneven:g}: expected region=all")
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
        lengths = trace.num_output_tokens

        def predict(noise: Emulated) -> FloatArray | IntArray:
            columns: dict[Reads, Callable[[], FloatArray | IntArray]] = {
                "score": lambda: (noise.lengths if self.uneven else noise.scores)(lengths, seed),
                "predicted_class": lambda: noise.classes(lengths, buckets, seed),
                "predicted_length": lambda: noise.lengths(lengths, seed),
                "length_quantiles": lambda: noise.quantiles(lengths, seed, spread),
            }
            return columns[column]()

        if self.uneven:
            number("--predictor", self.name, "uneven", self.uneven, 0.0, 0.999 * min(tau, 1 - tau))
            worse, better = (predict(Emulated(tau + by)) for by in (-self.uneven, self.uneven))
            known = stream(seed, "uneven").random(len(lengths)) < 0.5
            values = np.where(known.reshape(-1, *[1] * (better.ndim - 1)), better, worse)
        else:
            values = predict(Emulated(tau, REGIONS[self.region], self.share or 1.0))
        where = "" if self.share is None else f" in the {self.region} {self.share:.0%}"
        kind = f" ({buckets})" if column == "predicted_class" else ""
        if self.spread is not None:
            kind = f" ({spread:g} times as wide as calibrated)"
        origin = f" ({_origin(trace, column, buckets)})" if published else ""
        if self.uneven:
            where = f", {self.uneven:g} more in half of the requests and {self.uneven:g} less in the others"
        line = f"{column}{kind} from an emulated predictor, tau {tau:g}{where}{origin}"
        return trace.with_columns(**{column: values}), line


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
