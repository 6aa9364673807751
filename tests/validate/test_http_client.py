"""Who sends what, and what a server's metrics say; no server needed."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.workload.trace import Trace
from validate.http_client import counts_in
from validate.http_engine import shares_of
from validate.small_sessions import SMALL

METRICS = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="model"} 3.0
vllm:num_requests_waiting{engine="0",model_name="model"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="model"} 0.25
"""


def test_counts_of_a_server() -> None:
    assert counts_in(METRICS) == {"running": 3, "waiting": 2, "kv_usage": 0.25}
    assert counts_in("") == {}


def test_clients_share_requests_and_keep_sessions_whole() -> None:
    plain = Trace(np.zeros(5), np.ones(5, dtype=int), np.ones(5, dtype=int))
    assert shares_of(plain, 2) == [(0, 2, 4), (1, 3)]
    assert shares_of(plain, 9) == [(0,), (1,), (2,), (3,), (4,)]
    turns = SMALL.generate(60, arrivals="sessions(2)", seed=1)
    parts = shares_of(turns, 3)
    assert sorted(row for part in parts for row in part) == list(range(60))
    assert turns.session_id is not None
    for session in set(turns.session_id):
        rows = {row for row, name in enumerate(turns.session_id) if name == session}
        assert sum(bool(rows & set(part)) for part in parts) == 1


@pytest.mark.parametrize("users", [1, 7])
def test_users_are_counted_in_one_process(users: int) -> None:
    turns = SMALL.generate(30, arrivals=f"users({users})", seed=1)
    assert shares_of(turns, 4) == [tuple(range(30))]
