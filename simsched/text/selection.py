"""Which of a grid's arms is meant: a policy and `NAME=VALUE`, as typed on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simsched.errors import InputError
from simsched.text.specs import split_specs


def parse_arm(text: str, option: str) -> tuple[str | None, dict[str, str]]:
    """`"fcfs,max_num_seqs=256"` -> ("fcfs", {"max_num_seqs": "256"}); either may be missing."""
    policy: str | None = None
    given: dict[str, str] = {}
    for part in split_specs(text):
        name, equals, value = part.strip().partition("=")
        if equals and name.replace("_", "").replace("-", "").isalnum() and "(" not in name:
            given[name.strip().replace("-", "_")] = value.strip()
        elif policy is None:
            policy = part.strip()
        else:
            raise InputError(f"{option} {text}: two policies; expected one, then NAME=VALUE")
    return policy, given


def same_value(value: Any, text: str) -> bool:
    """Does a typed text mean this value of an option? 256 and 256.0 are one, and so are True and true."""
    if value is None:
        return text.lower() in ("none", "–", "-", "")
    if isinstance(value, bool):
        return text.lower() in (("true", "yes", "1") if value else ("false", "no", "0"))
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text


def parse_where(texts: Sequence[str], option: str = "--where") -> dict[str, str]:
    """`["max_num_seqs=256,request_rate=8"]` -> {"max_num_seqs": "256", "request_rate": "8"}."""
    found: dict[str, str] = {}
    for text in texts:
        policy, given = parse_arm(text, option)
        found |= given if policy is None else {"policy": policy, **given}
    return found
