"""How tables name arms where space is short: a letter with a key, or a column for each option."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Arm, is_chosen
from simsched.compare.phrases import option_text
from simsched.compare.samples import fixed_options, samples_of
from simsched.text.options import differing
from simsched.text.table import table_width, text_table

if TYPE_CHECKING:
    from simsched.compare.samples import Samples
    from simsched.results import Results

LONGEST_NAME = 56
"""Letters of an arm's name, beyond which tables and sentences are unreadable."""


def with_letters(
    directories: Sequence[Results], where: Mapping[str, Any] | None = None, also: Collection[str] = ()
) -> tuple[list[Results], str]:
    """Results whose arms are called A, B, ... where a name is too long for a table, but for those with a
    label; and a key of the letters, empty where the names stay.

    Args:
        directories: results, the arms of the first of which decide.
        where: options that are held fixed.
        also: options to keep though they don't vary there.
    """
    arms = samples_of(directories[0], also, where).arms
    if max(map(len, arms)) <= LONGEST_NAME:
        return list(directories), ""
    given = directories[0].labels
    held = {name: value for name, value in fixed_options(directories[0], where).items() if is_chosen(name)}
    letter_of = {name: letters(i) for i, name in enumerate(arms) if name not in given}
    labels = {letter: _typed({**held, **arms[name]}) for name, letter in letter_of.items()}
    named = [replace(each, labels={**labels, **each.labels}) for each in directories]
    key = [f"  {letter}: {name}" for name, letter in letter_of.items()]
    return named, "\n".join(["Arms (--label gives them names of yours):", *key])


def _typed(arm: Arm) -> dict[str, str]:
    return {name: "none" if value is None else str(value) for name, value in arm.items()}


def letters(number: int) -> str:
    """0 -> A, 25 -> Z, 26 -> AA, 27 -> AB."""
    rest, last = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + last)


def arm_table(
    samples: Samples, headers: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None
) -> str:
    """A table whose first column is the name of an arm, at most `width` letters wide; where it is wider, each
    option of an arm has a column of its own, so that the option's name is said once, above."""
    if width is None or table_width(headers, rows) <= width:
        return text_table(headers, rows, width=width)
    options, cells = option_columns(samples)
    split = [[*cells[row[0]], *row[1:]] for row in rows]
    return text_table([*options, *headers[1:]], split, left=range(len(options)), width=width)


def telling_options(samples: Samples) -> list[str]:
    """The options that tell arms apart, without the cost profile where replicas say it."""
    arms = list(samples.arms.values())
    fleets = any(arm.get("replicas") for arm in arms)
    return [name for name in differing(arms[0], arms) if not (fleets and name == "cost_profile")]


def option_columns(samples: Samples) -> tuple[list[str], dict[str, list[str]]]:
    """The options of which arms' names are made, and arm -> its value of each; with labels, one column."""
    arms = samples.arms
    varying = telling_options(samples)
    if samples.labels or len(varying) < 2:
        return ["arm"], {arm: [arm] for arm in arms}
    return varying, {arm: [option_text(of.get(name)) for name in varying] for arm, of in arms.items()}
