"""How long steps take where each is formed and launched while the one before it is under way.

That is asynchronous scheduling: host and device overlap as far as they can. For step k let launched(k) be
when the host has launched all of it, F(k) when the device is done with it, e(k) its end, when the host has
its tokens and updates its state, and o(k) the output handling after that:

    launched(k+1) = e(k-1) + max(H(k+1), o(k-1))        after idle: launched(k) + H(k+1)
    F(k)          = max(F(k-1), e(k-2) + h0(k)) + G(k)  and not before launched(k) + r, unless one CUDA graph
    e(k)          = max(F(k) + w, launched(k+1))

with H, h0 and o of `HostCost` (`launch`, `before`, `output`), r and w its `tail` and `copy`, and G the device
time on padded tokens. The engine forms step k + 2, and users have the tokens of step k, at e(k) + o(k). The
time between the ends of two steps belongs to no single batch: a long launch shows in the step before it.

All state is kept relative to the latest end, so that like steps take like times, to the last bit. While the
same requests decode on, H is constant and G grows with the context: each step takes H as long as the device
is done in time, and from some step on G, for good. `repeat` sums such a stretch as stepping does.
"""

from __future__ import annotations

from math import exp, inf, nan
from typing import Final, NamedTuple, Protocol

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import Capture, HostCost, HostedCost, LaunchMode
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.config import ResolvedConfig

LONG: Final = 64
"""Steps beyond which NumPy takes over."""
LAG: Final = 0.35
"""Correlation of one launch's jitter with the next one's."""


class Launch(NamedTuple):
    """The host's times for a batch, in seconds."""

    launch: float
    before: float
    output: float
    is_graph: bool


class Clock(Protocol):
    """Durations of steps, one after the other."""

    @property
    def host_bound_share(self) -> float:
        """Of the time of all steps, those whose end the host decided; NaN where it is not told apart."""

    def begin(self, features: StepFeatures) -> float:
        """Nothing is under way, and a step with these features is formed: seconds until it is launched."""

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        """Seconds that the step under way takes, with the next one (if any) launched behind it."""

    def repeat(
        self,
        end: float,
        features: StepFeatures,
        duration: float,
        most: int,
        until: float,
        step_ends: list[float] | None,
    ) -> tuple[float, int, float]:
        """Repeat the decodes that `step` was asked for last, and that others like them follow.

        Args:
            end: when that step ends.
            features: its features.
            duration: what `step` returned.
            most: steps in all, that one included.
            until: seconds on the clock; the last step starts before it.
            step_ends: gets the ends of the further steps, if it is a list.

        Returns:
            The end of the last step, the number of steps (that one included), and the last one's duration.
            The durations lie on a line; where they would not, there are fewer steps than might be.
        """


class DeviceClock:
    """Steps take the device's time alone, and are launched in none."""

    host_bound_share = nan

    def __init__(self, cost: CostModel, predictor_time: float = 0.0) -> None:
        self._cost = cost
        self._predictor_time = predictor_time

    def begin(self, features: StepFeatures) -> float:
        return 0.0

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        return device_time(self._cost, features, self._predictor_time)

    def repeat(
        self,
        end: float,
        features: StepFeatures,
        duration: float,
        most: int,
        until: float,
        step_ends: list[float] | None,
    ) -> tuple[float, int, float]:
        base, slope = self._cost.decode_line(features.N, features.num_waiting)
        return _ramp(end, base, slope, features, duration, most, until, step_ends)


def _ramp(
    end: float,
    base: float,
    slope: float,
    features: StepFeatures,
    last: float,
    most: int,
    until: float,
    step_ends: list[float] | None,
) -> tuple[float, int, float]:
    """`Clock.repeat` where each step takes `base + slope * K`."""
    K, N, steps = features.K, features.N, 1
    while steps < most and steps < LONG and end < until:
        K += N
        last = base + slope * K
        end += last
        steps += 1
        if step_ends is not None:
            step_ends.append(end)
    while LONG <= steps < most and end < until:
        count = min(most - steps, 4096)
        durations = base + slope * (K + N * np.arange(1, count + 1, dtype=np.int64))
        # NumPy accumulates in the same order, to the same bits
        ends = np.add.accumulate(np.concatenate(([end], durations)))[1:]
        count = min(count, int(np.searchsorted(ends, until)) + 1)
        end, last = float(ends[count - 1]), float(durations[count - 1])
        if step_ends is not None:
            step_ends.extend(ends[:count].tolist())
        K += N * count
        steps += count
    return end, steps, last


def device_time(cost: CostModel, features: StepFeatures, predictor_time: float) -> float:
    """Seconds for a step by itself; a step of decodes is priced in one way, whether leapt over or not."""
    if features.S or features.swapped_tokens or features.num_predicted:
        return cost.step_time(features) + predictor_time * features.num_predicted
    base, slope = cost.decode_line(features.N, features.num_waiting)
    return base + slope * features.K


class Jitter:
    """Factors for launches, log-normal around 1, each a little like the one before."""

    def __init__(self, sd: float, seed: int) -> None:
        self._sd = sd
        self._random = np.random.default_rng([seed, 0x686F7374])
        self._state = float(self._random.standard_normal())

    def factor(self) -> float:
        self._state = LAG * self._state + (1 - LAG**2) ** 0.5 * float(self._random.standard_normal())
        return exp(self._sd * self._state - self._sd**2 / 2)


class HostClock:
    """The recursion above."""

    def __init__(
        self,
        cost: LinearCost | TableCost,
        host: HostCost,
        capture: Capture,
        *,
        predictor_time: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`cost`: the device's."""
        self.host_bound = 0.0  # seconds of steps whose end the host decided
        self._busy = 0.0  # seconds of all steps
        self._cost = cost.on_graphs(capture.sizes_of)
        self._host = host
        self._capture = capture
        self._predictor_time = predictor_time
        self._jitter = Jitter(host.sd, seed) if host.sd else None
        self._decodes: dict[int, Launch] = {}  # by N
        # of the step under way, k, and the one before it, relative to e(k-1):
        self._ready = -inf  # F(k-1) + w, at most 0
        self._begin = 0.0  # when the device may begin with k, + w
        self._tail = -inf  # launched(k) + r + w, unless k is one graph
        self._output = 0.0  # o(k-1)
        self._launcher = 0.0  # when the host turns to the launch of k + 1

    @property
    def host_bound_share(self) -> float:
        return self.host_bound / self._busy if self._busy else nan

    def begin(self, features: StepFeatures) -> float:
        host, launch = self._host, self._launch(features)
        self._ready = -inf
        self._begin = launch.before + host.copy
        self._tail = -inf if launch.is_graph else launch.launch + host.tail + host.copy
        self._output = 0.0
        self._launcher = launch.launch
        return launch.launch

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        host, output = self._host, self._output
        begin, ready, tail = self._begin, self._ready, self._tail
        done = (begin if begin > ready else ready) + device_time(self._cost, features, self._predictor_time)
        if tail > done:
            done = tail
        least = self._launcher if self._launcher > output else output
        launch = None
        if ahead is not None:
            launch = self._launch(ahead)
            least = self._launcher + (launch.launch if launch.launch > output else output)
        end = done if done > least else least
        next_output = host.output(features)
        duration = end + (next_output - output)
        self._busy += duration
        if least > done:
            self.host_bound += duration
        self._ready = done - end
        if launch is not None:
            self._begin = self._launcher + launch.before + host.copy - end
            self._tail = -inf if launch.is_graph else least + host.tail + host.copy - end
        self._output = next_output
        self._launcher = 0.0
        return duration

    def repeat(
        self,
        end: float,
        features: StepFeatures,
        duration: float,
        most: int,
        until: float,
        step_ends: list[float] | None,
    ) -> tuple[float, int, float]:
        launch = self._launch(features)
        base, slope = self._cost.decode_line(features.N, features.num_waiting)
        least = launch.launch if launch.launch > launch.output else launch.output
        begin = launch.before + self._host.copy
        if self._tail > -inf or begin > least:
            return end, 1, duration
        if self._ready == 0.0 and duration == base + slope * features.K:
            # The device decides, and so it will: each step is longer than the one before.
            start = end
            end, steps, last = _ramp(end, base, slope, features, duration, most, until, step_ends)
            self._busy += end - start
            self._begin = begin - last
            return end, steps, last
        if duration != least:
            return end, 1, duration
        # The host decides, until the device has fallen back by what it was ahead.
        K, N, steps = features.K, features.N, 1
        ready, starts, bound = self._ready, self._begin, self.host_bound
        while steps < most and end < until:
            K += N
            done = (starts if starts > ready else ready) + (base + slope * K)
            if done >= least:
                break
            ready = done - least
            starts = begin - least
            end += least
            bound += least
            steps += 1
            if step_ends is not None:
                step_ends.append(end)
        self._busy += bound - self.host_bound
        self._ready, self._begin, self.host_bound = ready, starts, bound
        return end, steps, least

    def _launch(self, features: StepFeatures) -> Launch:
        decodes_only = not features.S
        if decodes_only:
            known = self._decodes.get(features.N)
            if known is not None:
                return known
        host = self._host
        mode = self._capture.mode(features)
        launch = host.launch(features, mode)
        before = host.before(features, mode)
        if self._jitter is not None and mode is not LaunchMode.FULL:
            launch *= self._jitter.factor()
            before = min(before, launch)
        made = Launch(launch, before, host.output(features), mode is LaunchMode.FULL)
        if decodes_only and (self._jitter is None or made.is_graph):
            self._decodes[features.N] = made
        return made


def make_clock(
    cost: CostModel | HostedCost, config: ResolvedConfig, predictor_time: float = 0.0, seed: int = 0
) -> Clock:
    """The clock of an engine with asynchronous scheduling; `seed`: of the host's jitter."""
    if not isinstance(cost, HostedCost):
        return DeviceClock(cost, predictor_time)
    capture = cost.graphs.capture(config.max_num_seqs, config.max_num_batched_tokens)
    return HostClock(cost.device, cost.host, capture, predictor_time=predictor_time, seed=seed)
