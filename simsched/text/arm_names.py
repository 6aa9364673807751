"""What arms are called, and names of one's own for them or for what they have in common:
`"Sticky=router=session"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simsched.errors import InputError
from simsched.text.selection import parse_arm, same_value
from simsched.text.specs import split_specs

Label = Mapping[str, str]
"""The options that a name stands for, as typed; a policy is the option `policy`."""
Labels = Mapping[str, Label]


def parse_labels(texts: Sequence[str], options: Sequence[str], flag: str = "--label") -> dict[str, Label]:
    """`["Sticky=router=session, Ours=ranking,router=session"]` -> `{"Sticky": {"router": "session"}, "Ours":
    {"policy": "ranking", "router": "session"}}`.

    Args:
        texts: of each, labels `NAME=ARM`, an arm as `--baseline` takes it; behind a comma an option goes on
            with the arm, and any other name is the next label.
        options: the names of options.
        flag: what to call it in an error.

    Raises:
        InputError: not of that form, a name given twice, or one that an arm could not be told by.
    """
    arms: dict[str, list[str]] = {}
    for text in texts:
        current: list[str] | None = None
        for part in split_specs(text):
            name, equals, rest = (piece.strip() for piece in part.partition("="))
            if current is not None and (not equals or name.replace("-", "_") in options):
                current.append(part)
                continue
            if not name or not rest or name.replace("-", "_") in options or set(name) & set("();:"):
                raise InputError(f'{flag} {text}: expected NAME=ARM, such as "Sticky=router=session"')
            if name in arms:
                raise InputError(f"{flag} {text}: {name} twice; expected each name once")
            current = arms[name] = [rest]
    labels: dict[str, Label] = {}
    for name, parts in arms.items():
        policy, given = parse_arm(",".join(parts), f"{flag} {name}:")
        labels[name] = ({} if policy is None else {"policy": policy}) | given
    return labels


def study_labels(labels: Mapping[str, str] | None, options: Sequence[str]) -> dict[str, Label]:
    """The labels of a study that are of routers, other options or whole arms; one of a policy alone is what
    the column `policy` says."""
    texts = [f"{name}={text}" for name, text in (labels or {}).items()]
    found = parse_labels(texts, options)
    return {name: label for name, label in found.items() if label.keys() != {"policy"}}


def stands_for(label: Label) -> str:
    """A label's options as they are typed: `"ranking, router=session"`."""
    return ", ".join(value if name == "policy" else f"{name}={value}" for name, value in label.items())


def resolved(labels: Labels, arms: Sequence[Mapping[str, Any]], flag: str = "--label") -> dict[str, Label]:
    """Labels with the specifications of their policies, of which a name is enough where it means one.

    Args:
        labels: name -> options.
        arms: all that there are, each with the options that vary.
        flag: what to call it in an error.

    Raises:
        InputError: a label that no arm fits, or several policies; those that there are are listed.
    """
    policies = list(dict.fromkeys(str(arm["policy"]) for arm in arms))
    found = {}
    for name, label in labels.items():
        wanted = label.get("policy")
        if wanted is not None and wanted not in policies:
            fitting = [each for each in policies if each.partition("(")[0] == wanted]
            if len(fitting) > 1:
                raise InputError(f"{flag} {name}={wanted}: expected one of {'; '.join(fitting)}")
            label = {**label, "policy": fitting[0] if fitting else wanted}
        if not any(fits(label, arm) for arm in arms):
            raise InputError(f"{flag} {name}={stands_for(label)}: no arm has that; there are {_there(arms)}")
        found[name] = label
    return found


def _there(arms: Sequence[Mapping[str, Any]]) -> str:
    """What arms have: `"fcfs, ranking; router=session, router=vllm-dp"`."""
    known: dict[str, dict[str, None]] = {}
    for option, value in (item for arm in arms for item in arm.items()):
        if value is not None:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            known.setdefault(option, {})[shown if option == "policy" else f"{option}={shown}"] = None
    return "; ".join(", ".join(values) for values in known.values())


def in_view(labels: Labels, rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> dict[str, Label]:
    """The labels of what is looked at: without options that all of its rows share, as those that are held
    fixed, unless they are the policy; a label of other values of those is of no use there."""
    found: dict[str, Label] = {}
    for name, label in labels.items():
        fixed = {option: value for option, value in label.items() if option not in (*shown, "policy")}
        left = {option: value for option, value in label.items() if option not in fixed}
        if left and rows and fits(fixed, rows[0]):
            found[name] = left
    return found


def arm_name(arm: Mapping[str, Any], shown: Sequence[str], labels: Labels | None = None) -> str:
    """An arm as it is printed: `"ranking, max_num_seqs=256"`, of the options `shown`; a policy alone by
    itself. A label stands in the place of the options that it is for."""
    usable = {name: of for name, of in (labels or {}).items() if of.keys() <= {*shown, "policy"}}
    said = labels_of_arm(arm, usable)
    policy = ["policy"] if "policy" in shown or len(shown) == 0 or "policy" in said else []
    parts = []
    for name in [*policy, *(name for name in shown if name != "policy")]:
        value = arm.get(name)
        if name in said:
            parts.append(said[name])
        elif name == "policy":
            parts.append(str(value))
        elif value is not None and not (name == "cost_profile" and arm.get("replicas") is not None):
            parts.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return ", ".join(dict.fromkeys(parts)) or str(arm["policy"])


def name_arms(
    arms: Sequence[Mapping[str, Any]], shown: Sequence[str], labels: Labels
) -> dict[str, dict[str, Any]]:
    """Printed name -> arm, in the order in which they come first.

    Raises:
        InputError: labels leave two arms with one name.
    """
    named: dict[str, dict[str, Any]] = {}
    for arm in arms:
        name = arm_name(arm, shown, labels)
        if named.setdefault(name, dict(arm)) != arm and labels:
            both = " and ".join(arm_name(each, shown) for each in (named[name], arm))
            raise InputError(f"--label: {both} would both be called {name}")
    return named


def labels_of_arm(arm: Mapping[str, Any], labels: Labels) -> dict[str, str]:
    """Option -> the label that says it; of two labels for one option that of more options."""
    found: dict[str, str] = {}
    for name, label in sorted(labels.items(), key=lambda item: -len(item[1])):
        if not found.keys() & label.keys() and fits(label, arm):
            found |= dict.fromkeys(label, name)
    return found


def fits(label: Label, arm: Mapping[str, Any]) -> bool:
    """Has the arm every value of a label?"""
    return all(option in arm and same_value(arm[option], text) for option, text in label.items())
