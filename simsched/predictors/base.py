"""The predictor contract: an object that fills the column of predictions which a policy reads.

Each kind is one dataclass in one file, whose fields are the parameters of its spec:

    @register("oracle")
    @dataclass(frozen=True)
    class Oracle(Predictor):
        about = "the true output length"

        def fill(self, trace, column, buckets, *, seed, tau=None):
            ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np

from simsched.policies.base import Reads
from simsched.workload.trace import IntArray, Trace


@dataclass(frozen=True)
class Buckets:
    """Length classes, 0 = shortest. The paper's are 10 of 820 tokens (fixed): class = length // width."""

    kind: Literal["fixed", "percentile"] = "fixed"
    width: int = 820
    """Tokens a bucket (fixed)."""
    count: int = 10
    """Number of buckets (percentile: equally many requests in each, as far as equal lengths allow)."""

    @property
    def as_published(self) -> bool:
        """Are these the paper's 820 tokens (819.2 rounded up)?"""
        return self.kind == "fixed" and self.width == 820

    def upper_bounds(self, lengths: IntArray) -> IntArray:
        """The longest length of each bucket but the last, rising."""
        if self.kind == "fixed":
            last = int(lengths.max()) // self.width + 1
            return np.arange(1, last) * self.width - 1
        ordered = np.sort(lengths)
        cuts = ordered[np.arange(1, self.count) * len(ordered) // self.count - 1]
        return np.unique(cuts[cuts < ordered[-1]])

    def classify(self, lengths: IntArray) -> IntArray:
        """The class of each length."""
        return np.searchsorted(self.upper_bounds(lengths), lengths, side="left")

    def __str__(self) -> str:
        if self.kind == "percentile":
            return f"{self.count} percentile buckets"
        return f"buckets of {self.width} tokens"


@dataclass(frozen=True)
class Predictor(ABC):
    """Makes what a policy believes about requests. It may see true lengths; the policy sees its answers."""

    name: ClassVar[str] = ""
    about: ClassVar[str] = ""
    """A line for `simsched list predictors`."""

    @abstractmethod
    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        """Predict for every request.

        Args:
            trace: n requests.
            column: `score` (lower = expected shorter), `predicted_class` (0 = shortest), `predicted_length`
                (tokens), `length_quantiles` (a row of rising lengths for each request, equally probable).
            buckets: the length classes, where classes are asked for.
            seed: of its noise; the same for all policies, so that they share it.
            tau: of a predictor whose Kendall's tau is open.

        Returns:
            The trace with this column, and a line that says where it is from.

        Raises:
            InputError: it cannot predict for this trace.
        """

    @property
    def tau_is_open(self) -> bool:
        """Does `fill` look at its `tau`?"""
        return False

    @property
    def files(self) -> tuple[str, ...]:
        """Files and folders that its predictions depend on."""
        return ()

    @property
    def seconds_per_request(self) -> float | None:
        """Seconds that a request's prediction takes; None: what the cost profile says."""
        return None


LEVELS = 20
"""How many equally probable lengths make a predicted distribution, where we make it."""

P = TypeVar("P", bound=Predictor)
_registry: dict[str, type[Predictor]] = {}


def register(name: str) -> Callable[[type[P]], type[P]]:
    """Class decorator: make the predictor available as `--predictor NAME`.

    Raises:
        ValueError: another module's predictor has this name.
    """

    def add(cls: type[P]) -> type[P]:
        if name in _registry and _registry[name].__module__ != cls.__module__:
            raise ValueError(f"there is a predictor {name} already")
        cls.name = name
        _registry[name] = cls
        return cls

    return add


def registered() -> dict[str, type[Predictor]]:
    """The predictors by name."""
    return dict(sorted(_registry.items()))
