"""Which arms meet a service-level objective, at which loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Load, json_load
from simsched.compare.deciles import requests_at
from simsched.compare.phrases import load_text
from simsched.metrics import Requests
from simsched.slo import Slo
from simsched.text.table import text_table

if TYPE_CHECKING:
    from simsched.compare.samples import Samples
    from simsched.results import Results


@dataclass(frozen=True)
class Attained:
    """An arm at a load, over all runs together."""

    load: Load
    arm: str
    shares: list[float]
    """Of each condition, the share of the requests that keep it."""
    met: bool
    growing: bool
    """Then it depends on the length of the run, and gets worse."""


def attained(results: Results, samples: Samples, slo: Slo) -> list[Attained]:
    """Every arm at every load."""
    rows = []
    for load, options in enumerate(samples.loads):
        requests = requests_at(results, samples, load)
        for arm in samples.arms:
            mine = requests.filter(arm=arm)
            if mine.height:
                shares = slo.attainment(Requests.of_table(mine))
                growing = samples.growing(load, arm)
                rows.append(Attained(options, arm, shares, slo.is_met(shares), growing))
    return rows


def objective_dict(slo: Slo, rows: Sequence[Attained], samples: Samples) -> dict[str, Any]:
    """For JSON."""
    return {
        "text": slo.text,
        "rows": [
            {
                "load": json_load(row.load),
                "arm": samples.arms[row.arm],
                "attained": row.shares,
                "met": row.met,
                "growing": row.growing,
            }
            for row in rows
        ],
    }


def objective_text(slo: Slo, rows: Sequence[Attained], width: int | None = None) -> str:
    """As a table, at most `width` letters wide."""
    conditions = [
        " ".join(f"{metric}<{limit:g}ms" for metric, limit in condition.limits.items())
        for condition in slo.conditions
    ]
    body = [
        [
            load_text(row.load),
            row.arm,
            *(f"{share:.2%}" for share in row.shares),
            "yes" if row.met and not row.growing else "not steady" if row.met else "no",
        ]
        for row in rows
    ]
    headers = ["", "arm", *conditions, "met"]
    table = text_table(headers, body, left=(0, 1, len(headers) - 1), width=width)
    return f"Objective {slo.text}: the share of the requests that keep it\n{table}"
