"""A ranker against a file: every measure, the baselines, the ceiling and the time; as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.files import write_file
from simsched.predictors.data import PromptFile, examples, lengths
from simsched.predictors.evaluation import ceiling, judge, order_regret, tau_b, time_per_prompt
from simsched.predictors.model import Ranker


def evaluate(
    ranker: Ranker,
    file: PromptFile,
    prompt_column: str = "prompt",
    length_column: str = "output_length",
    sample_columns: Sequence[str] = (),
    *,
    seed: int = 0,
    resamples: int = 300,
) -> dict[str, Any]:
    """The measures of `evaluation.judge`, and the context they need.

    `ms_per_prompt` is at batch 32, `ms_per_prompt_by_batch` at 1 and 32, timed here and now.

    Raises:
        InputError: fewer than two prompts, which have no order.
    """
    if len(file) < 2:
        raise InputError(f"--data {file.path}: 1 usable prompt; expected at least 2, to have an order")
    prompts = file.columns[prompt_column]
    true = lengths(file, length_column)
    measures = judge(ranker.predict(prompts), true, ranker.readout.bounds, seed=seed, resamples=resamples)
    seconds = time_per_prompt(ranker.backbone, prompts)
    by_length = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
    data = examples(file, prompt_column, (length_column,))
    return {
        **measures,
        "ms_per_prompt": seconds["32"] * 1e3,
        "ms_per_prompt_by_batch": {size: value * 1e3 for size, value in seconds.items()},
        "baselines": {
            "prompt_length": _baseline(by_length, true),
            "constant": _baseline(np.zeros_like(true), true),
        },
        "ceiling": ceiling({name: lengths(file, name) for name in sample_columns}, true),
        "backbone": ranker.card["backbone"],
        "loss": ranker.card["loss"],
        "data_hash": data.hash,
        "repeated_prompts": data.duplicates,
        "dropped": file.dropped,
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per data set, then the first one's details."""
    width = max(map(len, results))
    lines = [f"{'data':{width}}  {'n':>6}    tau   95 % CI         prompt length"]
    for name, entry in results.items():
        low, high = entry["kendall_tau_ci"]
        lines.append(
            f"{name:{width}}  {entry['n']:>6}  {entry['kendall_tau']:>5.3f}  {low:>6.3f} to {high:<6.3f}  "
            f"{entry['baselines']['prompt_length']['kendall_tau']:>6.3f}"
        )
    first = next(iter(results.values()))
    regions = first["regions"]
    ceilings = first["ceiling"]
    coverage = ", ".join(f"{level}: {share:.3f}" for level, share in first.get("coverage", {}).items())
    by_batch = first["ms_per_prompt_by_batch"]
    lines += [
        "",
        f"Spearman {first['spearman']:.3f}; class accuracy {first['class_accuracy']:.3f} "
        f"({first['num_classes']} classes; always the commonest: "
        f"{first['class_accuracy_of_the_commonest']:.3f}); tau of the class {first['class_tau']:.3f}",
        *(
            f"tau in batches of {size}: {taus['mean']:.3f} on average, {taus['p10']:.3f} at the lowest decile"
            for size, taus in first["batch_tau"].items()
        ),
        "by thirds of the true length, tau inside and rank shift: "
        + ", ".join(
            f"{name} {part['kendall_tau']:.3f} {part['rank_shift']:+.3f}" for name, part in regions.items()
        ),
        f"regret of the order (0 = true lengths, 1 = random): latency {first['regret_latency']:.3f}, "
        f"latency per token {first['regret_latency_per_token']:.3f}",
        *([f"true lengths no longer than the predicted quantile, {coverage}"] if coverage else []),
        *(["ceiling: " + ", ".join(f"{k} {v:.3f}" for k, v in ceilings.items())] if ceilings else []),
        f"{by_batch['1']:.2f} ms a prompt alone, {by_batch['32']:.2f} ms in batches of 32",
    ]
    return "\n".join(lines)


def write_json(path: str | Path, entry: Mapping[str, Any]) -> None:
    """Atomic."""
    write_file(Path(path), (json.dumps(entry, indent=1) + "\n").encode())


def _baseline(scores: Any, true: Any) -> dict[str, float]:
    return {
        "kendall_tau": tau_b(scores, true),
        "regret_latency": order_regret(scores, true, per_token=False),
        "regret_latency_per_token": order_regret(scores, true, per_token=True),
    }
