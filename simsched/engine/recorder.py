"""Keeps the times of every request, without touching every running request in every step.

While a request gets a token in each step (a *streak*), its gaps between tokens are the steps' durations:
they go into the histogram once per step with the number of such requests as weight, and the longest gap of
a streak is a range maximum over the steps, found by bisection in a stack of the steps not yet outdone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf, nan
from typing import Any, Final

import numpy as np

from simsched.errors import RunError
from simsched.histogram import WeightedHistogram
from simsched.record import RunRecord
from simsched.workload.trace import FloatArray, IntArray, Trace

BUFFER: Final = 1 << 17  # numbers, four a ramp
PATIENCE: Final = 500  # preemptions for each request, without a token for any

_TIMES = ("first_scheduled_time", "first_token_time", "finish_time", "max_itl")


class Recorder:
    """Times in seconds on the run's clock; requests by their number at the replica, as they come.

    For each step an engine calls, in this order: `pause` for each request that got a token in the step before
    and gets none in this one; `steps`; `token` for each irregular token (the first one, or the first after a
    pause); `finish`.
    """

    def __init__(self, capacity: int = 0) -> None:
        """`capacity`: how many requests there is room for; see `make_room`."""
        n = self.capacity = capacity
        self.first_scheduled_time = [nan] * n
        self.first_token_time = [nan] * n
        self.finish_time = [nan] * n
        self.num_preemptions = [0] * n
        self.num_cached_tokens = [0] * n
        self.max_itl = [nan] * n
        self.itl = WeightedHistogram()
        self._ramps = array("d")
        self._decode_steps: IntArray = np.zeros(0, dtype=np.int64)
        self.num_steps = 0
        self.first_tokens: list[int] | None = None
        """If not None: who has got a first token; whoever looks empties it."""
        self._token_step = 0  # number of the last step that gave anyone a token
        self._futile_since = 0  # that number
        self._num_futile = 0  # preemptions since
        self._last_token = [nan] * n  # of a paused streak
        self._streak = [0] * n  # number of steps done when its streak began, or ended
        # steps whose duration no later step has reached, oldest and longest first
        self._peak_step: list[int] = [-1]
        self._peak_time: list[float] = [inf]  # a sentinel, before the first step

    def steps(self, first: float, last: float, steps: int, weight: int) -> None:
        """`steps` steps are done, with durations on a ramp from `first` to `last` (not shorter); `weight`
        requests got a token in each of them and in the step before."""
        done = self.num_steps = self.num_steps + steps
        if weight:
            self._token_step = done
            ramps = self._ramps
            slope = (last - first) / (steps - 1) if steps > 1 else 0.0
            ramps.fromlist([first, slope, float(steps), float(weight)])  # floats: whole numbers take longer
            if len(ramps) >= BUFFER:
                self._flush()
        peaks, durations = self._peak_step, self._peak_time
        while durations[-1] <= last:
            durations.pop()
            peaks.pop()
        durations.append(last)
        peaks.append(done)

    def step(self, duration: float, weight: int) -> None:
        """`steps` of one step."""
        done = self.num_steps = self.num_steps + 1
        if weight:
            self._token_step = done
            ramps = self._ramps
            ramps.fromlist([duration, 0.0, 1.0, float(weight)])
            if len(ramps) >= BUFFER:
                self._flush()
        peaks, durations = self._peak_step, self._peak_time
        while durations[-1] <= duration:
            durations.pop()
            peaks.pop()
        durations.append(duration)
        peaks.append(done)

    def _flush(self) -> None:
        self.itl.add_ramps(self._ramps)
        steps, weight = np.frombuffer(self._ramps).reshape(-1, 4).T[2:]
        so_far = self._decode_steps
        found = np.bincount(weight.astype(np.int64), steps, minlength=len(so_far)).astype(np.int64)
        found[: len(so_far)] += so_far
        self._decode_steps = found
        self._ramps = array("d")

    def scheduled(self, index: int, now: float, num_cached_tokens: int = 0) -> None:
        """It has its place in the batch of the step that starts now, and so many tokens of it were found in
        the prefix cache (the first such call counts)."""
        if self.first_scheduled_time[index] != self.first_scheduled_time[index]:
            self.first_scheduled_time[index] = now
            if num_cached_tokens:
                self.num_cached_tokens[index] = num_cached_tokens

    def begin(self, index: int, start: float, now: float) -> None:
        """It got its first token at `now`, in the step that began at `start`; that was its first one, unless
        it has been `scheduled` before."""
        if self.first_scheduled_time[index] != self.first_scheduled_time[index]:
            self.first_scheduled_time[index] = start
        self.first_token_time[index] = now
        if self.first_tokens is not None:
            self.first_tokens.append(index)
        self._streak[index] = self.num_steps

    def token(self, index: int, now: float) -> None:
        """It got a token in the step that ends now, and had none in the step before."""
        last = self._last_token[index]
        if last == last:
            # out and back before anything ran, it has missed no step, and its gap is this one's duration
            gap = self._peak_time[-1] if self._streak[index] == self.num_steps - 1 else now - last
            self._ramps.fromlist([gap, 0.0, 1.0, 1.0])
            if not self.max_itl[index] >= gap:
                self.max_itl[index] = gap
        else:
            self.first_token_time[index] = now
            if self.first_tokens is not None:
                self.first_tokens.append(index)
        self._streak[index] = self._token_step = self.num_steps

    def pause(self, index: int, now: float) -> None:
        """Its latest token came at `now`, the end of the step done last; it gets none in the next."""
        self._last_token[index] = now
        done, first = self.num_steps, self._streak[index]
        if first < done:
            self._streak[index] = done
            longest = self._peak_time[bisect_right(self._peak_step, first)]
            if not self.max_itl[index] >= longest:
                self.max_itl[index] = longest

    def pause_all(self, indices: Sequence[int], now: float) -> None:
        """`pause` for each of these."""
        done, steps, times = self.num_steps, self._peak_step, self._peak_time
        for index in indices:
            self._last_token[index] = now
            first = self._streak[index]
            if first < done:
                longest = times[bisect_right(steps, first)]
                if not self.max_itl[index] >= longest:
                    self.max_itl[index] = longest

    def preempted(self, index: int) -> None:
        """It lost its KV blocks, or they were swapped out.

        Raises:
            RunError: requests have long displaced each other without a token for any: so they go on.
        """
        self.num_preemptions[index] += 1
        if self._futile_since != self._token_step:
            self._futile_since = self._token_step
            self._num_futile = 0
        self._num_futile += 1
        if self._num_futile % PATIENCE == 0:
            self._refuse_futility()

    def _refuse_futility(self) -> None:
        count = self._num_futile
        left = int((np.isnan(self.finish_time) & ~np.isnan(self.first_scheduled_time)).sum())
        if count > PATIENCE * left:
            raise RunError(
                f"{left} requests displace each other before any gets a token ({count} preemptions "
                "since the last one); expected turns that outlast a prompt (starvation_period, "
                "base_quantum), a larger --max-num-batched-tokens, or a policy that does not preempt"
            )

    def finish(self, index: int, now: float) -> None:
        """It got its last token in the step that ends now."""
        self.finish_time[index] = now
        first = self._streak[index]
        if first < self.num_steps:  # as in `pause`; both are called very often
            longest = self._peak_time[bisect_right(self._peak_step, first)]
            if not self.max_itl[index] >= longest:
                self.max_itl[index] = longest

    def make_room(self, count: int) -> None:
        """Have room for so many requests."""
        if count > self.capacity:
            more = max(2 * count, 64) - self.capacity
            self.capacity += more
            for times in (self.first_scheduled_time, self.first_token_time, self.finish_time, self.max_itl):
                times += [nan] * more
            self._last_token += [nan] * more
            self.num_preemptions += [0] * more
            self.num_cached_tokens += [0] * more
            self._streak += [0] * more

    def decode_steps(self) -> IntArray:
        """As in `RunRecord`."""
        self._flush()
        return self._decode_steps


def run_record(
    trace: Trace,
    arrival_time: FloatArray,
    recorded: Iterable[tuple[Sequence[int], Recorder]],
    end_time: float,
    counters: Mapping[str, int],
    refused: Mapping[int, str],
) -> RunRecord:
    """What all replicas have recorded, as columns in the order of the trace.

    Args:
        recorded: of each replica, by number, the row of each of its requests; and its recorder.
        refused: by row, the option for which a request was refused, or `admit` (by the policy).
    """
    n, num_steps = len(trace), 0
    times = {name: np.full(n, nan) for name in _TIMES}
    num_preemptions = np.zeros(n, dtype=np.int64)
    num_cached_tokens = np.zeros(n, dtype=np.int64)
    itl = WeightedHistogram()
    decode_steps = np.zeros(0, dtype=np.int64)
    rejected = np.zeros(n, dtype=np.bool_)
    rejected[list(refused)] = True
    for numbered, recorder in recorded:
        count = len(numbered)
        rows: Any = slice(count) if numbered == range(n) else np.array(numbered, dtype=np.int64)
        for name, column in times.items():
            column[rows] = getattr(recorder, name)[:count]
        num_preemptions[rows] = recorder.num_preemptions[:count]
        num_cached_tokens[rows] = recorder.num_cached_tokens[:count]
        found = recorder.decode_steps()
        itl.merge(recorder.itl)
        num_steps += recorder.num_steps
        longer, shorter = sorted((found, decode_steps), key=len, reverse=True)
        decode_steps = longer.copy()
        decode_steps[: len(shorter)] += shorter
    return RunRecord(
        trace=trace,
        arrival_time=arrival_time,
        first_scheduled_time=times["first_scheduled_time"],
        first_token_time=times["first_token_time"],
        finish_time=times["finish_time"],
        max_itl=times["max_itl"],
        num_preemptions=num_preemptions,
        num_cached_tokens=num_cached_tokens,
        itl=itl,
        end_time=end_time,
        num_steps=num_steps,
        decode_steps=decode_steps,
        rejected=rejected,
        counters={**counters, **Counter(f"rejected by {option}" for option in refused.values())},
    )
