"""The fit finds coefficients that it should find, and says which it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simsched.cost_model.fit import Steps, fit_error, fit_linear, fit_table, level, split
from simsched.cost_model.identify import unidentified
from simsched.cost_model.models import LinearCost, TableCost
from simsched.errors import InputError

LINEAR = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8e-8, d=3.7e-9)
TABLE = TableCost(
    knots=(1, 64, 65, 128, 129, 256, 257, 2048),
    g=(0.011, 0.0125, 0.0138, 0.015, 0.0188, 0.0215, 0.028, 0.125),
    h=2e-5,
    c=8e-8,
    d=3e-9,
)


def random_steps(cost: LinearCost | TableCost, noise: float = 0.0, count: int = 3000, seed: int = 0) -> Steps:
    rng = np.random.default_rng(seed)
    N = np.round(256 ** rng.random(count)) * (rng.random(count) < 0.7)
    P = np.round(2048 ** rng.random(count)) * ((rng.random(count) < 0.5) | (N == 0))
    S = np.minimum(P, rng.integers(1, 5, count))
    K = np.round(N * 4000 ** rng.random(count)) + N
    Q = P * (P / 2 + 4000 * rng.random(count))
    steps = Steps(P, N, S, K, Q, np.ones(count))
    time = steps.predict(cost) * rng.lognormal(0, noise, count) if noise else steps.predict(cost)
    return replace(steps, time=time)


def test_linear_coefficients_come_back() -> None:
    cost = fit_linear(random_steps(LINEAR))
    for name in ("t0", "a", "b", "c", "d"):
        assert getattr(cost, name) == pytest.approx(getattr(LINEAR, name), rel=1e-5)


def test_table_coefficients_come_back() -> None:
    cost = fit_table(random_steps(TABLE, count=6000), TABLE.knots)
    assert cost.knots[:-1] == TABLE.knots[:-1]  # the last one is the largest step of the data
    assert cost.g[:-1] == pytest.approx(TABLE.g[:-1], rel=1e-3)
    for name in ("h", "c", "d"):
        assert getattr(cost, name) == pytest.approx(getattr(TABLE, name), rel=1e-3)


@pytest.mark.parametrize("form", [fit_linear, fit_table])
def test_outliers_do_not_move_a_robust_fit(form: object) -> None:
    clean = random_steps(LINEAR, noise=0.02)
    rng = np.random.default_rng(1)
    late = rng.random(len(clean)) < 0.2  # the machine was busy: one step in five takes three times as long
    dirty = replace(clean, time=np.where(late, 3 * clean.time, clean.time))
    robust, plain = form(dirty, robust=True), form(dirty, robust=False)  # type: ignore[operator]
    assert fit_error(robust, clean, 0).mean < 0.02
    assert fit_error(plain, clean, 0).mean > 0.05


def test_a_measured_fit_finds_the_cost_of_a_chunk() -> None:
    truth = replace(LINEAR, per_chunk=7e-4)
    cost = fit_linear(random_steps(truth, noise=0.02), robust=True)
    assert cost.per_chunk == pytest.approx(7e-4, rel=0.1)
    assert cost.t0 == pytest.approx(LINEAR.t0, rel=0.02)
    assert fit_linear(random_steps(truth)).per_chunk == 0  # composed steps have no such term


def test_a_level_makes_the_times_add_up() -> None:
    """Late steps are many and early ones few: the middle of the steps is not their mean."""
    steps = random_steps(LINEAR)
    late = np.random.default_rng(0).exponential(0.2, len(steps))
    late[0] = 50.0  # a stall, which is nobody's step time
    steps = replace(steps, time=steps.time * (1 + late))
    cost = level(LINEAR, steps)
    usual = steps.select(np.arange(len(steps)) > 0)
    assert usual.predict(cost).sum() == pytest.approx(usual.time.sum(), rel=0.02)
    assert cost.t0 / LINEAR.t0 == pytest.approx(1.2, rel=0.03)


def test_steady_decodes_do_not_make_outliers_of_prefills() -> None:
    """Simulated decodes are exact; a few prefills that the form misses by 10 % must still count."""
    steps = random_steps(LINEAR)
    steps = steps.select((steps.P == 0) | (np.arange(len(steps)) % 10 == 0))
    slower = np.random.default_rng(0).uniform(1.0, 1.1, len(steps))
    steps = replace(steps, time=np.where(steps.P > 0, steps.time * slower, steps.time))
    prefills = steps.select(steps.P > 0)
    assert fit_error(fit_table(steps, robust=True), prefills, 0).p95 < 0.1


def test_relative_error_keeps_small_steps_right() -> None:
    """A linear form cannot follow tiles; what it gets wrong must not be the small steps."""
    steps = random_steps(TABLE)
    cost = fit_linear(steps)
    small = steps.select(steps.P + steps.N <= 8)
    assert fit_error(cost, small, 0).mean < 0.05


def test_knots_without_data_are_left_out() -> None:
    steps = random_steps(TABLE)
    few = steps.select((steps.P + steps.N <= 20) | (steps.P + steps.N >= 300))
    cost = fit_table(few)
    assert not set(cost.knots) & {64, 65, 128, 129}
    assert fit_error(cost, few, 0).mean < 0.01
    with pytest.raises(InputError, match="every step has 7 tokens"):
        fit_table(_same_tokens(7))


def _same_tokens(tokens: int) -> Steps:
    count = 60
    zero = np.zeros(count)
    return Steps(zero, zero + tokens, zero, np.arange(count) + 100.0, zero, zero + 0.01)


def test_split_keeps_every_step_once() -> None:
    steps = random_steps(LINEAR, count=100)
    train, test = split(steps, 0.25, seed=3)
    assert (len(train), len(test)) == (75, 25)
    assert sorted([*train.Q, *test.Q]) == sorted(steps.Q)


def names(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines}


def test_varied_steps_identify_every_term() -> None:
    for cost in (LINEAR, TABLE):
        steps = random_steps(cost, noise=0.03)
        fitted = fit_linear(steps, robust=True) if cost is LINEAR else fit_table(steps, robust=True)
        assert unidentified(steps, fitted) == []


def test_without_prefills_their_terms_are_unknown() -> None:
    steps = random_steps(LINEAR, noise=0.02)
    decodes = steps.select(steps.P == 0)
    assert names(unidentified(decodes, fit_linear(decodes, robust=True))) == {"a", "d"}


def test_constant_context_hides_b_behind_c() -> None:
    steps = random_steps(LINEAR)
    decodes = steps.select(steps.P == 0)
    constant = replace(decodes, K=500 * decodes.N)
    constant = replace(constant, time=constant.predict(LINEAR))
    assert {"b", "c"} <= names(unidentified(constant, fit_linear(constant)))


def test_noise_hides_a_small_term() -> None:
    tiny = LinearCost(t0=0.05, a=5e-5, b=6e-5, c=1e-12, d=3.7e-9)
    steps = random_steps(tiny, noise=0.05)
    assert names(unidentified(steps, fit_linear(steps, robust=True))) == {"c"}
