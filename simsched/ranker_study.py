"""Learned rankers end to end: train, judge in and out of distribution, simulate, check the emulation.

    python -m simsched.ranker_study --data DIR -o OUT [--encoder]

DIR holds `prompts/` with the Vicuna/Alpaca lengths, MMLU-Pro and ZeroEval (docs/rankers.md names their
sources). OUT gets the models, traces for `simsched run plots/learned-rankers.yaml --data OUT`, and the
tables of docs/rankers.md.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from simsched.compare.statistics import Ratio, paired_ratio
from simsched.cost_model.profile import load_profile
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.metrics import summarize
from simsched.policies.spec import make_policy
from simsched.predictors.base import Buckets
from simsched.predictors.data import PromptFile, examples, lengths, read_prompts
from simsched.predictors.evaluation import judge
from simsched.predictors.judgement import evaluate
from simsched.predictors.model import Ranker, is_model, load_model
from simsched.predictors.spec import apply_predictor
from simsched.predictors.training import Options, train_ranker
from simsched.workload.arrivals import Arrivals
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace

LENGTH = "L_t0.7"
OTHERS = ("L_t0.0", "L_t0.3", "L_t0.5")
ELSEWHERE = {
    "MMLU-Pro": ("mmlupro_llama31_8b_instruct.parquet", ()),
    "ZeroEval": ("zeroeval_llama3_instruct.parquet", ("model=Meta-Llama-3-8B-Instruct",)),
}
ELSEWHERE_ROWS = 2000
PROFILE = "a100-80gb/llama-3-8b"
METRICS = ("mean_latency_per_token_ms", "p90_latency_per_token_ms", "mean_ttft_ms", "mean_e2el_ms")
CLASSES = 10

# Vicuna's answers stop at 512 tokens, so ten fixed buckets are 52 tokens wide (the paper's 820 put every
# answer into one class).
RANKERS: dict[str, Options] = {
    "light": Options(),
    "light-listmle": Options(loss="listmle"),
    "light-fixed": Options(loss="classification", buckets=Buckets("fixed", width=52)),
    "light-percentile": Options(loss="classification", buckets=Buckets("percentile", count=CLASSES)),
}
ENCODER = {"encoder": Options(backbone="encoder")}


@dataclass(frozen=True)
class Entry:
    """One line of the simulated comparison: a policy with a source of predictions."""

    policy: str
    columns: Mapping[str, Any]
    """Predictions of the simulated requests; empty: `predictor` makes them."""
    predictor: str | None = None
    predictor_time: float = 0.0


def rankers_of(
    data: PromptFile, wanted: Mapping[str, Options], out: Path, samples: Sequence[str]
) -> dict[str, Ranker]:
    """Train what is not in OUT/models yet, on one length a prompt and, if any, further samples."""
    found = {}
    for name, options in wanted.items():
        folder = out / "models" / name
        if not is_model(folder):
            click.echo(f"training {name}", err=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            checkpoint = folder.with_name(folder.name + ".checkpoint")
            train_ranker(examples(data, "prompt", (LENGTH, *samples)), options, checkpoint, _say).save(folder)
        found[name] = load_model(folder)
    return found


def judgements(rankers: Mapping[str, Ranker], test: PromptFile, folder: Path) -> dict[str, Any]:
    """Ranker -> data set -> measures; and what other samples of the same prompts would reach."""
    sets: dict[str, tuple[PromptFile, str, tuple[str, ...]]] = {"Vicuna/Alpaca": (test, LENGTH, OTHERS)}
    for name, (file, where) in ELSEWHERE.items():
        rows = read_prompts(folder / file, where)
        pick = np.random.default_rng(0).permutation(len(rows))[:ELSEWHERE_ROWS]
        sets[name] = (rows.take(pick.tolist()), "output_tokens_llama3", ())
    return {
        ranker_name: {
            set_name: evaluate(ranker, file, "prompt", column, samples, resamples=100)
            for set_name, (file, column, samples) in sets.items()
        }
        for ranker_name, ranker in rankers.items()
    }


def simulate_entries(
    requests: Trace, entries: Mapping[str, Entry], rates: Sequence[float], num_requests: int, runs: int
) -> dict[str, dict[float, dict[str, list[float]]]]:
    """Entry -> rate -> metric -> a value per run. Entries share the requests and arrivals of a run."""
    profile = load_profile(PROFILE)
    config = engine_config("vllm-v1")
    config = config.model_copy(
        update={
            "num_gpu_blocks": profile.num_gpu_blocks(config.block_size),
            "max_model_len": profile.max_model_len,
        }
    )
    results: dict[str, dict[float, dict[str, list[float]]]] = {}
    for rate in rates:
        for run in range(runs):
            rows = np.random.default_rng(run).permutation(len(requests))[:num_requests]
            arrivals = Arrivals.parse("poisson").times(num_requests, rate, run)
            for name, entry in entries.items():
                trace = requests.with_columns(**entry.columns).take(rows)
                trace = trace.with_columns(arrival_time=arrivals)
                policy = make_policy(entry.policy)
                trace, _ = apply_predictor(entry.predictor, policy, trace, seed=run)
                record = simulate(
                    trace, policy, profile.cost, config, predictor_time=entry.predictor_time, seed=run
                )
                metrics = summarize(record)
                values = results.setdefault(name, {}).setdefault(rate, {metric: [] for metric in METRICS})
                for metric in METRICS:
                    values[metric].append(metrics[metric])
            click.echo(f"{rate:g} req/s, run {run + 1} of {runs}", err=True)
    return results


def requests_of(rows: PromptFile) -> Trace:
    """The test prompts as requests, all at t = 0."""
    return Trace(
        arrival_time=np.zeros(len(rows)),
        num_prompt_tokens=np.array(rows.columns["prompt_tokens_llama"], dtype=np.int64),
        num_output_tokens=np.array(rows.columns[LENGTH], dtype=np.int64),
        name="vicuna-alpaca",
    )


def predictions(rankers: Mapping[str, Ranker], rows: PromptFile) -> dict[str, dict[str, Any]]:
    """Ranker -> columns; and `sample`, another sample of the same prompts, the paper's "oracle"."""
    found = {name: ranker.predict(rows.columns["prompt"]) for name, ranker in rankers.items()}
    other = lengths(rows, OTHERS[-1])
    bounds = Buckets("percentile", count=CLASSES).upper_bounds(other.astype(np.int64))
    classes = np.searchsorted(bounds, other, side="left")
    found["sample"] = {"score": other, "predicted_class": classes, "predicted_length": other}
    return found


def write_sample(path: Path, columns: Mapping[str, Any], true: Any) -> None:
    """Lengths and predictions as `--predictor "empirical(file=...)"` reads them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["output_length", *columns])
        writer.writerows(zip(true.tolist(), *(values.tolist() for values in columns.values()), strict=True))


def entries_of(
    predicted: Mapping[str, Mapping[str, Any]],
    rankers: Mapping[str, Ranker],
    tau: Mapping[str, float],
    seconds: Mapping[str, float],
    out: Path,
) -> dict[str, Entry]:
    """The comparison of the paper with learned scores, then each ranker's emulations.

    `seconds` is each ranker's time a prompt, which its runs and those of its emulations pay.
    """
    found = {"FCFS": Entry("fcfs", {})}
    for name, ranker in rankers.items():
        by_class = ranker.card["loss"] == "classification"
        policy = "classification" if by_class else "ranking"
        found[name] = Entry(policy, predicted[name], "trace", seconds[name])
    found["other sample"] = Entry("ranking", predicted["sample"], "trace")
    found["SRTF, true lengths"] = Entry("srtf", {}, "oracle")
    for name in (name for name in rankers if rankers[name].card["loss"] != "classification"):
        found[f"{name}: emulated tau"] = Entry("ranking", {}, f"emulated(tau={tau[name]:.4f})", seconds[name])
        sample = f"empirical(file={out / 'samples' / name}.csv)"
        found[f"{name}: empirical"] = Entry("ranking", {}, sample, seconds[name])
    return found


def ranker_table(judged: Mapping[str, Any], rankers: Mapping[str, Ranker]) -> str:
    """Markdown: each ranker in and out of distribution, with baselines and ceiling."""
    lines = [
        "| ranker | tau (95 % CI) | class: tau, accuracy | regret latency / per token | "
        + " | ".join(f"tau {name}" for name in ELSEWHERE)
        + " | ms a prompt (batch 1 / 32) | training |",
        "|---" * (6 + len(ELSEWHERE)) + "|",
    ]
    for name, sets in judged.items():
        first = sets["Vicuna/Alpaca"]
        low, high = first["kendall_tau_ci"]
        alone, batched = (first["ms_per_prompt_by_batch"][size] for size in ("1", "32"))
        lines.append(
            f"| {name} | {first['kendall_tau']:.3f} ({low:.3f} to {high:.3f}) | "
            f"{first['class_tau']:.3f}, {first['class_accuracy']:.2f} | "
            f"{first['regret_latency']:.3f} / {first['regret_latency_per_token']:.3f} | "
            + " | ".join(f"{sets[other]['kendall_tau']:.3f}" for other in ELSEWHERE)
            + f" | {alone:.2f} / {batched:.2f} | {rankers[name].card['train_seconds']:.0f} s |"
        )
    sets = next(iter(judged.values()))
    baseline = sets["Vicuna/Alpaca"]["baselines"]["prompt_length"]
    lines.append(
        f"| prompt length | {baseline['kendall_tau']:.3f} | | {baseline['regret_latency']:.3f} / "
        f"{baseline['regret_latency_per_token']:.3f} | "
        + " | ".join(f"{sets[name]['baselines']['prompt_length']['kendall_tau']:.3f}" for name in ELSEWHERE)
        + " | | |"
    )
    for name, tau in sets["Vicuna/Alpaca"]["ceiling"].items():
        lines.append(f"| another sample: {name} | {tau:.3f} | | | {' | ' * len(ELSEWHERE)} | |")
    return "\n".join(lines)


def simulation_table(
    results: Mapping[str, Mapping[float, Mapping[str, Sequence[float]]]],
    entries: Mapping[str, Entry],
    tau: Mapping[str, float],
    baseline: Mapping[str, str],
) -> str:
    """Markdown: geometric means over runs, and the ratio to each entry's baseline with its 95 % interval."""
    rates = list(next(iter(results.values())))
    lines = [
        "| predictions | policy | tau | "
        + " | ".join(f"{rate:g} req/s: ms a token, ratio (95 % CI), TTFT ms" for rate in rates)
        + " |",
        "|---" * (3 + len(rates)) + "|",
    ]
    for name, base in baseline.items():
        cells = []
        for rate in rates:
            own = results[name][rate]
            ratio = paired_ratio(own[METRICS[0]], results[base][rate][METRICS[0]])
            shown = "" if name == base else f", {_interval(ratio)}"
            cells.append(f"{_mean(own[METRICS[0]]):.1f}{shown}, {_mean(own['mean_ttft_ms']):.0f}")
        known = f"{tau[name]:.3f}" if name in tau else ""
        lines.append(f"| {name} | {entries[name].policy} | {known} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(ratio: Ratio) -> str:
    return f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio.low else f"{ratio.ratio:.3f}"


def _mean(values: Sequence[float]) -> float:
    return math.exp(float(np.mean(np.log(values))))


def _say(done: int, total: int, note: str) -> None:
    if "validation tau" in note:
        click.echo(f"{done}/{total} {note}", err=True)


@click.command()
@click.option("--data", required=True, metavar="DIR", help="Folder with prompts/.")
@click.option("--output", "-o", required=True, metavar="OUT", help="Folder to write.")
@click.option("--encoder", is_flag=True, help="Train the encoder too (about a quarter of an hour, 2 cores).")
@click.option("--rates", default="100,200", show_default=True, help="Requests/s.")
@click.option("--num-requests", default=1500, show_default=True, type=click.IntRange(10))
@click.option("--num-runs", default=3, show_default=True, type=click.IntRange(2))
def main(data: str, output: str, encoder: bool, rates: str, num_requests: int, num_runs: int) -> None:
    """Train, judge and simulate learned rankers; models that OUT has already are used as they are."""
    out = Path(output)
    prompts = Path(data) / "prompts"
    file = prompts / "vicuna7b_alpaca20k.parquet"
    train, test = (read_prompts(file, (f"source_split={split}",)) for split in ("train", "val"))
    rankers = rankers_of(train, {**RANKERS, **(ENCODER if encoder else {})}, out, ())
    judged = judgements(rankers, test, prompts)
    # the emulation learns its errors from one half of the test prompts, the simulation has the other
    order = np.random.default_rng(0).permutation(len(test))
    known, simulated = (test.take(half.tolist()) for half in np.array_split(order, 2))
    for folder in ("samples", "traces"):
        (out / folder).mkdir(exist_ok=True)
    for name, columns in predictions(rankers, known).items():
        write_sample(out / "samples" / f"{name}.csv", columns, lengths(known, LENGTH))
    requests, predicted = requests_of(simulated), predictions(rankers, simulated)
    for name, columns in predicted.items():
        write_trace(requests.with_columns(**columns), out / "traces" / f"{name}.jsonl")
    true = lengths(simulated, LENGTH)
    tau = {
        name: judge(columns, true, np.empty(0, dtype=np.int64), resamples=20)[
            "class_tau"
            if name in rankers and rankers[name].card["loss"] == "classification"
            else "kendall_tau"
        ]
        for name, columns in predicted.items()
    }
    seconds = {name: sets["Vicuna/Alpaca"]["ms_per_prompt"] / 1e3 for name, sets in judged.items()}
    entries = entries_of(predicted, rankers, tau, seconds, out)
    chosen = [float(rate) for rate in rates.split(",")]
    results = simulate_entries(requests, entries, chosen, num_requests, num_runs)
    emulated = {name: name.partition(":")[0] for name in entries if ": " in name}
    compared = {name: "FCFS" for name in entries if name not in emulated}
    shown = {**tau, "other sample": tau["sample"]}
    tables = "\n\n".join(
        (
            ranker_table(judged, rankers),
            simulation_table(results, entries, shown, compared),
            simulation_table(results, entries, shown, emulated),
        )
    )
    (out / "rankers.md").write_text(tables + "\n", encoding="utf-8")
    (out / "rankers.json").write_text(json.dumps({"judged": judged, "simulated": results}, indent=1) + "\n")
    click.echo(tables)


if __name__ == "__main__":
    main()
