"""Three questions to a replay and its prediction, each with its own answer: decisions, times, orders.

A simulator may decide as the engine did and be wrong about time; it may be right about time once it is told
how fast the host was, and wrong without, because nobody could know. One figure for all of that says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from simsched.results import Results
from validate.replayed import FACTS, read_facts
from validate.verdict import rate_text

MEAN, P99, TPOT = "mean_latency_per_token_ms", "p99_latency_per_token_ms", "mean_tpot_ms"


@dataclass(frozen=True)
class Limits:
    """What errors of a prediction may be (0.05 = 5 %); None: not judged."""

    mean_latency: float = 0.05
    """Mean latency per token, in the mean over all cells."""
    mean_latency_each: float = 0.10
    """The same of each cell. Blind, up to the spread of the real runs where that is more."""
    p99_latency: float | None = 0.12
    """P99 of the latency per token of each cell."""
    tpot: float | None = 0.06
    """Mean time per output token of each cell."""
    speedup: float | None = 0.08
    """Speed-up over the baseline of each cell."""


GIVEN = Limits()
# No profile knows how fast the host will be: the level alone is judged, and against what the machine repeats.
BLIND = Limits(mean_latency=0.10, p99_latency=None, tpot=None, speedup=None)


def judge(
    replays: Sequence[Results],
    simulated: Results,
    result: Mapping[str, Any],
    blind: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All three verdicts.

    Args:
        replays: of the same study.
        simulated: of it, at the host speed that its manifest says; blind where it says none.
        result: of comparing these.
        blind: of comparing the same replays with a blind simulation.
    """
    asked = simulated.manifest.get("host_speed", {}).get("asked")
    given = times_verdict(result, "given") if asked == "given" else None
    if given is None:
        blind = result
    facts = [read_facts(replay.path) for replay in replays if (replay.path / FACTS).is_file()]
    return {
        "decisions": decisions_verdict(facts) if facts else None,
        "times_given": given,
        "times_blind": None if blind is None else times_verdict(blind, None),
        "order": order_verdict(result),
    }


def times_verdict(result: Mapping[str, Any], host_speed: Literal["given"] | None) -> dict[str, Any]:
    """Are the times of a comparison within the limits of what its simulation knew?

    Args:
        result: of `compare_results`.
        host_speed: `given`: each cell was simulated at the speed that its own log shows; None: blind.
    """
    blind = host_speed != "given"
    limits = BLIND if blind else GIVEN
    failures: list[str] = []
    errors: dict[str, Any] = {}
    checks: dict[str, tuple[Callable[[Mapping[str, Any]], Mapping[str, Any] | None], float | None]] = {
        "mean_latency": (lambda row: row["metrics"][MEAN], limits.mean_latency_each),
        "p99_latency": (lambda row: row["metrics"][P99], limits.p99_latency),
        "tpot": (lambda row: row["metrics"][TPOT], limits.tpot),
        "speedup": (lambda row: row["speedup"], limits.speedup),
    }
    for name, (pick, limit) in checks.items():
        found = [
            (where, pair)
            for where, policy, row in _cells(result)
            if (pair := pick(row)) is not None and not (name == "speedup" and policy == result["baseline"])
        ]
        errors[name] = _sizes([pair["relative_error"] for _, pair in found])
        for where, pair in found if limit is not None else ():
            most = max(limit or 0.0, pair["spread"] or 0.0) if blind else limit
            if not abs(pair["relative_error"]) <= most:
                failures.append(f"{where}: {name} {pair['relative_error']:+.1%} (limit {most:.0%})")
    typical = errors["mean_latency"]["mean_absolute"]
    if not blind and not typical <= limits.mean_latency:
        failures.append(f"mean latency: {typical:.1%} in the mean (limit {limits.mean_latency:.0%})")
    return {
        "host_speed": host_speed,
        "within_limits": not failures,
        "errors": errors,
        "limits": asdict(limits),
        "failures": failures,
    }


def order_verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Are pairs of policies whose real runs don't overlap simulated in their order? One replay of each can't
    say which those are, so nothing is judged then."""
    loads = result["loads"]
    judged = result["replays"] > 1
    wrong = [
        f"{load['workload']} at {rate_text(load['request_rate'])}: {better} < {worse}"
        for load in loads
        for better, worse in load["order_reversed"]
    ]
    pairs = sum(load["order_distinct"] for load in loads)
    return {
        "judged": judged,
        "pairs": pairs,
        "overlapping": sum(len(load["order_tied"]) for load in loads),
        "wrong": wrong,
        "tau": 1 - 2 * len(wrong) / pairs if pairs else None,
        "within_limits": not wrong if judged and pairs else None,
    }


def decisions_verdict(replays: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the replays' own checks of decisions found.

    Args:
        replays: the content of each `replay.json`.
    """
    steps, different, unjudged = 0, [], []
    for facts in replays:
        for cell, known in facts["cells"].items():
            found = known.get("decisions")
            if found is None or found.get("not_judged"):
                unjudged.append(cell)
            else:
                steps += found["steps"]
                if found["first_difference"]:
                    different.append(f"{cell}: {found['first_difference']}")
    return {
        "steps": steps,
        "different": different,
        "not_judged": unjudged,
        "within_limits": not different if steps else None,
    }


def to_lines(verdicts: Mapping[str, Any]) -> list[str]:
    """The verdicts for people, a line each and one for each failure."""
    lines = []
    decisions = verdicts["decisions"]
    if decisions is not None:
        text = f"decisions: {decisions['steps']:,} steps checked, {len(decisions['different'])} runs differ"
        if decisions["not_judged"]:
            text += f"; {len(decisions['not_judged'])} runs not judged (python -m validate decisions)"
        lines += [text, *(f"  {each}" for each in decisions["different"])]
    for key in ("times_given", "times_blind"):
        times = verdicts[key]
        if times is None:
            continue
        what = "host speed given" if key == "times_given" else "blind"
        parts: dict[bool, list[str]] = {True: [], False: []}
        for name, sizes in times["errors"].items():
            if sizes["worst"] is not None:
                judged = times["limits"].get(name) is not None
                said = f"{name.replace('_', ' ')} {sizes['mean_absolute']:.1%} (worst {sizes['worst']:+.1%})"
                parts[judged].append(said)
        inside = "within limits" if times["within_limits"] else "outside limits"
        unjudged = f"; not judged: {', '.join(parts[False])}" if parts[False] else ""
        lines += [
            f"times, {what}: {inside}; {', '.join(parts[True])}{unjudged}",
            *(f"  {each}" for each in times["failures"]),
        ]
    order = verdicts["order"]
    if not order["judged"]:
        lines.append("order: not judged; it takes several replays (--again) to tell which pairs differ")
    else:
        lines.append(
            f"order: {order['pairs']} pairs whose real runs don't overlap, {len(order['wrong'])} of them "
            f"simulated the other way round; {order['overlapping']} pairs overlap"
        )
        lines += [f"  {each}" for each in order["wrong"]]
    return lines


def _cells(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for load in result["loads"]:
        for policy, row in load["policies"].items():
            yield f"{load['workload']} at {rate_text(load['request_rate'])}, {policy}", policy, row


def _sizes(errors: list[float]) -> dict[str, float | None]:
    if not errors:
        return {"mean_absolute": None, "worst": None, "cells": 0}
    return {
        "mean_absolute": float(np.mean(np.abs(errors))),
        "worst": max(errors, key=abs),
        "cells": len(errors),
    }
