"""A finished directory measured anew, with other limits or in another window; nothing is run again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError
from simsched.metrics import METRICS, Requests, measure
from simsched.results.layout import Options
from simsched.results.over_runs import over_runs
from simsched.results.reading import Results
from simsched.results.windows import (
    AUTO,
    Window,
    backlog_of,
    load_windows,
    starts_sessions,
    verdict_columns,
)

if TYPE_CHECKING:
    import polars as pl

WHOLE = "whole"


def parse_window(text: str, option: str = "--window") -> str | Window:
    """`60:600` -> (60.0, 600.0), seconds on the run's clock; `600:` is open at the end; `auto`, `whole`.

    Raises:
        InputError: anything else.
    """
    if text in (AUTO, WHOLE):
        return text
    start, colon, end = text.partition(":")
    try:
        window = float(start or 0), float(end or math.inf)
    except ValueError:
        window = (math.nan, math.nan)
    if not colon or not 0 <= window[0] < window[1]:
        raise InputError(f"{option} {text}: expected START:END in seconds, auto or whole")
    return window


def remeasure(
    results: Results,
    *,
    goodput: Mapping[str, float] | None = None,
    window: str | Window | None = None,
) -> Results:
    """The same results with the metrics of their requests computed anew.

    Args:
        results: a finished directory.
        goodput: most milliseconds that a good request may take; None: as the results were made.
        window: from when to when, in seconds on the run's clock, or `auto` or `whole`
            (`simsched.results.windows.load_windows`); None: as the results were made.

    Gaps between tokens are not kept request by request, so in another window only their mean is known.

    Raises:
        InputError: a window in which nothing arrives.
    """
    study = dict(results.manifest.get("study") or {})
    limits = dict(goodput) if goodput is not None else study.get("goodput")
    tables = tables_of(results)
    old = {row["cell"]: row for row in results.summary.to_dicts()}
    requests = {cell: Requests.of_table(table) for cell, table in tables.items()}
    windows = _windows(results, requests, old, window)
    rows = []
    for cell in results.cells:
        where, before = windows[cell], old[cell]
        same = where is None or where == (before["window_start"], before["window_end"])
        itl = {name: _number(before[name]) for name in METRICS if name.endswith("_itl_ms")}
        if not same:
            itl = dict.fromkeys(itl, math.nan) | {"mean_itl_ms": _mean_gap(requests[cell], where)}
        found = measure(requests[cell], itl=itl, goodput=limits, window=where)
        if not found["num_requests"]:
            asked = window if isinstance(window, str) else ":".join(f"{each:g}" for each in window or ())
            raise InputError(f"--window {asked}: nothing arrives in it in cell {cell}")
        metrics = {name: value if math.isfinite(value) else None for name, value in found.items()}
        verdict = {name: before[name] for name in verdict_columns(None)}
        if isinstance(window, tuple):
            verdict = verdict_columns(backlog_of(requests[cell], where))
        rows.append({**before, **metrics, **verdict})
    study["goodput"] = limits
    manifest = {**results.manifest, "study": study}
    summary = {
        "cells": rows,
        "over_runs": over_runs(rows, list(next(iter(results.cells.values())))),
        "beyond_fit": results.beyond_fit,
        "failed": results.failed,
    }
    return Results(results.path, manifest, measured=summary, labels=results.labels)


def _windows(
    results: Results,
    requests: Mapping[str, Requests],
    old: Mapping[str, Mapping[str, Any]],
    window: str | Window | None,
) -> dict[str, Window | None]:
    if window is None:
        return {cell: (row["window_start"], row["window_end"]) for cell, row in old.items()}
    if window == WHOLE:
        return dict.fromkeys(requests)
    if window == AUTO:
        backlogs = {
            cell: backlog_of(
                each, sessions_start=starts_sessions(cell, results.cells[cell], results.manifest)
            )
            for cell, each in requests.items()
        }
        tails = {cell: row["p99_e2el_ms"] for cell, row in old.items()}
        return load_windows(results.cells, backlogs, tails, {"warmup": AUTO, "cooldown": AUTO})
    assert isinstance(window, tuple)
    start, end = window
    ends = {cell: min(end, each.whole()[1]) for cell, each in requests.items()}
    return {cell: (start, last) for cell, last in ends.items()}


def tables_of(results: Results) -> dict[str, pl.DataFrame]:
    """Cell -> its requests."""
    import polars as pl

    def mine(options: Options) -> list[pl.Expr]:
        return [
            pl.col(name).is_null() if value is None else pl.col(name) == value
            for name, value in options.items()
        ]

    return {cell: results.requests.filter(mine(options)) for cell, options in results.cells.items()}


def _mean_gap(requests: Requests, window: Window | None) -> float:
    """Mean gap between tokens, in milliseconds, of the finished requests that arrive in the window."""
    start, end = window or (-math.inf, math.inf)
    inside = requests.finished & (requests.arrival >= start) & (requests.arrival <= end)
    gaps = int((requests.num_output_tokens[inside] - 1).sum())
    return float((requests.finish - requests.first_token)[inside].sum()) / gaps * 1e3 if gaps else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else value
