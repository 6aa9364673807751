"""The claims' figure: each ratio with its interval, and what was claimed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from simsched.plotting.style import BLACK, GREEN, GREY, VERMILION, styled
from simsched.reproduce.claims.claim import Claim, Judged, Measured

_COLORS = {"as claimed": GREEN, "less": BLACK, "not": VERMILION}
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5)


def draw_ratios(judged: Sequence[Judged]) -> Any:
    """A line for each part of a claim at each load; what a check compares stands beside the first load."""
    from matplotlib.figure import Figure

    rows = [
        (each.claim, one)
        for each in judged
        for one in each.measured
        if one.check.part != "beside" and one.ratio is not None
    ]
    with styled():
        figure = Figure(figsize=(9, max(2.5, 0.19 * len(rows) + 1.2)), layout="constrained")
        ax = figure.subplots()
        for place, (_, one) in enumerate(rows):
            _draw(ax, place, one)
        starts: dict[int, str] = {}
        place = 0
        for number, (_, claim_rows) in enumerate(groupby(rows, key=lambda row: row[0].name)):
            of_claim = list(claim_rows)
            if number % 2 == 0:  # claims are told apart by bands
                ax.axhspan(place - 0.5, place + len(of_claim) - 0.5, color="#F3F3F3", zorder=-1, linewidth=0)
            for _, of_check in groupby(of_claim, key=lambda row: id(row[1].check)):
                several = list(of_check)
                starts[place] = _name(*several[0])
                place += len(several)
        ax.axvline(1.0, color=GREY, linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        ax.minorticks_off()
        ax.grid(axis="y", visible=False)
        ax.set_yticks(list(starts), list(starts.values()), fontsize=8)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        loads = ax.secondary_yaxis("right")
        loads.set_yticks(range(len(rows)), [load_of(one) for _, one in rows], fontsize=7.5)
        loads.tick_params(length=0)
        loads.spines["right"].set_visible(False)
        ax.set_xlabel("ratio (grey tick: as claimed; green: so, black: less, red: not)")
    return figure


def _draw(ax: Any, place: int, one: Measured) -> None:
    ratio = one.ratio
    assert ratio is not None
    low, high = (ratio.ratio if end is None else end for end in (ratio.low, ratio.high))
    ax.plot([low, high], [place, place], color=_COLORS[one.found], linewidth=2)
    ax.plot(ratio.ratio, place, "o", color=_COLORS[one.found], markersize=4)
    ax.plot(one.check.claimed, place, "|", color=GREY, markersize=9, markeredgewidth=2)


def _name(claim: Claim, one: Measured) -> str:
    """The claim, or the arm where it has several; the metric; and what it is compared with."""
    arms = {check.arm for check in claim.checks if check.part != "beside"}
    arm, against = (
        each.replace("starvation_threshold=200,starvation_period=10", "control")
        for each in (claim.name if len(arms) == 1 else one.check.arm, one.check.baseline)
    )
    metric = one.check.metric.removesuffix("_ms").replace("_", " ").replace("e2el", "latency")
    return f"{arm}: {metric} / {against}"


def load_of(one: Measured) -> str:
    """The load, in words; empty: there is one."""
    rate = one.load.get("request_rate")
    others = [f"{name} {value}" for name, value in one.load.items() if name != "request_rate"]
    return ", ".join([*([f"{rate:.4g} req/s"] if rate is not None else []), *others])
