"""What a study says: cells (published beside simulated), how close they are, and a section of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from simsched.report import Section, Table
from simsched.reproduce.settings import Metrics, Setting
from simsched.text.table import counted

TRIAL_SPREAD = 0.07  # of a published mean between trials of the same run [R]
# Largest over smallest of three trials' mean latencies, averaged over 8 policies [R]: 1.19 at 8 req/s (fcfs
# 1.29, classification 1.40), 1.08, 1.08 and 1.04 at 16, 32 and 64. Near saturation speed counts for more.
SATURATION, SPREAD_AT_SATURATION = 8.0, 0.19

Lookup = Callable[[Setting], Metrics]


@dataclass(frozen=True)
class Sources:
    """What the studies share."""

    sample: Path | None = None
    """The real joint sample of length, class and rank score (8B, ShareGPT); None: emulated instead."""


@dataclass(frozen=True)
class PublishedCell:
    """One number, published and simulated, in the metric's unit."""

    study: str
    policy: str
    workload: str
    request_rate: float | None
    metric: str
    published: float
    simulated: float
    note: str = ""
    """Why it is no prediction, or not expected to match."""
    least: float | None = None
    """What no policy can beat on the simulated requests (`simsched.bounds`), if it has such a bound."""

    @property
    def error(self) -> float:
        return self.simulated / self.published - 1

    def to_json(self) -> dict[str, Any]:
        """By the contract's names; errors that are not numbers are null."""
        simulated = self.simulated if math.isfinite(self.simulated) else None
        return {
            "study": self.study,
            "policy": self.policy,
            "workload": self.workload,
            "request_rate": self.request_rate,
            "metric": self.metric,
            "published": self.published,
            "simulated": simulated,
            "relative_error": self.error if simulated is not None else None,
        }


Draw = Callable[[Any], None]
"""Draws on a matplotlib figure."""


@dataclass
class Outcome:
    """A study's result."""

    title: str
    prose: list[str]
    cells: list[PublishedCell] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    draw: Draw | None = None
    alt: str = ""

    def section(self) -> Section:
        """The page's section, without its figure."""
        tables = [*self.tables, *([cell_table(self.cells)] if self.cells else [])]
        return Section(self.title, self.prose, tables, points=[*self.points, *verdict(self.cells)])


Study = Callable[[Sources, Lookup], Outcome]


def cell_table(cells: Sequence[PublishedCell]) -> Table:
    """Published, simulated and error, a row a cell; how far from the best possible, where that is known."""
    bounded = any(c.least is not None for c in cells)
    rows = [
        (
            *(c.workload, c.policy, c.request_rate, c.metric, c.published, c.simulated, f"{c.error:+.0%}"),
            *([over(c.simulated, c.least)] if bounded else []),
            c.note,
        )
        for c in cells
    ]
    headers = ("workload", "policy", "req/s", "metric", "published", "simulated", "error")
    caption = "Published beside simulated. No request rate: a burst."
    if bounded:
        caption += " Policy / bound: simulated, over the least that any policy could reach."
    return Table((*headers, *(["policy / bound"] if bounded else []), "note"), rows, caption)


def over(value: float, least: float | None) -> str:
    """A mean over its lower bound, as text; nothing where there is none."""
    return "" if least is None else f"{value / least:.2f}"


def verdict(cells: Sequence[PublishedCell]) -> list[str]:
    """Errors and order in words, from the numbers."""
    if not cells:
        return []
    predicted = [c for c in cells if not c.note.startswith("used for")]
    lines = []
    if predicted:
        lines.append(f"{counted(len(predicted), 'predicted cell')}: {errors(predicted)}.")
    wrong, pairs = reversals(cells)
    if pairs:
        lines.append(
            f"Order: of {pairs} pairs of policies whose published values differ by more than the trial "
            f"spread ({TRIAL_SPREAD:.0%}; {SPREAD_AT_SATURATION:.0%} at {SATURATION:g} req/s), "
            f"{pairs - len(wrong)} come out the same way round."
        )
        lines += [f"Reversed: {line}." for line in wrong]
    return lines


def errors(cells: Sequence[PublishedCell]) -> str:
    """Median and worst of the errors of these cells, and how many are small and large."""
    sizes = [_size(c) for c in cells]
    worst = max(cells, key=_size)
    return (
        f"median absolute error {median(sizes):.0%}, {sum(size <= 0.1 for size in sizes)} within 10 %, "
        f"{sum(size > 0.3 for size in sizes)} over 30 %; worst {worst.error:+.0%} ({describe(worst)})"
    )


def _size(cell: PublishedCell) -> float:
    """The error's; what did not come out at all is the worst."""
    return abs(cell.error) if math.isfinite(cell.simulated) else math.inf


def over_all(outcomes: Iterable[Outcome]) -> str:
    """A line on all cells of several studies that were predicted; empty if there is none."""
    cells = [c for outcome in outcomes for c in outcome.cells if not c.note.startswith("used for")]
    return f"All studies, {counted(len(cells), 'predicted cell')}: {errors(cells)}." if cells else ""


def describe(cell: PublishedCell) -> str:
    """Which cell this is."""
    load = "burst" if cell.request_rate is None else f"{cell.request_rate:g} req/s"
    return f"{cell.policy}, {cell.workload}, {load}, {cell.metric}"


def reversals(cells: Iterable[PublishedCell]) -> tuple[list[str], int]:
    """Pairs of policies at one load whose order is not as published, and how many pairs were compared."""
    loads: dict[tuple[Any, ...], list[PublishedCell]] = {}
    for cell in cells:
        loads.setdefault((cell.workload, cell.request_rate, cell.metric), []).append(cell)
    wrong, pairs = [], 0
    for (workload, rate, metric), group in loads.items():
        for a, b in combinations(group, 2):
            spread = SPREAD_AT_SATURATION if rate == SATURATION else TRIAL_SPREAD
            if max(a.published, b.published) <= (1 + spread) * min(a.published, b.published):
                continue
            pairs += 1
            if (a.published < b.published) != (a.simulated < b.simulated):
                load = "burst" if rate is None else f"{rate:g} req/s"
                wrong.append(f"{a.policy} and {b.policy} ({workload}, {load}, {metric})")
    return wrong, pairs
