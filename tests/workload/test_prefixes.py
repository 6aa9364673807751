"""Generated conversations share prefixes as the real trace's do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from simsched.workload.formats import load_trace
from simsched.workload.named import named_workload
from simsched.workload.prefixes import Conversations
from simsched.workload.stats import shared_prefix
from simsched.workload.trace import Trace


def generated(n: int = 12_031, seed: int = 0) -> Trace:
    return named_workload("mooncake-conversation").generate(n, 3.4, seed=seed)


def test_as_much_is_shared_as_in_the_real_trace(shared_data: Path) -> None:
    real, _ = load_trace(shared_data / "traces" / "mooncake_conversation.parquet")
    assert shared_prefix(real) == pytest.approx(0.374, abs=0.001)
    assert shared_prefix(generated()) == pytest.approx(shared_prefix(real), abs=0.02)


def test_every_block_has_one_id_and_every_id_one_past() -> None:
    trace = generated(5000)
    assert trace.hash_ids is not None
    before: dict[int, tuple[int, ...]] = {}
    for ids, tokens in zip(trace.hash_ids, trace.num_prompt_tokens.tolist(), strict=True):
        assert len(ids) == -(-tokens // 512)
        for place, block in enumerate(ids):
            assert before.setdefault(block, ids[:place]) == ids[:place]


def test_seeds_and_longer_traces() -> None:
    assert generated(500).hash_ids == generated(500).hash_ids
    assert generated(2000).hash_ids != generated(2000, seed=1).hash_ids
    longer = generated(2000).hash_ids
    assert longer is not None
    assert longer[:500] == generated(500).hash_ids


def test_none_or_all_go_on() -> None:
    tokens = np.full(300, 100)
    alone = Conversations(10, share=1e-12, gap=3, spread=0.5, reach=1).hash_ids(tokens, seed=0)
    assert {ids[0] for ids in alone} == {0}
    assert len({ids[1] for ids in alone}) == 300
    chained = Conversations(10, share=1 - 1e-12, gap=1, spread=1e-9, reach=0).hash_ids(tokens, seed=0)
    assert all(new[:-1] == old[:-1] for old, new in pairwise(chained))
