"""How each arm of a study is drawn, the same in all of its figures.

Behind one engine an arm looks as its policy does (`simsched.plotting.style`). Where arms differ in their
replicas or routers, a colour for each policy would leave most of them alike. There few arms have a colour
each, those of one policy related ones, and each router (with what else varies) has dashes and a marker of its
own. Many arms have the colour of their policy, or of their router where there is one policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Arm
from simsched.compare.samples import fixed_options, samples_of
from simsched.plotting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    policy_color,
    policy_line,
    scaled_marker,
)
from simsched.text.arm_names import arm_name
from simsched.text.options import differing

if TYPE_CHECKING:
    from simsched.results import Results

_OF_FLEETS = ("router", "num_replicas", "replicas")
_ALL = (BLACK, VERMILION, BLUE, ORANGE, GREEN, SKY, PURPLE, GREY)
_COLD, _WARM = (BLACK, BLUE, SKY, GREEN), (VERMILION, ORANGE, PURPLE, GREY)
_PAIRS = ((BLACK, GREY), (VERMILION, ORANGE), (BLUE, SKY), (GREEN, PURPLE))
_FAMILIES: dict[int, tuple[tuple[str, ...], ...]] = {1: (_ALL,), 2: (_COLD, _WARM), 3: _PAIRS, 4: _PAIRS}
"""Number of policies -> the colours of each."""
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (7, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")


@dataclass(frozen=True)
class Look:
    """Of one arm among those of its study."""

    color: str
    dashes: Any
    """A line style of matplotlib."""
    marker: str
    place: int
    """Among the arms, those of one policy together."""


@dataclass(frozen=True)
class Looks:
    """How the arms of a figure are drawn; one without arms draws every arm as its policy."""

    of_arms: Mapping[str, Look] = field(default_factory=dict)
    """Printed name -> its look, where arms differ in replicas or routers."""
    plain: Mapping[str, str] = field(default_factory=dict)
    """Printed name -> the name without labels, by which it is drawn elsewhere."""

    def line(self, arm: str, among: Iterable[str], *, markersize: float = 6.0) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot`: colour, marker, dashes; `among`: the figure's arms."""
        look = self.of_arms.get(arm)
        if look is None:
            others = [self.plain.get(each, each) for each in among]
            return policy_line(self.plain.get(arm, arm), others, markersize=markersize)
        line = {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
        return {**line, "markersize": scaled_marker(look.marker, markersize)}

    def curve(self, arm: str, among: Iterable[str]) -> dict[str, Any]:
        """The same of a line without markers, on which only arms behind routers have dashes."""
        line = self.line(arm, among)
        return {name: line[name] for name in ("color", *(["linestyle"] if arm in self.of_arms else []))}

    def ordered(self, arms: Iterable[str]) -> list[str]:
        """Arms as they are drawn and listed: those of one policy together where routers vary."""
        arms = list(arms)
        if all(arm in self.of_arms for arm in arms):
            arms.sort(key=lambda arm: self.of_arms[arm].place)
        return arms

    def markevery(self, arm: str, every: int) -> int | tuple[int, int]:
        """Which points of a line have a marker: every so many, in turn where arms may run on one another."""
        look = self.of_arms.get(arm)
        if look is None:
            return every
        return look.place * every // len(self.of_arms), every


def looks_of(results: Results, arms: Mapping[str, Arm], where: Mapping[str, Any] | None = None) -> Looks:
    """The looks of the arms (or lines) of a figure, which those of the whole study decide.

    Args:
        results: the study.
        arms: name in the figure -> its options.
        where: options that the figure holds fixed, which its arms may lack.
    """
    fixed = fixed_options(results, where)
    full = {name: {**fixed, **arm} for name, arm in arms.items()}
    looks = looks_among(full, list(samples_of(results).arms.values()))
    if not results.labels or looks.of_arms:
        return looks
    options = dict.fromkeys(option for arm in arms.values() for option in arm)
    varying = differing(options, arms.values())
    return Looks(plain={name: arm_name(arm, varying) for name, arm in arms.items()})


def looks_among(arms: Mapping[str, Arm], every: Sequence[Arm]) -> Looks:
    """The looks of named arms among all arms of their study."""
    if not differing(_OF_FLEETS, every):
        return Looks()
    looks = list(zip(every, _looks(every), strict=True))
    found = {
        name: look
        for name, arm in arms.items()
        if (look := next((look for each, look in looks if _agree(arm, each)), None)) is not None
    }
    return Looks(found)


def _agree(arm: Arm, other: Arm) -> bool:
    """Have they the same value of every option that both have?"""
    return all(other[name] == value for name, value in arm.items() if name in other)


def _looks(arms: Sequence[Arm]) -> list[Look]:
    """A look for each arm, no two alike."""
    policies = list(dict.fromkeys(str(arm["policy"]) for arm in arms))
    rests = [{name: value for name, value in arm.items() if name != "policy"} for arm in arms]
    variants = [rest for i, rest in enumerate(rests) if rest not in rests[:i]]
    families = _FAMILIES.get(len(policies))
    few = families is not None and len(variants) <= len(families[0])
    taken: set[tuple[str, int]] = set()
    found = []
    for arm, rest in zip(arms, rests, strict=True):
        row, variant = policies.index(str(arm["policy"])), variants.index(rest)
        color = families[row][variant] if families and few else _shared_color(arm, arms, policies)
        style = variant
        while (color, style) in taken:
            style += 1  # another arm of this colour has those dashes and that marker
        taken.add((color, style))
        dashes, marker = _DASHES[style % len(_DASHES)], _MARKERS[style % len(_MARKERS)]
        found.append(Look(color, dashes, marker, row * len(variants) + variant))
    return found


def _shared_color(arm: Arm, arms: Sequence[Arm], policies: Sequence[str]) -> str:
    """The colour of an arm among too many for a colour each: its policy's, or of one policy its router's."""
    if len(policies) > 1:
        return policy_color(str(arm["policy"]), policies)
    values = {name: list(dict.fromkeys(str(each.get(name)) for each in arms)) for name in _OF_FLEETS}
    option = next(name for name in _OF_FLEETS if len(values[name]) > 1)
    return _ALL[values[option].index(str(arm.get(option))) % len(_ALL)]
