"""What each tenant, class or other group of requests gets under each arm, and how fair that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simsched.compare.deciles import requests_at
from simsched.errors import InputError
from simsched.metrics import Requests, measure
from simsched.request_table import GROUPS
from simsched.text.table import text_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simsched.compare.samples import Samples
    from simsched.results import Results

SHOWN = {
    "mean_ttft_ms": "TTFT ms",
    "p99_ttft_ms": "P99",
    "mean_tpot_ms": "TPOT ms",
    "p99_tpot_ms": "P99",
    "mean_slowdown": "slowdown",
}
MOST_GROUPS = 64
"""In a table."""


@dataclass(frozen=True)
class GroupRow:
    """A group of requests under an arm, over all runs of a load."""

    arm: str
    group: str
    requests: int
    metrics: dict[str, float]
    """`simsched.metrics.measure`."""


@dataclass(frozen=True)
class Groups:
    """All groups under all arms, at one load."""

    by: str
    rows: list[GroupRow]
    fairness: dict[str, dict[str, float]]
    """Arm -> `jain`, `max_over_min` of the groups' mean slowdowns."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("good_share", *SHOWN, "prefix_cache_hit_rate")
        rows = [
            {"arm": row.arm, self.by: row.group, "requests": row.requests}
            | {name: _finite(row.metrics[name]) for name in names}
            for row in self.rows
        ]
        fair = {
            arm: {name: _finite(value) for name, value in of.items()} for arm, of in self.fairness.items()
        }
        return {"by": self.by, "rows": rows, "fairness": fair}

    def to_table(self, width: int | None = None) -> str:
        """As text; tables at most `width` letters wide."""
        good = any(np.isfinite(row.metrics["good_share"]) for row in self.rows)
        hits = any(row.metrics["prefix_cache_hit_rate"] > 0 for row in self.rows)
        headers = ["arm", self.by, "requests", *SHOWN.values(), *(["cache hits"] if hits else [])]
        headers += ["good %"] if good else []
        body: list[list[Any]] = []
        for row in self.rows:
            cells: list[Any] = [row.arm, row.group, row.requests, *(row.metrics[name] for name in SHOWN)]
            cells += [row.metrics["prefix_cache_hit_rate"]] if hits else []
            body.append([*cells, *([100 * row.metrics["good_share"]] if good else [])])
        fair = [[arm, of["jain"], of["max_over_min"]] for arm, of in self.fairness.items()]
        return (
            f"{text_table(headers, body, left=(0, 1), width=width)}\n\n"
            "Fairness of the mean slowdowns: Jain's index (1 = all alike), largest over smallest\n"
            f"{text_table(['arm', 'Jain', 'max / min'], fair, width=width)}"
        )


def by_group(
    results: Results, samples: Samples, load: int, by: str, goodput: Mapping[str, float] | None = None
) -> Groups:
    """The requests of a load by a column that their trace brought, or by the replica that served them.

    Args:
        results: the directory.
        samples: of it.
        load: index of the load.
        by: one of `simsched.request_table.GROUPS`.
        goodput: limits of a good request, in milliseconds.

    Raises:
        InputError: no such column, or too many groups for a table.
    """
    requests = requests_at(results, samples, load)
    if by not in GROUPS or by not in requests.columns:
        known = [name for name in GROUPS if name in requests.columns]
        raise InputError(f"--by {by}: these requests have {', '.join(known) or 'no column to go by'}")
    names = requests[by].drop_nulls().unique().sort().to_list()
    if len(names) > MOST_GROUPS:
        raise InputError(f"--by {by}: {len(names):,} values; expected at most {MOST_GROUPS}")
    rows = []
    fairness: dict[str, dict[str, float]] = {}
    for arm in samples.arms:
        mine = requests.filter(arm=arm)
        for name in names:
            part = mine.filter(mine[by] == name)
            if part.height:
                metrics = measure(Requests.of_table(part), goodput=goodput)
                rows.append(GroupRow(arm, str(name), part.height, metrics))
        fairness[arm] = _fairness([row.metrics["mean_slowdown"] for row in rows if row.arm == arm])
    return Groups(by, rows, fairness)


def _fairness(slowdowns: Sequence[float]) -> dict[str, float]:
    """Jain's index (Jain, Chiu and Hawe, 1984): (sum x)^2 / (n sum x^2), 1 where all are alike, 1/n where
    one has all; and the largest over the smallest."""
    x = np.array([value for value in slowdowns if np.isfinite(value)])
    if not len(x):
        return {"jain": float("nan"), "max_over_min": float("nan")}
    return {
        "jain": float(x.sum() ** 2 / (len(x) * (x**2).sum())),
        "max_over_min": float(x.max() / x.min()),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
