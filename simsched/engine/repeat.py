"""A step of decodes repeated: nothing changes but the context, which grows by a token a sequence and step."""

from __future__ import annotations

from typing import Final

import numpy as np

LONG: Final = 64  # steps, beyond which NumPy takes over


def repeat_decodes(
    end: float,
    base: float,
    slope: float,
    K: int,
    N: int,
    most: int,
    until: float,
    step_ends: list[float] | None,
) -> tuple[float, int, float]:
    """Repeat a step of N decodes over K tokens of context, which ends at `end` seconds, before `until`.

    The clock is summed step by step (an addition each, no more), so that a run that leaps and one that steps
    agree to the last bit.

    Args:
        base, slope: of the cost, `base + slope * K` seconds.
        most: steps in all, the first one included.
        until: seconds; the last step starts before it.
        step_ends: the ends of the further steps are appended to it.

    Returns:
        The end of the last step in seconds, the number of steps, the duration of the last one.
    """
    last, before = 0.0, K
    contexts = range(before + N, before + N * (most if most < LONG else LONG), N)
    if step_ends is None:
        for K in contexts:
            last = base + slope * K
            end += last
            if end >= until:
                break
    else:
        for K in contexts:
            last = base + slope * K
            end += last
            step_ends.append(end)
            if end >= until:
                break
    steps = (K - before) // N + 1
    while steps >= LONG and steps < most and end < until:
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


def repeat_on_line(
    end: float,
    base: float,
    slope: float,
    K: int,
    N: int,
    duration: float,
    most: int,
    until: float,
    step_ends: list[float] | None,
) -> tuple[float, int, float]:
    """`repeat_decodes` where the first step, of this duration, may be the only one."""
    if most > 1 and end < until:
        return repeat_decodes(end, base, slope, K, N, most, until, step_ends)
    return end, 1, duration
