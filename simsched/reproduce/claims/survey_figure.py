"""The survey's figure: two panels of named points, coloured by what a policy orders by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from simsched.plotting.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, styled
from simsched.reproduce.claims.survey import COMMON, FIRST, SHARE, Survey

FAMILIES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "arrival, prompt": (BLACK, "o", ("fcfs", "sjf-aging", "uniboost", "uniboost-guard")),
    "service so far": (ORANGE, "s", ("mlfq", "fastserve", "plas", "atlas", "vtc")),
    "what is cached": (GREEN, "D", ("uncached-first", "lpm", "dfs-weight", "dlpm", "hrrn")),
    "limits": (PURPLE, "h", ("priority", "edf", "least-slack", "qoserve", "fair-batching")),
    "batch, memory": (GREY, "X", ("p-pas", "past-future")),
    "predicted length": (
        *(VERMILION, "^"),
        ("ranking", "classification", "po", "tie", "gittins", "sagesched", "trail", "elis", "a-min"),
    ),
    "predicted length, memory": (SKY, "P", ("mc-sf", "svf")),
    "true length": (BLUE, "v", ("sjf", "srtf", "ljf")),
}
"""What a policy goes by: its colour, its marker, and the policies."""
_TOGETHER = 0.02  # of an axis: points that are nearer share a label
_LETTERS = 50  # in a line of a label
_LINE, _GAP = 0.152, 0.07  # inches: a line of a label, and between labels
_LEAST = 4.6  # inches of a panel, or as many as its labels need


@dataclass
class _Label:
    """The names of points that stand together."""

    at: tuple[float, float]
    """The first of them, in shares of the axes."""
    names: list[str]

    @property
    def lines(self) -> list[list[str]]:
        found: list[list[str]] = [[]]
        for name in self.names:
            if found[-1] and sum(len(each) + 2 for each in (*found[-1], name)) > _LETTERS:
                found.append([])
            found[-1].append(name)
        return found

    @property
    def inches(self) -> float:
        return len(self.lines) * _LINE + _GAP


def family_of(policy: str) -> str:
    """What a policy goes by.

    Raises:
        KeyError: a policy that is in no family.
    """
    name = policy.partition("(")[0]
    for family, (_, _, members) in FAMILIES.items():
        if name in members:
            return family
    raise KeyError(name)


def draw_survey(survey: Survey) -> Any:
    """Two panels on logarithmic axes, one above the other; points that can't be told apart share a label."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    at_one = f"{survey.request_rate:.2f} req/s, {COMMON:g} times what {FIRST} can take"
    own = f"{SHARE:g} of what each one can take (other requests for each: not paired)"
    panels = [
        _Panel.of(at_one, [(place.policy, *place.at_one_load) for place in survey.places]),
        _Panel.of(own, [(place.policy, *place.at_its_own) for place in survey.places]),
    ]
    with styled():
        inches = 2.4 + sum(panel.inches for panel in panels)
        figure = Figure(figsize=(9, inches), layout="none")  # type: ignore[arg-type]
        axes = figure.subplots(2, 1, height_ratios=[panel.inches for panel in panels])
        figure.subplots_adjust(left=0.085, right=0.59, top=1 - 1.05 / inches, bottom=0.5 / inches,
                               hspace=0.85 / (inches / 2 - 1.2))  # fmt: skip
        for ax, panel in zip(axes, panels, strict=True):
            _draw(ax, panel)
        there = {family_of(place.policy) for place in survey.places}
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="", label=family)
            for family, (color, marker, _) in FAMILIES.items()
            if family in there
        ]
        figure.legend(handles=handles, loc="upper left", ncols=4, fontsize=9, title="A policy goes by",
                      alignment="left", bbox_to_anchor=(0.01, 0.998))  # fmt: skip
    return figure


@dataclass
class _Panel:
    """Points and where they and their names stand."""

    title: str
    points: list[tuple[str, float, float]]
    """Policy, milliseconds, seconds."""
    x: tuple[float, float]
    """The ends of the axis."""
    y: tuple[float, float]
    labels: list[_Label]

    @classmethod
    def of(cls, title: str, points: Sequence[tuple[str, float, float]]) -> _Panel:
        """Of points with both in milliseconds; those without a number are left out."""
        there = [(name, x, y / 1e3) for name, x, y in points if math.isfinite(x) and math.isfinite(y)]
        ends = _ends([x for _, x, _ in there], 1.5), _ends([y for _, _, y in there], 3.0)
        labels = _labels([(name, _share(x, *ends[0]), _share(y, *ends[1])) for name, x, y in there])
        return cls(title, there, *ends, labels)

    @property
    def inches(self) -> float:
        return max(_LEAST, sum(label.inches for label in self.labels))


def _draw(ax: Any, panel: _Panel) -> None:
    """The names stand beside the axes, in the order of their points, with a line to each."""
    from simsched.plotting.style import log_ticks

    ax.set(xscale="log", yscale="log", xlim=panel.x, ylim=panel.y)
    ax.set(xlabel="mean latency per token (ms)", ylabel="P99 time to first token (s)")
    ax.set_title(panel.title, fontsize=10.5)
    for name, x, y in panel.points:
        color, marker, _ = FAMILIES[family_of(name)]
        ax.plot(x, y, marker, color=color, markersize=7, markeredgecolor="white", markeredgewidth=0.5)
    for label, height in zip(panel.labels, _heights(panel), strict=True):
        _write(ax, label, height)
    log_ticks(ax, "x")
    log_ticks(ax, "y")


def _ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """The ends of an axis: a little beyond the values, and no nearer than a factor of `least`."""
    low, high = min(values), max(values)
    wider = max(1.0, math.sqrt(least * low / high)) * (high / low) ** 0.04
    return low / wider, high * wider


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _labels(points: Sequence[tuple[str, float, float]]) -> list[_Label]:
    """From the highest point to the lowest, each with those that stand beside it."""
    labels: list[_Label] = []
    for name, x, y in sorted(points, key=lambda point: (-point[2], point[1])):
        beside = (each for each in labels if math.dist(each.at, (x, y)) < _TOGETHER)
        if (label := next(beside, None)) is None:
            labels.append(_Label((x, y), [_short(name)]))
        else:
            label.names.append(_short(name))
    return labels


def _heights(panel: _Panel) -> list[float]:
    """Where the middle of each label is, in shares of the panel: as high as its point, or as near to that as
    those above and beneath leave room."""
    sizes = [label.inches / panel.inches for label in panel.labels]
    middles: list[float] = []
    top = 1.0
    for place, (label, size) in enumerate(zip(panel.labels, sizes, strict=True)):
        beneath = sum(sizes[place + 1 :])
        middles.append(min(top - size / 2, max(label.at[1], beneath + size / 2)))
        top = middles[-1] - size / 2
    return middles


def _write(ax: Any, label: _Label, height: float) -> None:
    """Its names in the colours of their families, and a line to its point."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker

    rows: list[Any] = []
    for names in label.lines:
        words: list[Any] = [
            TextArea(name, textprops={"color": FAMILIES[family_of(name)][0], "fontsize": 8.5})
            for name in names
        ]
        rows.append(HPacker(children=words, pad=0, sep=7))
    box = VPacker(children=rows, pad=0, sep=2)
    line = {"arrowstyle": "-", "linewidth": 0.6, "color": GREY, "shrinkB": 3, "relpos": (0.0, 0.5)}
    ax.add_artist(
        AnnotationBbox(box, label.at, xybox=(1.06, height), xycoords="axes fraction", frameon=False, pad=0.1,
                       boxcoords="axes fraction", box_alignment=(0.0, 0.5), arrowprops=line,
                       annotation_clip=False)
    )  # fmt: skip


def _short(policy: str) -> str:
    shorter = policy.replace("starvation_threshold=200,starvation_period=10", "starvation control")
    return shorter.replace("form=", "").replace("=true", "")
