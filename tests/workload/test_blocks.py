"""Block resampling: what stays inside a block, what is renamed, and that copies share nothing."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.workload.blocks import block_seconds, resample_blocks
from simsched.workload.content import shared_tokens
from simsched.workload.trace import Trace


def trace_of(n: int = 40, **columns: object) -> Trace:
    return Trace(np.arange(n, dtype=np.float64), np.full(n, 100), np.arange(1, n + 1), **columns)  # type: ignore[arg-type]


def test_blocks_are_kept_whole_and_the_load_stays() -> None:
    trace = trace_of()
    drawn = resample_blocks(trace, 10.0, seed=3)
    assert len(drawn) == 40
    assert drawn.arrival_time.tolist() == list(range(40))
    blocks = drawn.num_output_tokens.reshape(4, 10)
    assert (np.diff(blocks, axis=1) == 1).all()
    assert set(blocks[:, 0]) <= {1, 11, 21, 31}
    assert len(set(drawn.request_ids())) == 40


def test_the_same_seed_draws_the_same_and_others_differ() -> None:
    first, again, other = (resample_blocks(trace_of(), 2.0, seed) for seed in (1, 1, 2))
    assert first.num_output_tokens.tolist() == again.num_output_tokens.tolist()
    assert first.num_output_tokens.tolist() != other.num_output_tokens.tolist()


@pytest.mark.parametrize("named", ["hash_ids", "session_id", "parent"])
def test_copies_do_not_hit_each_other(named: str) -> None:
    n = 40
    columns: dict[str, object] = {
        "hash_ids": {"hash_ids": [(i // 10, 100 + i) for i in range(n)], "hash_block_size": 50},
        "session_id": {"session_id": [str(i // 10) for i in range(n)]},
        "parent": {"parent": [(str(i - 1),) if i % 10 else () for i in range(n)],
                   "history_length": np.array([50 if i % 10 else -1 for i in range(n)])},
    }[named]  # fmt: skip
    if named == "session_id":
        columns["history_length"] = np.array([50 if i % 10 else -1 for i in range(n)])
    trace = trace_of(n, **columns)
    before = shared_tokens(trace)
    assert before == ([0] + [50] * 9) * 4
    repeated = 0
    for seed in range(5):
        drawn = resample_blocks(trace, 10.0, seed)
        repeated += len({row // 10 for row in (drawn.num_output_tokens - 1).tolist()}) < 4
        assert shared_tokens(drawn) == before
    assert repeated


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blocks(3)", "--resample blocks: expected block"),
        ("block", "seconds"),
        ("block(0)", "seconds=0"),
        ("block(x)", "seconds=x"),
        ("block(length=3)", "unknown parameter length"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        block_seconds(spec)


def test_a_block_is_at_most_half_the_trace() -> None:
    assert block_seconds("block(2.5)") == block_seconds("block(seconds=2.5)") == 2.5
    with pytest.raises(InputError, match=r"--resample block\(30\): trace lasts 40 s; expected at most half"):
        resample_blocks(trace_of(), 30.0, 0)
