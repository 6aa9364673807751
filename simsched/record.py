"""What one run leaves behind, simulated or real: the record every metric is computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from simsched.histogram import WeightedHistogram
from simsched.workload.trace import FloatArray, IntArray, Trace


@dataclass
class RankTimes:
    """What one of several ranks that step together did in the passes of all (`engine.data_parallel`)."""

    num_batches: int = 0
    num_dummies: int = 0
    """Passes in which it ran a dummy batch."""
    batch_seconds: float = 0.0
    """Of the passes in which it had a batch of its own."""
    dummy_seconds: float = 0.0
    waiting_seconds: float = 0.0
    """Of `batch_seconds`, those in which it was done and the slowest rank was not."""


@dataclass
class RunRecord:
    """Columns in the order of the trace (n requests). Seconds on the run's clock; NaN = never."""

    trace: Trace
    arrival_time: FloatArray
    """As it happened (differs from the trace's in a closed loop)."""
    first_scheduled_time: FloatArray
    first_token_time: FloatArray
    finish_time: FloatArray
    num_preemptions: IntArray
    max_itl: FloatArray
    """The longest gap between two tokens; NaN with fewer than two tokens."""
    itl: WeightedHistogram
    """Every gap between two tokens of a request, in seconds."""
    end_time: float = 0.0
    """When the run stopped."""
    num_steps: int = 0
    decode_steps: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """How many steps had 2, 3, ... requests with a token in them and in the one before, at those indices."""
    rejected: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    """(n,) which requests the server refused, so that they never came to an engine, or a policy's `admit`
    rejected. None: none."""
    replica: IntArray | None = None
    """(n,) which of several replicas served each request; -1: none. None: there was no router."""
    host_bound_share: float = math.nan
    """Of the time of all steps: asynchronous, those whose end the host decided; in sequence, what hangs on
    the host's speed. NaN where the cost does not tell host and device apart."""
    num_cached_tokens: IntArray | None = None
    """(n,) tokens of each prompt that were found in the prefix cache when it was first admitted. None: not
    known."""
    rank_times: tuple[RankTimes, ...] = ()
    """By replica, where they step together; else empty."""
    counters: dict[str, int] = field(default_factory=dict)
    """Engine-specific counts (swaps, steps skipped, ...)."""

    @property
    def finished(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.isfinite(self.finish_time)

    @property
    def refused(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(n,) which requests were rejected."""
        return np.zeros(len(self.trace), dtype=np.bool_) if self.rejected is None else self.rejected

    @property
    def cached_tokens(self) -> FloatArray | None:
        """(n,) prompt tokens found in the prefix cache, NaN of requests that were never looked up."""
        if self.num_cached_tokens is None:
            return None
        return np.where(np.isfinite(self.first_scheduled_time), self.num_cached_tokens, math.nan)
