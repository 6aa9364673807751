"""Where each cell is measured: the window that all cells of a load share, once they are in steady state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from simsched.metrics import GROWTH, Requests
from simsched.results.layout import LOAD_OPTIONS, Options
from simsched.steady import SteadyState, session_window, steady_state, steady_state_of_sessions
from simsched.workload.arrivals import Arrivals
from simsched.workload.named import named_workload

AUTO = "auto"
Window = tuple[float, float]
Backlog = dict[str, Any]
"""What `backlog_of` says of a cell; None in its place where there is no telling."""
FILLS = 3.0
"""An engine that was empty fills for about so many times as long as a request takes alone, in the mean."""
FULL = 2.5
"""More than so many times the requests that would be there were each alone are a queue, not a full batch."""
_LONGEST_COOLDOWN = 0.25  # of the arrivals


def starts_sessions(cell: str, options: Options, manifest: Mapping[str, Any]) -> bool:
    """Do sessions of this cell start one after the other, at a rate or as in their trace, and do their later
    turns wait for answers, so that some come behind the last start?"""
    if cell in manifest.get("replayed_sessions", ()):
        return True
    arrivals = _arrivals(options, manifest)
    if arrivals is None:
        named = str(options.get("workload")) in ((manifest.get("study") or {}).get("workload") or ())
        arrivals = named_workload(str(options["workload"])).default_arrivals if named else "poisson"
    return Arrivals.parse(arrivals).process == "sessions"


def replays_times(options: Options, manifest: Mapping[str, Any]) -> bool:
    """Do the requests of such a cell come at the time stamps of their trace, which may begin at any time?"""
    named = str(options.get("workload")) in ((manifest.get("study") or {}).get("workload") or ())
    return not named and options.get("request_rate") is None and _arrivals(options, manifest) is None


def _arrivals(options: Options, manifest: Mapping[str, Any]) -> str | None:
    """The arrivals that were asked for."""
    given = list((manifest.get("study") or {}).get("arrivals") or ())
    arrivals = options.get("arrivals") or (given[0] if len(given) == 1 else None)
    return None if arrivals is None else str(arrivals)


def backlog_of(
    requests: Requests, window: Window | None = None, *, sessions_start: bool = False
) -> Backlog | None:
    """What a cell's backlog does (`simsched.steady`), for JSON: `steady`, `growing`, `GROWTH`, and where the
    warm-up and the arrivals end; None where no requests arrive one after the other.

    Args:
        requests: of the cell.
        window: from when to when to look; None: over all arrivals, but for their warm-up.
        sessions_start: look no further than the last session's start, nor before nearly as many turns come
            as sessions make; where that is in its second half, a run is too short to tell, and what its
            backlog grows by has no interval.
    """
    requests = requests.accepted()  # the others never wait
    times = requests.arrival, requests.first_token, requests.finish, requests.num_output_tokens
    told = True
    if window is None and sessions_start and requests.session is not None:
        run_in, end = session_window(requests.session, requests.arrival)
        told = run_in <= end / 2
        state = steady_state_of_sessions(*times, (min(run_in, end / 2), end))
    else:
        state = steady_state(*times, window)
    if state is None:
        return None
    told = told and _outlasts_its_requests(requests, state)
    growth: tuple[float, float | None, float | None] = (state.requests.slope, None, None)
    if told:
        growth = (state.requests.slope, state.requests.low, state.requests.high)
    return {
        "steady": state.steady and told,
        "growing": state.growing and told,
        **dict(zip(GROWTH, growth, strict=True)),
        "warmup_end": state.warmup_end,
        "arrivals_end": state.arrivals_end,
    }


def _outlasts_its_requests(requests: Requests, state: SteadyState) -> bool:
    """Is what is left behind the warm-up long enough, or the backlog large enough, to tell growth from an
    engine that fills, and does the backlog grow by a request in it, if it grows?"""
    grows = state.growing or state.requests.low > 0
    if not grows and not state.steady:
        return True  # nothing is claimed
    seconds = state.arrivals_end - state.warmup_end
    alone = (requests.finish - requests.arrival) / requests.slowdown
    known = alone[np.isfinite(alone)]
    if len(known) and seconds < FILLS * float(known.mean()):
        there = (requests.arrival <= state.arrivals_end) & ~(requests.finish <= state.arrivals_end)
        return int(there.sum()) > FULL * state.request_rate * float(known.mean())
    return state.steady or not 0 < state.requests.slope * seconds < 1


def verdict_columns(backlog: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns of the summary that say it: `steady`, and `GROWTH`."""
    return {name: None if backlog is None else backlog[name] for name in ("steady", *GROWTH)}


def load_windows(
    cells: Mapping[str, Options],
    backlogs: Mapping[str, Mapping[str, Any] | None],
    tails: Mapping[str, float | None],
    wanted: Mapping[str, Any],
    starts: Mapping[str, float] | None = None,
) -> dict[str, Window | None]:
    """Cell -> the window that its metrics are of; None: the whole run.

    Cells of one load share a window, so that they are compared over the same requests. `auto` begins where
    the last of those that are steady has warmed up, and ends as long before the last arrival as 99 % of
    their requests take; where none is steady there is nothing to wait for, and runs count whole.

    Args:
        cells: cell -> its options.
        backlogs: cell -> what `backlog_of` says of it.
        tails: cell -> the 99th percentile of its end-to-end latency, in milliseconds.
        wanted: `warmup` and `cooldown`, each seconds or `auto`; what is not there is 0.
        starts: cell -> from when on seconds of `warmup` count, on the run's clock; 0 where it is not there.
    """
    warmup, cooldown = wanted.get("warmup", 0), wanted.get("cooldown", 0)
    if warmup == 0 and cooldown == 0:
        return dict.fromkeys(cells)
    loads: dict[tuple[Any, ...], list[str]] = {}
    for cell, options in cells.items():
        loads.setdefault(tuple(options.get(name) for name in LOAD_OPTIONS), []).append(cell)
    windows: dict[str, Window | None] = {}
    for names in loads.values():
        window = _common(
            [(backlog, tails[name]) for name in names if (backlog := backlogs[name])],
            warmup,
            cooldown,
            max((starts or {}).get(name, 0.0) for name in names),
        )
        windows |= dict.fromkeys(names, window)
    return windows


def _common(
    found: list[tuple[Mapping[str, Any], float | None]],
    warmup: float | str,
    cooldown: float | str,
    origin: float,
) -> Window | None:
    steady = [each for each in found if each[0]["steady"]]
    if not found or (AUTO in (warmup, cooldown) and not steady):
        return None
    end = min(backlog["arrivals_end"] for backlog, _ in found)
    start = max(backlog["warmup_end"] for backlog, _ in steady) if warmup == AUTO else origin + float(warmup)
    if cooldown == AUTO:
        tail = max((tail or 0.0) / 1e3 for _, tail in steady)
        end -= min(tail, _LONGEST_COOLDOWN * end)
    else:
        end -= float(cooldown)
    return (start, end) if end > start and math.isfinite(end) else None
