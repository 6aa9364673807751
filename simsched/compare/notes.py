"""What a reader must know of a comparison beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simsched.compare.samples import Samples
from simsched.compare.words import listed, load_text, rate_text
from simsched.text.table import counted, number, short_number

if TYPE_CHECKING:
    from simsched.compare.comparison import Row

_MOST_LOADS = 6  # that are named one by one


def comparison_notes(samples: Samples, rows: Sequence[Row], runs: int) -> list[str]:
    """Lines on overload, on what the number of runs allows to say, and on unfinished requests."""
    notes = overload_notes(samples)
    if len(samples.policies) > 1:
        notes += _of_runs(rows, runs)
    for policy in samples.policies:
        count = sum(samples.unfinished(load, policy) for load in range(len(samples.loads)))
        if count:
            what = counted(count, "request")
            notes.append(f"{policy} left {what} unfinished; its numbers leave them out, so it cannot win.")
    return notes


def any_tested(rows: Sequence[Row]) -> bool:
    """Has any ratio an interval? None has with one run, or with runs that repeat one another."""
    return any(row.ratio is not None and row.ratio.low != row.ratio.high for row in rows)


def _of_runs(rows: Sequence[Row], runs: int) -> list[str]:
    if runs < 2:
        return ["One run: no intervals, and no difference can be called significant (--num-runs 3)."]
    if not any_tested(rows):
        return [f"All {runs} runs are alike: they count as one, and nothing is tested."]
    if runs < 3:
        return ["Two runs can hardly show a difference: one degree of freedom (--num-runs 5)."]
    return []


def overload_notes(samples: Samples) -> list[str]:
    """Which loads are above the capacity, so that what is measured there depends on how long it lasts."""
    above = [i for i in range(len(samples.loads)) if (samples.share(i) or 0) > 1]
    if not above:
        return []
    lasts = [samples.seconds_of_arrivals(i) or 0.0 for i in above]
    low, high = (short_number(each) for each in (min(lasts), max(lasts)))
    length = f"{low} s" if low == high else f"{low} to {high} s"
    capacities = {number(samples.capacity[i]) for i in above}
    below = {samples.rates[i] for i in range(len(samples.loads)) if i not in above}
    alone = [samples.rates[i] not in below for i in above]  # where the rate says it all
    names = list(
        dict.fromkeys(
            rate_text(samples.rates[i]) if enough else load_text(samples.loads[i])
            for i, enough in zip(above, alone, strict=True)
        )
    )
    which = listed(names) if len(names) <= _MOST_LOADS else f"{len(names)} of {len(samples.loads)} settings"
    most = f"about {capacities.pop()} req/s" if len(capacities) == 1 else "of their engines"
    return [
        f"Above the capacity ({most}): {which}. Latencies there grow with the length of the run "
        f"({length} of arrivals)."
    ]
