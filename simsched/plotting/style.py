"""One look for every figure: a policy keeps its colour and marker wherever it is drawn.

Colours are those of Okabe and Ito (2008), told apart by readers with any common colour blindness; markers
and line styles say the same thing a second time.
"""

from __future__ import annotations

import io
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class NoDataError(InputError):
    """The results are sound, but don't hold what this figure shows."""


# Okabe-Ito; its yellow is too pale for lines on white.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

_STYLES: dict[str, tuple[str, str]] = {
    "fcfs": (BLACK, "o"),
    "mlfq": (ORANGE, "s"),
    "po": (PURPLE, "^"),
    "classification": (SKY, "D"),
    "ranking": (VERMILION, "*"),
    "srtf": (GREEN, "v"),
    "sjf": (BLUE, "P"),
    "ljf": (GREY, "X"),
    "fastserve": (ORANGE, "p"),
    "priority": (GREY, "h"),
}
_COLORS = (BLUE, GREEN, PURPLE, SKY, ORANGE, VERMILION, GREY)
_MARKERS = ("<", ">", "d", "H", "8", "p", "h", "X", "P")
_DASHES: tuple[Any, ...] = ((0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))

WIDTH = 8.0  # inches: the 800 pixels of a README
DPI = 160  # sharp on a screen with finer pixels too
_ROW, _HANDLE = 100, 9  # letters in a row of a legend, and what a handle takes of it
_LONGEST_LABEL = 84
_LEGEND_ROW = 0.22  # inches
_NARROW = 4  # an axis that spans less than this factor has no use for ticks at 1, 2, 5
_LONG = 24  # letters; a longer name beside a line leaves too little of the figure

_RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "svg.hashsalt": "simsched",  # element ids that do not change from run to run
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


def _name(policy: str) -> str:
    """The policy of an arm, without parameters: `"mlfq(threshold=2), tau=0.5"` -> `"mlfq"`; a user's own
    keeps its file."""
    return policy.partition("(")[0].partition(", ")[0].strip()


def _is_variant(arm: str) -> bool:
    return "(" in arm or "=" in arm


def _of_variant(arm: str, among: Iterable[str], options: tuple[Any, ...]) -> Any:
    """The same in every figure, unless an earlier variant of the policy has it in this one: then the next."""
    variants = [each for each in (*among, arm) if _is_variant(each) and _name(each) == _name(arm)]
    taken: list[Any] = []
    for each in dict.fromkeys(variants):
        first = zlib.crc32(each.encode()) % len(options)
        turned = options[first:] + options[:first]
        choice = next((option for option in turned if option not in taken), turned[0])
        if each == arm:
            return choice
        taken.append(choice)
    raise AssertionError(arm)  # it is one of them


def _of_own(policy: str, among: Iterable[str], column: int, options: Sequence[str]) -> str:
    """What no built-in policy of the figure has, nor another that is not built in (while there are such)."""
    names = [_name(each) for each in (*among, policy)]
    taken = {_STYLES[name][column] for name in names if name in _STYLES}
    free = [option for option in options if option not in taken] or options
    own = list(dict.fromkeys(name for name in names if name not in _STYLES))
    return free[own.index(_name(policy)) % len(free)]


def policy_color(policy: str, among: Iterable[str] = ()) -> str:
    """The policy's colour; variants (other parameters) share it. One that is not built in gets the first that
    no other policy of the figure has (`among`: the figure's policies)."""
    name = _name(policy)
    return _STYLES[name][0] if name in _STYLES else _of_own(policy, among, 0, _COLORS)


def policy_marker(policy: str, among: Iterable[str] = ()) -> str:
    """The policy's marker; a variant gets one of its own, which no other of the same policy has (`among`: the
    figure's policies) while there are such."""
    name = _name(policy)
    if _is_variant(policy):
        return str(_of_variant(policy, among, _MARKERS))
    return _STYLES[name][1] if name in _STYLES else _of_own(policy, among, 1, _MARKERS)


def policy_line(policy: str, among: Iterable[str] = (), *, markersize: float = 6.0) -> dict[str, Any]:
    """Keyword arguments for `Axes.plot`: colour, marker, and dashes where it is a variant."""
    among = list(among)
    marker = policy_marker(policy, among)
    line: dict[str, Any] = {"color": policy_color(policy, among), "marker": marker}
    line["markersize"] = scaled_marker(marker, markersize)
    if _is_variant(policy):
        line["linestyle"] = _of_variant(policy, among, _DASHES)
    return line


def scaled_marker(marker: str, size: float) -> float:
    """The size at which a marker looks as large as the others: a star looks smaller than its size says."""
    return 1.5 * size if marker == "*" else size


def wrapped(policy: str) -> str:
    """A long policy name in lines, one parameter each."""
    return (
        policy if len(policy) <= _LONG else policy.replace("(", "(\n").replace(", ", ",").replace(",", ",\n")
    )


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style, leaving matplotlib's own settings as they were."""
    from matplotlib import rc_context

    with rc_context(_RC):
        yield


def new_axes(ax: Axes | None, *, height: float = 4.0, width: float = WIDTH) -> Axes:
    """The given axes, or those of a new figure (inches). No window and no global state are involved."""
    from matplotlib.figure import Figure

    return ax if ax is not None else Figure(figsize=(width, height)).add_subplot()


def log_ticks(ax: Axes, which: str) -> None:
    """A logarithmic axis (`"x"` or `"y"`) whose ticks are plain numbers: 1, 2, 5, 10, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    if high < _NARROW * low:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        subs = (1, 1.5, 2, 3, 5, 7) if high < 15 * low else (1, 2, 5) if high < 300 * low else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def log_label(label: str) -> str:
    """The label of a logarithmic axis: `"Latency (ms)"` -> `"Latency (ms, log scale)"`."""
    return f"{label[:-1]}, log scale)" if label.endswith(")") else f"{label} (log scale)"


def legend_on_top(figure: Figure | None, ax: Axes) -> None:
    """One legend for all panels, above them, in as few rows as its names allow; the figure grows by them."""
    assert figure is not None  # axes that are drawn on belong to one
    handles, labels = ax.get_legend_handles_labels()
    columns = legend_columns([_HANDLE + len(label) for label in labels])
    labels = [_in_lines(label) for label in labels]
    more_rows = -(-len(labels) // columns) - 1 + sum(label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * more_rows)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=2.2)


def _in_lines(label: str) -> str:
    """A name too long for a figure, as that of a fleet, in several lines: broken at spaces, and behind each +
    between groups of replicas."""
    if len(label) <= _LONGEST_LABEL:
        return label
    apart = label.replace("+", "+ ")
    return textwrap.fill(apart, _LONGEST_LABEL, break_on_hyphens=False).replace("+ ", "+")


def legend_columns(widths: Sequence[int]) -> int:
    """The most columns that fit, each as wide as the widest of its names; they are filled one by one."""
    for columns in range(len(widths), 1, -1):
        rows, longer = divmod(len(widths), columns)
        starts = [rows * column + min(column, longer) for column in range(columns + 1)]
        if sum(max(widths[a:b]) for a, b in pairwise(starts)) <= _ROW:
            return columns
    return 1


def image_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a `png`, `svg` or `pdf` file: the same bytes whenever it is drawn."""
    from matplotlib import rc_context

    undated: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    with rc_context(_RC):
        figure.savefig(buffer, format=kind, metadata=undated[kind])
    return buffer.getvalue()


def name_lines(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names beside the lines' ends (see `direct_labels`), or a legend where a name is too long for that."""
    if max((len(text) for _, _, text, _ in ends), default=0) > _LONG:
        legend_on_top(ax.get_figure(root=True), ax)
    else:
        direct_labels(ax, ends)


def direct_labels(ax: Axes, ends: list[tuple[float, float, str, str]], *, gap: float = 0.055) -> None:
    """Write each line's name at its right end, moved apart so that no two overlap.

    Args:
        ax: axes whose limits and scales are final.
        ends: (x, y, text, colour) of each line's last point, in data coordinates.
        gap: least distance between labels, as a share of the axes' height.
    """
    if not ends:
        return
    to_axes = ax.transAxes.inverted()
    placed: list[tuple[float, str, str]] = []
    for x, y, text, color in ends:
        _, height = to_axes.transform(ax.transData.transform((x, y)))
        placed.append((float(height), text, color))
    placed.sort()
    heights = _spread([label[0] for label in placed], gap)
    for (_, text, color), height in zip(placed, heights, strict=True):
        ax.annotate(
            text, (1.015, height), xycoords="axes fraction", color=_darker(color), va="center", ha="left",
            annotation_clip=False, fontsize=9.5,
        )  # fmt: skip


def _darker(color: str) -> tuple[float, ...]:
    """The same hue, dark enough for letters on white."""
    from matplotlib.colors import to_rgb

    return tuple(0.72 * part for part in to_rgb(color))


def _spread(wanted: list[float], gap: float) -> list[float]:
    """Ascending positions at least `gap` apart, each cluster centred on where its members want to be."""
    clusters: list[tuple[float, int]] = []  # (lowest position, members)
    for position in wanted:
        clusters.append((position, 1))
        while len(clusters) > 1 and clusters[-1][0] - clusters[-2][0] < gap * clusters[-2][1]:
            (low, few), (high, more) = clusters[-2:]
            # the mean of (wanted - rank * gap) over both is the lowest position that serves all best
            start = (low * few + (high - gap * few) * more) / (few + more)
            clusters[-2:] = [(start, few + more)]
    return [low + gap * rank for low, members in clusters for rank in range(members)]
