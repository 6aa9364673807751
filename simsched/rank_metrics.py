"""What stepping together costs ranks of a mixture-of-experts model (`--moe-data-parallel`).

- `dummy_step_share`: of the forward passes of all ranks, those in which one had nothing to run but a dummy
  batch;
- `barrier_wait_share`: of the time of the passes in which a rank had a batch, that in which it had done with
  it and waited for the slowest.

Both are of the whole run, up to the last answer, whatever window the other metrics are of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from simsched.record import RankTimes

RANK_METRICS = ("dummy_step_share", "barrier_wait_share")
"""Columns of summary.csv where ranks stepped together."""


def rank_values(ranks: Sequence[RankTimes]) -> dict[str, float]:
    """`RANK_METRICS` -> value, over all of these ranks; NaN where undefined. Nothing without ranks."""
    if not ranks:
        return {}
    dummies = sum(rank.num_dummies for rank in ranks)
    passes = dummies + sum(rank.num_batches for rank in ranks)
    seconds = math.fsum(rank.batch_seconds for rank in ranks)
    waited = math.fsum(rank.waiting_seconds for rank in ranks)
    return {
        "dummy_step_share": dummies / passes if passes else math.nan,
        "barrier_wait_share": waited / seconds if seconds else math.nan,
    }
