"""The cost models keep their formulas, and their closed form for decodes."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost, TableCost

LINEAR = LinearCost(
    t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9, h=1e-5, floor=0.012, per_waiting=6e-6, per_swapped_token=3e-8
)
TABLE = TableCost(
    knots=(1, 64, 65, 256), g=(0.010, 0.011, 0.014, 0.020), c=8e-8, d=3e-9, h=2e-5, per_waiting=6e-6
)


def test_the_linear_formula() -> None:
    cost = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)
    features = StepFeatures(P=500, N=20, S=2, K=9000, Q=130_000.0)
    expected = 0.01 + 5e-5 * 500 + 6e-5 * 20 + 8e-8 * 9000 + 4e-9 * 130_000
    assert cost.step_time(features) == pytest.approx(expected, rel=1e-12)


def test_optional_terms() -> None:
    # 20 decodes are under the floor of 12 ms; host and attention come on top of it
    features = StepFeatures(N=20, K=9000, num_waiting=100, swapped_tokens=1600)
    expected = 0.012 + 1e-5 * 20 + 8e-8 * 9000 + 6e-6 * 100 + 3e-8 * 1600
    assert LINEAR.step_time(features) == pytest.approx(expected, rel=1e-12)
    chunked = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9, per_chunk=3e-4)
    assert chunked.step_time(StepFeatures(P=10, S=2)) == pytest.approx(0.01 + 5e-4 + 6e-4, rel=1e-12)
    assert LINEAR.step_time(StepFeatures(P=1000, S=1)) == pytest.approx(0.06 + 1e-5, rel=1e-12)
    mixed = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9, per_mixed_decode=1e-5)
    beside, alone = StepFeatures(P=10, N=20, S=1), StepFeatures(N=20)
    assert mixed.step_time(beside) == pytest.approx(0.01 + 5e-4 + 20 * (6e-5 + 1e-5), rel=1e-12)
    assert mixed.step_time(alone) == pytest.approx(0.01 + 20 * 6e-5, rel=1e-12)


def test_the_table_interpolates_and_goes_on_beyond_its_last_knot() -> None:
    def tokens_alone(P: int) -> float:
        return TABLE.step_time(StepFeatures(P=P))

    assert tokens_alone(64) == pytest.approx(0.011)
    assert tokens_alone(65) == pytest.approx(0.014)
    assert tokens_alone(256) == pytest.approx(0.020)
    slope = (0.020 - 0.014) / (256 - 65)
    assert tokens_alone(1000) == pytest.approx(0.020 + slope * (1000 - 256), rel=1e-12)


@pytest.mark.parametrize("cost", [LINEAR, TABLE])
@given(N=st.integers(1, 2000), K=st.integers(1, 10**7), waiting=st.integers(0, 5000))
def test_a_decode_step_equals_its_line_to_the_last_bit(
    cost: LinearCost | TableCost, N: int, K: int, waiting: int
) -> None:
    base, slope = cost.decode_line(N, waiting)
    assert cost.step_time(StepFeatures(N=N, K=K, num_waiting=waiting)) == base + slope * K


@pytest.mark.parametrize("cost", [LINEAR, TABLE])
def test_pickles(cost: LinearCost | TableCost) -> None:
    cost.decode_line(7, 0)
    copy = pickle.loads(pickle.dumps(cost))
    features = StepFeatures(P=100, N=30, S=1, K=4000, Q=5000.0)
    assert copy == cost
    assert copy.step_time(features) == cost.step_time(features)


@pytest.mark.parametrize("cost", [LINEAR, TABLE])
def test_scaled_multiplies_every_time(cost: LinearCost | TableCost) -> None:
    features = StepFeatures(P=100, N=30, S=1, K=4000, Q=5000.0, num_waiting=9, swapped_tokens=64)
    assert cost.scaled(2.0).step_time(features) == pytest.approx(2 * cost.step_time(features), rel=1e-12)


def test_padding_to_graphs_touches_the_tokens_alone() -> None:
    padded = [0, 1, 2, 4, 4, 256, 300]
    table, linear = TABLE.on_graphs(padded), LINEAR.on_graphs(padded)
    for features, tokens in ((StepFeatures(N=3, K=90), 4), (StepFeatures(P=4, N=1, S=1, K=30, Q=8.0), 256)):
        P = tokens - features.N if features.P else 0
        # as many decodes more, without their share of the host term
        expected = TABLE.step_time(features._replace(P=P, N=tokens - P))
        expected -= TABLE.h * (tokens - P - features.N)
        assert table.step_time(features) == pytest.approx(expected, rel=1e-12)
        rows = {"P": P} if P else {"N": tokens}
        expected = LINEAR.step_time(features._replace(**rows)) - LINEAR.h * (
            rows.get("N", features.N) - features.N
        )
        assert linear.step_time(features) == pytest.approx(expected, rel=1e-12)
    # beyond the table's last knot, and beyond the list
    assert table.step_time(StepFeatures(P=6, S=1)) == TABLE.step_time(StepFeatures(P=300, S=1))
    assert table.step_time(StepFeatures(P=7, S=1)) == TABLE.step_time(StepFeatures(P=7, S=1))
    assert table.decode_line(3, 0)[0] == pytest.approx(TABLE.decode_line(4, 0)[0] - TABLE.h, rel=1e-12)
    assert pickle.loads(pickle.dumps(table)).step_time(StepFeatures(N=3, K=9)) == table.step_time(
        StepFeatures(N=3, K=9)
    )
