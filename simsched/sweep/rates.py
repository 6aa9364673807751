"""Requests/s that a load really offers, beside what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from simsched.sweep.cell import Cell, Load
from simsched.sweep.requests import file_of, num_generated, num_kept, requests_of
from simsched.workload.arrivals import Arrivals
from simsched.workload.starts import last_start
from simsched.workload.window import DRIFT, load_of


def num_requests(load: Load) -> int:
    """How many requests a load has; an estimate where a duration cuts a trace."""
    if load.workload is not None:
        return num_generated(load)
    return num_kept(load, file_of(load)[0])


def offered_rate(load: Load) -> float | None:
    """The rate that arrives: of drawn arrivals n over the last one's time (of sessions, over the last one's
    start: so many turns they make in the end), of a trace's own its mean."""
    process = Arrivals.parse(load.arrivals) if load.arrivals is not None else None
    if process is None and load.resample is None:
        if load.request_rate is not None:
            return load.request_rate
        found = load_of(file_of(load)[0])
        return None if found is None else found.mean
    if process is None:
        times = requests_of(load)[0].arrival_time
        return (len(times) - 1) / float(times[-1] - times[0]) if times[-1] > times[0] else None
    if not process.rated or load.request_rate is None:
        return None
    if process.by_session:
        trace = requests_of(load)[0]
        last = last_start(trace)
        return len(trace) / last if last > 0 else None
    if not process.drawn:
        return load.request_rate
    number = num_requests(load)
    return number / float(process.times(number, load.request_rate, load.seed)[-1])


def notes_on_rates(
    cells: Mapping[str, Cell], capacity: Mapping[str, float], offered: Mapping[str, float]
) -> Iterator[str]:
    """Lines on the rates that really arrive: beside those asked for, and where a trace's rate drifts."""
    apart: dict[str, list[float]] = {}
    drifting: dict[str, str] = {}
    for name, cell in cells.items():
        load, asked = cell.load, cell.load.request_rate
        if load.arrivals is not None and asked and Arrivals.parse(load.arrivals).drawn:
            apart.setdefault(load.arrivals, []).append(offered[name] / asked)
        if load.trace is not None and load.arrivals is None and asked and cell.load.resample is None:
            found = load_of(file_of(load)[0])
            if found is not None and found.peak >= DRIFT * found.mean:
                times = found.peak / found.mean * asked / capacity[name]
                drifting.setdefault(
                    f"{load.trace}{asked}",
                    f"{Path(load.trace).name}: {asked:.3g} requests/s is its mean rate "
                    f"({asked / capacity[name]:.2g} times the capacity); its busiest tenth has "
                    f"{found.peak / found.mean:.2g} times that ({times:.2g} times the capacity)",
                )
    for spec, ratios in apart.items():
        if max(abs(ratio - 1) for ratio in ratios) >= 0.005:
            name, _, inside = spec.partition("(")
            exact = f"{name}({inside.rstrip(')')}{',' if inside else ''}exact=true)"
            low, high = f"{min(ratios):.3f}", f"{max(ratios):.3f}"
            yield (
                f"arrivals {spec}: drawn, so the rates that runs get are "
                f"{low if low == high else f'{low} to {high}'} times those asked for; "
                f'--arrivals "{exact}" makes them equal, as vLLM bench does'
            )
    yield from drifting.values()
