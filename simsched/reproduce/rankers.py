"""Learned rankers end to end: train, judge in and out of distribution, simulate, check the emulation.

    python -m simsched.reproduce.rankers --data DIR -o OUT

DIR holds `prompts/` with the Vicuna/Alpaca lengths, MMLU-Pro and ZeroEval (docs/rankers.md names their
sources). OUT gets the models, the figure and the tables of docs/rankers.md, and the simulated requests with
each ranker's predictions as traces for `simsched run plots/learned-scores.yaml --data OUT`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from simsched.engine.config import EngineConfig
from simsched.errors import InputError
from simsched.metrics import summarize
from simsched.plotting.figures import save
from simsched.predictors.base import Buckets
from simsched.predictors.data import PromptFile, examples, lengths, read_prompts
from simsched.predictors.evaluation import tau_b
from simsched.predictors.judgement import evaluate
from simsched.predictors.model import Ranker, is_model, load_model
from simsched.predictors.training import Options, discard, train_ranker
from simsched.reproduce.ranker_tables import HOME, METRICS, draw, ranker_table, simulation_table
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import prepare
from simsched.sweep.run import run as simulate
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
GPU_TIME = 0.0013  # seconds a prompt: what the paper's ranker takes on its GPU (docs/cost-model.md)
ON_GPU = f"encoder, {GPU_TIME * 1e3:g} ms a prompt"
FREE = ", no time"
CLASSES = 10

# Vicuna's answers stop at 512 tokens, so ten fixed buckets are 52 tokens wide (the paper's 820 put every
# answer into one class).
RANKERS: dict[str, Options] = {
    "light": Options(),
    "light-listmle": Options(loss="listmle"),
    "light-fixed": Options(loss="classification", buckets=Buckets("fixed", width=52)),
    "light-percentile": Options(loss="classification", buckets=Buckets("percentile", count=CLASSES)),
    "encoder": Options(backbone="encoder"),
}
DRAWN = {
    "FCFS": "fcfs",
    "light-percentile": "classification(light)",
    "light": "light",
    "encoder": "encoder",
    ON_GPU: f"encoder({GPU_TIME * 1e3:g} ms a prompt)",
    f"encoder{FREE}": "encoder(no time)",
    "true lengths": "srtf",
}
"""Entry -> its line in the figure; a name before a parenthesis has its colour."""


@dataclass(frozen=True)
class Entry:
    """One line of the simulated comparison: a policy with a source of predictions."""

    policy: str
    columns: Mapping[str, Any]
    """Predictions of the simulated requests; empty: `predictor` makes them."""
    predictor: str | None = None
    predictor_time: float = 0.0
    tau: float | None = None


def rankers_of(data: PromptFile, out: Path) -> dict[str, Ranker]:
    """All of `RANKERS`, on one length a prompt; what OUT/models has already is used as it is."""
    found = {}
    for name, options in RANKERS.items():
        folder = out / "models" / name
        if not is_model(folder):
            click.echo(f"training {name}", err=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            checkpoint = folder.with_name(folder.name + ".checkpoint")
            train_ranker(examples(data, "prompt", (LENGTH,)), options, checkpoint, _say).save(folder)
            discard(checkpoint)
        found[name] = load_model(folder)
    return found


def judgements(rankers: Mapping[str, Ranker], test: PromptFile, folder: Path) -> dict[str, Any]:
    """Ranker -> data set -> measures; and what other samples of the same prompts would reach."""
    sets: dict[str, tuple[PromptFile, str, tuple[str, ...]]] = {HOME: (test, LENGTH, OTHERS)}
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
    results: dict[str, dict[float, dict[str, list[float]]]] = {}
    for rate in rates:
        for run in range(runs):
            rows = np.random.default_rng(run).permutation(len(requests))[:num_requests]
            arrivals = Arrivals.parse("poisson").times(num_requests, rate, run)
            for name, entry in entries.items():
                trace = requests.with_columns(**entry.columns).take(rows)
                trace = trace.with_columns(arrival_time=arrivals)
                arm = Arm(
                    entry.policy, EngineConfig(), PROFILE,
                    predictor=entry.predictor, predictor_time=entry.predictor_time,
                )  # fmt: skip
                metrics = summarize(simulate(prepare(Cell(Load(seed=run), arm), trace=trace)))
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
) -> tuple[dict[str, Entry], dict[str, str]]:
    """The comparison of the paper with learned scores and the emulations of the rankers; and the entry that
    each is compared with.

    `seconds` is each ranker's time a prompt. Rankers by score come again with no time at all, to tell the
    worth of their order from the cost of their time, and the encoder with a GPU's.
    """
    found = {"FCFS": Entry("fcfs", {})}
    ranked = [name for name in rankers if not _by_class(rankers[name])]
    for name in rankers:
        policy = "ranking" if name in ranked else "classification"
        found[name] = Entry(policy, predicted[name], "trace", seconds[name], tau[name])
    found[ON_GPU] = Entry("ranking", predicted["encoder"], "trace", GPU_TIME, tau["encoder"])
    for name in ranked:
        found[name + FREE] = Entry("ranking", predicted[name], "trace", tau=tau[name])
    found["another sample"] = Entry("ranking", predicted["sample"], "trace", tau=tau["sample"])
    found["true lengths"] = Entry("srtf", {}, "oracle")
    baseline = dict.fromkeys(found, "FCFS")
    for name in ranked:
        sample = out / "samples" / f"{name}.csv"
        found[f"{name}: tau"] = Entry("ranking", {}, f"emulated(tau={tau[name]:.4f})")
        found[f"{name}: empirical"] = Entry("ranking", {}, f"empirical(file={sample})")
        baseline |= {f"{name}: {kind}": name + FREE for kind in ("tau", "empirical")}
    return found, baseline


def _by_class(ranker: Ranker) -> bool:
    return bool(ranker.card["loss"] == "classification")


def _say(done: int, total: int, note: str) -> None:
    if "validation tau" in note:
        click.echo(f"{done}/{total} {note}", err=True)


@click.command()
@click.option("--data", required=True, metavar="DIR", help="Folder with prompts/.")
@click.option("--output", "-o", required=True, metavar="OUT", help="Folder to write.")
@click.option(
    "--request-rate",
    "rates",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    default=(50, 100, 200),
    show_default=True,
    help="Requests/s; repeat it.",
)
@click.option("--num-requests", default=1500, show_default=True, type=click.IntRange(10))
@click.option("--num-runs", default=3, show_default=True, type=click.IntRange(2))
def main(data: str, output: str, rates: tuple[float, ...], num_requests: int, num_runs: int) -> None:
    """Train, judge and simulate learned rankers; models that OUT has already are used as they are."""
    out, prompts = Path(output), Path(data) / "prompts"
    file = prompts / "vicuna7b_alpaca20k.parquet"
    train, test = (read_prompts(file, (f"source_split={split}",)) for split in ("train", "val"))
    rankers = rankers_of(train, out)
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
        name: tau_b(
            columns["predicted_class" if name in rankers and _by_class(rankers[name]) else "score"], true
        )
        for name, columns in predicted.items()
    }
    seconds = {name: sets[HOME]["ms_per_prompt"] / 1e3 for name, sets in judged.items()}
    entries, baseline = entries_of(predicted, rankers, tau, seconds, out)
    results = simulate_entries(requests, entries, rates, num_requests, num_runs)
    policies = {name: entry.policy for name, entry in entries.items()}
    shown = {name: entry.tau for name, entry in entries.items() if entry.tau is not None}
    tables = "\n\n".join(
        (
            ranker_table(judged, {name: ranker.card for name, ranker in rankers.items()}),
            simulation_table(results, policies, shown, {n: b for n, b in baseline.items() if b == "FCFS"}),
            simulation_table(results, policies, shown, {n: b for n, b in baseline.items() if b != "FCFS"}),
        )
    )
    (out / "rankers.md").write_text(tables + "\n", encoding="utf-8")
    (out / "rankers.json").write_text(json.dumps({"judged": judged, "simulated": results}, indent=1) + "\n")
    save(draw(results, DRAWN), out / "learned-rankers.png")
    click.echo(tables)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        click.echo(f"simsched: {error}", err=True)
        sys.exit(2)
