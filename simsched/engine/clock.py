"""How long steps take where each is formed while the one before it is under way (asynchronous scheduling).

`Clock` is what the engine's loop and its uncontended run ask. `DeviceClock` answers where the cost says
nothing of the host; `host_clock.py` where it does.
"""

from __future__ import annotations

from typing import Protocol

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.recorder import Recorder
from simsched.engine.repeat import repeat_on_line


class Clock(Protocol):
    """Durations of steps, one after the other."""

    @property
    def host_seconds(self) -> tuple[float, float]:
        """Seconds of steps whose end the host decided, and of all; 0 and 0 where it is not told apart."""

    @property
    def counts_waiting(self) -> bool:
        """Is a step with another number of waiting requests not like those that follow?"""

    def save(self) -> tuple[float, ...]:
        """Where it stands between two steps, for `restore`."""

    def restore(self, saved: tuple[float, ...]) -> None:
        """Stand where it stood; chance goes on."""

    def begin(self, features: StepFeatures) -> float:
        """Nothing is under way, and a step with these features is formed: seconds until it is launched."""

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        """Seconds that the step under way takes, with the next one (if any) launched behind it."""

    def draws(self, N: int) -> bool:
        """Is there chance in a step of so many decodes?"""

    def prefill(
        self,
        tokens: int,
        N: int,
        K: int,
        pairs: float,
        waiting: int,
        chunks: int,
        new: int,
        P: int,
        next_N: int,
        S: int,
    ) -> float:
        """`step` of N decodes over K tokens of context and so many chunks of prompts.

        Args:
            tokens: of the chunks; pairs: half the sum of n (2 C + n), of n tokens after C each.
            new: requests first seen in it.
            P, next_N, S: features of the next step (all 0: there is none).
        """

    def decode(self, N: int, K: int, waiting: int, following: int) -> float:
        """`step` of N decodes over K tokens of context, with so many decodes (0: no step) behind it."""

    def stretch(
        self,
        now: float,
        N: int,
        K: int,
        waiting: int,
        most: int,
        until: float,
        step_ends: list[float] | None,
        recorder: Recorder,
    ) -> tuple[float, int]:
        """Steps of N decodes that follow each other, the first over K tokens of context, from `now` on.

        Args:
            most: how many at most; another one like them follows.
            until: seconds on the clock; the last step starts before it, unless it is the first.
            recorder: is told of them.

        Returns:
            The end of the last step, and the number of steps.
        """


class DeviceClock:
    """Steps take the device's time alone, and are launched in none."""

    host_seconds = 0.0, 0.0
    counts_waiting = True

    def __init__(self, cost: CostModel, predictor_time: float = 0.0) -> None:
        self._cost = cost
        self._predictor_time = predictor_time

    def save(self) -> tuple[float, ...]:
        return ()

    def restore(self, saved: tuple[float, ...]) -> None:
        pass

    def begin(self, features: StepFeatures) -> float:
        return 0.0

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        return device_time(self._cost, features, self._predictor_time)

    def draws(self, N: int) -> bool:
        return False

    def prefill(
        self,
        tokens: int,
        N: int,
        K: int,
        pairs: float,
        waiting: int,
        chunks: int,
        new: int,
        P: int,
        next_N: int,
        S: int,
    ) -> float:
        return self.step(StepFeatures(tokens, N, chunks, K, pairs, waiting, 0, new), None)

    def decode(self, N: int, K: int, waiting: int, following: int) -> float:
        base, slope = self._cost.decode_line(N, waiting)
        return base + slope * K

    def stretch(
        self,
        now: float,
        N: int,
        K: int,
        waiting: int,
        most: int,
        until: float,
        step_ends: list[float] | None,
        recorder: Recorder,
    ) -> tuple[float, int]:
        base, slope = self._cost.decode_line(N, waiting)
        first = base + slope * K
        end = now + first
        if step_ends is not None:
            step_ends.append(end)
        end, steps, last = repeat_on_line(end, base, slope, K, N, first, most, until, step_ends)
        recorder.steps(first, last, steps, N)
        return end, steps


def device_time(cost: CostModel, features: StepFeatures, predictor_time: float) -> float:
    """Seconds for a step by itself; a step of decodes is priced in one way, whether leapt over or not."""
    if features.S or features.swapped_tokens or features.num_predicted:
        return cost.step_time(features) + predictor_time * features.num_predicted
    base, slope = cost.decode_line(features.N, features.num_waiting)
    return base + slope * features.K
