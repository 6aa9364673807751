"""The histogram against numpy on the same samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simsched.histogram import WeightedHistogram


@pytest.mark.parametrize(
    "samples", [[0.02], [0.01, 0.5], [0.01, 0.02, 0.02, 3.0], [0.5, 0.01, 0.07, 0.07, 9.0]]
)
@pytest.mark.parametrize("q", [0, 10, 25, 50, 75, 90, 99, 100])
def test_few_samples_are_interpolated_as_numpy_does(samples: list[float], q: float) -> None:
    histogram = WeightedHistogram()
    for sample in samples:
        histogram.add(sample)
    assert histogram.percentile(q) == pytest.approx(np.percentile(samples, q), rel=5.1e-4)


def test_ramps_equal_their_samples() -> None:
    generator = np.random.default_rng(1)
    histogram, samples = WeightedHistogram(), []
    for _ in range(300):
        start, slope = float(generator.uniform(0.005, 0.1)), float(generator.uniform(0, 1e-3))
        steps, weight = int(generator.integers(1, 40)), int(generator.integers(1, 9))
        histogram.add_ramp(start, slope, steps, weight)
        samples += [start + slope * step for step in range(steps) for _ in range(weight)]
    assert histogram.count == len(samples)
    assert histogram.mean == pytest.approx(np.mean(samples), rel=1e-12)
    assert histogram.std == pytest.approx(np.std(samples), rel=1e-9)
    for q in (1, 50, 90, 99, 99.9):
        assert histogram.percentile(q) == pytest.approx(np.percentile(samples, q), rel=1e-3)


def test_empty() -> None:
    empty = WeightedHistogram()
    assert empty.count == 0
    assert all(math.isnan(value) for value in (empty.mean, empty.std, empty.percentile(50)))
