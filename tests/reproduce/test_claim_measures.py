"""What claims measure beside the metrics of runs: the service of tenants, and limits of classes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.reproduce.claims.measures import measured, on_time, service_gap, vtc_bound
from simsched.reproduce.claims.traces import TRACES
from simsched.request_table import request_table
from tests.engine.scenarios import Linear, trace


def table(**columns: list[object]) -> pl.DataFrame:
    """Four requests of 10 tokens in and 3 out, two a tenant; those of `b` wait for 10 s."""
    made: dict[str, list[object]] = {
        "tenant": ["a", "a", "b", "b"],
        "arrival_time": [0.0, 0.0, 0.0, 0.0],
        "first_scheduled_time": [0.0, 8.0, 10.0, 10.0],
        "first_token_time": [1.0, 9.0, 11.0, 11.0],
        "finish_time": [3.0, 11.0, 13.0, 13.0],
        "num_prompt_tokens": [10, 10, 10, 10],
        "num_output_tokens": [3, 3, 3, 3],
    }
    return pl.DataFrame(made | columns)


def test_the_gap_is_what_one_gets_while_both_wait() -> None:
    """From 0 to 8 s something of both waits: `a` gets 2 * 3 for its answer, and 10 for a prompt at 8 s; the
    prompt at 0 s came as the interval began."""
    assert service_gap(table()) == pytest.approx(16.0)
    assert service_gap(table(), weights=(1.0, 0.0)) == pytest.approx(10.0)
    # nothing of `a` waits after 0 s, so there is nothing to compare
    assert service_gap(table(first_scheduled_time=[0.0, 0.0, 10.0, 10.0])) == 0.0


def test_a_fair_order_has_a_small_gap() -> None:
    """Two tenants at once, in turns against one after the other: within the bound that is proved."""
    work = trace(60, 0.0, 3, longest=200).with_columns(tenant=["a"] * 30 + ["b"] * 30)
    config = engine_config(max_num_seqs=2, num_gpu_blocks=100, max_model_len=400)
    gaps = {
        policy: service_gap(request_table(simulate(work, make_policy(policy), Linear(), config)))
        for policy in ("fcfs", "vtc")
    }
    assert gaps["vtc"] < gaps["fcfs"] / 4
    assert gaps["vtc"] <= vtc_bound(table(num_prompt_tokens=[100] * 4), 99 * 16)


def test_the_bound_by_hand() -> None:
    """The longest prompt weighs 1 a token, what the cache holds 2."""
    assert vtc_bound(table(num_prompt_tokens=[10, 500, 20, 30]), 100) == 2 * 500
    assert vtc_bound(table(), 100) == 2 * 200


def test_the_share_that_is_on_time() -> None:
    """15 s for `chat`, 120 s for `batch`; what never ends is late."""
    requests = pl.DataFrame(
        {
            "class": ["chat", "chat", "batch", "batch"],
            "arrival_time": [0.0, 5.0, 0.0, 0.0],
            "finish_time": [15.0, 21.0, 119.0, None],
        }
    )
    assert on_time(requests) == measured("on_time", requests) == 0.5


@pytest.mark.parametrize("name", TRACES)
def test_workloads_are_the_same_each_time(name: str) -> None:
    one, other = TRACES[name](), TRACES[name]()
    assert len(one) == len(other) >= 800
    assert np.array_equal(one.num_prompt_tokens, other.num_prompt_tokens)
    assert np.array_equal(one.num_output_tokens, other.num_output_tokens)
    assert one.tenant == other.tenant
    assert one.parent == other.parent
