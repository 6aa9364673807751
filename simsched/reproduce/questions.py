"""What no published table answers: why classification loses, what tau buys, how the load matters."""

from __future__ import annotations

from simsched.report import Table
from simsched.reproduce import published
from simsched.reproduce.drawing import curves
from simsched.reproduce.online import LATENCY, LEAST, mean_of, online
from simsched.reproduce.outcome import Lookup, Outcome, PublishedCell, Sources, over
from simsched.reproduce.predicting import RANKING_SAMPLE_TAU, predictor, source
from simsched.reproduce.settings import Setting
from simsched.reproduce.tables import OFFLINE, burst

TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.52, 0.65, 0.8, 0.95)
TTFT = "mean_ttft_ms"
SIZES = (250, 500, 1000, 2000, 4000)


def ties(sources: Sources, look: Lookup) -> Outcome:
    """Fixed buckets, or random preemptive ties?"""
    fixed = predictor(sources, "classification", "sharegpt", "8b")
    good = f"emulated(tau={RANKING_SAMPLE_TAU})"
    variants = (
        ("fcfs", "fcfs", None, False),
        ("fixed buckets, ties at random (published)", "classification", fixed, True),
        ("fixed buckets, ties by arrival", "classification", fixed, False),
        ("fixed buckets, as good as the ranker, ties at random", "classification", good, True),
        ("percentile buckets, as good as the ranker, ties at random",
         "classification(buckets=percentile)", good, True),
        ("percentile buckets, as good as the ranker, ties by arrival",
         "classification(buckets=percentile)", good, False),
        ("ranking", "ranking", good, False),
    )  # fmt: skip
    rows: list[list[object]] = []
    found: dict[tuple[str, float], float] = {}
    tpot: dict[tuple[str, float], float] = {}
    for label, policy, given, random in variants:
        row: list[object] = [label]
        for rate in (16.0, 64.0):
            runs = [
                Setting(policy, "sharegpt", rate, 0, "8b", given, random_ties=random, seed=seed)
                for seed in (0, 1)
            ]
            found[label, rate] = mean_of(look, runs, LATENCY)
            tpot[label, rate] = mean_of(look, runs, "mean_tpot_ms")
            bound = over(found[label, rate], mean_of(look, runs, LEAST))
            row += [found[label, rate], bound, tpot[label, rate], mean_of(look, runs, TTFT) / 1e3]
        rows.append(row)
    headers = ("scheduler", *(f"{rate}: {name}" for rate in ("16 req/s", "64 req/s")
               for name in ("latency per token, ms", "policy / bound", "TPOT, ms", "TTFT, s")))  # fmt: skip

    def change(before: str, after: str, rate: float) -> str:
        return f"{found[after, rate] / found[before, rate] - 1:+.0%}"

    labels = [variant[0] for variant in variants]
    return Outcome(
        "Why the published classification loses",
        [
            "Over HTTP the fork breaks the ties of its classifier by random request ids, and preemptively: a "
            "newcomer displaces a running request of the same class. No published comparison tells this "
            "from the effect of the buckets. Here it is the same classifier with ties by arrival.",
            source(sources),
        ],
        tables=[Table(headers, rows, "ShareGPT, 8B, simulated")],
        points=[
            "The published classifier with ties at random, against the same with ties by arrival: mean "
            f"latency per token {change(labels[2], labels[1], 16.0)} at 16 req/s and "
            f"{change(labels[2], labels[1], 64.0)} at 64; its TPOT "
            f"{tpot[labels[1], 16.0] / tpot[labels[2], 16.0] - 1:+.0%} and "
            f"{tpot[labels[1], 64.0] / tpot[labels[2], 64.0] - 1:+.0%}. Random preemption shares the engine "
            "out: it is what raises TPOT, not what makes classification lose.",
            "A classifier as good as the ranker in the same fixed buckets, against the published one: "
            f"{change(labels[1], labels[3], 64.0)} at 64 req/s. In percentile buckets: "
            f"{change(labels[1], labels[4], 64.0)} (ties by arrival {change(labels[1], labels[5], 64.0)}); "
            f"ranking: {change(labels[1], labels[6], 64.0)}. The buckets are what makes it lose.",
        ],
        draw=lambda figure: _tie_bars(figure, rows),
        alt="Mean latency per token of classifiers: fixed and percentile buckets, random and arrival ties",
    )


def _tie_bars(figure: object, rows: list[list[object]]) -> None:
    ax = figure.subplots()  # type: ignore[attr-defined]
    names, values = [str(row[0]) for row in rows], [float(str(row[5])) for row in rows]
    ax.barh(range(len(rows)), values, color="#56B4E9")
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("mean latency per token at 64 req/s (ms)")


def tau(sources: Sources, look: Lookup) -> Outcome:
    """How good must the ranker be, and is tau all that counts?"""
    fcfs = look(burst(sources, "fcfs", "sharegpt", "8b"))[LATENCY]
    series = []
    for workload in ("sharegpt", "lmsys"):
        base = look(burst(sources, "fcfs", workload, "8b"))[LATENCY]
        latencies = [
            look(Setting("ranking", workload, predictor=f"emulated(tau={t})", **OFFLINE))[LATENCY] / base
            for t in TAUS
        ]
        series.append((workload, TAUS, latencies))
    shuffled = [
        look(
            Setting(
                "ranking", "sharegpt", predictor=f"emulated(tau=0.5,region={region},share=0.7)", **OFFLINE
            )
        )[LATENCY]
        for region in ("shortest", "longest")
    ]
    cell = PublishedCell(
        "tau", "ranking", "sharegpt", None, "shuffled shortest 70 % over shuffled longest 70 %",
        published.SHUFFLE_RATIO, shuffled[0] / shuffled[1],
    )  # fmt: skip
    rows = [(t, *(s[2][place] for s in series)) for place, t in enumerate(TAUS)]
    return Outcome(
        "Kendall's tau against latency",
        [
            "The burst of 2,000 under ranking with an emulated predictor, over FCFS. Tau is not all: with "
            "tau 0.5 either way, a predictor that confuses the shortest 70 % is worse than one that confuses "
            f"the longest 70 %: {shuffled[0]:.0f} against {shuffled[1]:.0f} ms a token (FCFS: {fcfs:.0f}).",
        ],
        [cell],
        [Table(("tau", *(s[0] for s in series)), rows, "Mean latency per token over FCFS's, burst of 2,000")],
        draw=lambda figure: curves(
            figure.subplots(), series, "Kendall's tau of the predictor", "mean latency per token over FCFS's"
        ),
        alt="Mean latency per token over FCFS's against the predictor's tau",
    )


def loads(sources: Sources, look: Lookup) -> Outcome:
    """Bursts of different sizes, batches of different sizes."""

    def best(ranking: float, **size: int) -> str:
        return over(ranking, look(burst(sources, "ranking", "sharegpt", "8b", **size))[LEAST])

    rows = []
    for size in SIZES:
        values = [
            look(burst(sources, policy, "sharegpt", "8b", num_requests=size))[LATENCY]
            for policy in ("fcfs", "mlfq", "ranking")
        ]
        rows.append((size, 256, *values, values[2] / values[0], best(num_requests=size, ranking=values[2])))
    for batch in (32, 64, 128):
        values = [
            look(burst(sources, policy, "sharegpt", "8b", max_num_seqs=batch))[LATENCY]
            for policy in ("fcfs", "mlfq", "ranking")
        ]
        rows.append(
            (2000, batch, *values, values[2] / values[0], best(max_num_seqs=batch, ranking=values[2]))
        )
    headers = (
        *("requests at once", "batch limit", "fcfs, ms", "mlfq, ms", "ranking, ms", "ranking / fcfs"),
        "ranking / bound",
    )
    series = [(name, SIZES, [float(str(row[2 + k])) for row in rows[:5]]) for k, name in
              enumerate(("fcfs", "mlfq", "ranking"))]  # fmt: skip
    return Outcome(
        "Size of the burst, limit of the batch",
        ["Mean latency per token; below the batch limit nothing waits and no order matters."],
        tables=[Table(headers, rows, "ShareGPT, 8B, simulated")],
        points=[
            f"Ranking takes {rows[0][5]:.2f} of FCFS's mean latency per token in a burst of {rows[0][0]}, "
            f"{rows[3][5]:.2f} in one of 2,000, {rows[4][5]:.2f} in one of 4,000.",
            f"With a batch limit of {rows[5][1]} it is {rows[5][5]:.2f}; of 256, {rows[3][5]:.2f}.",
        ],
        draw=lambda figure: curves(
            figure.subplots(), series, "requests at once", "mean latency per token (ms)"
        ),
        alt="Mean latency per token against the size of the burst",
    )


def conclusions(sources: Sources, look: Lookup) -> Outcome:
    """Who wins, by how much, and on which metric not."""
    rows, latency = [], {}
    policies = (*published.POLICIES, "classification(buckets=percentile)")
    for rate in published.RATES:
        for policy in policies:
            runs = online(sources, policy, "sharegpt", rate)
            values = [mean_of(look, runs, name) for name in (LATENCY, "p99_latency_per_token_ms", TTFT)]
            latency[policy, rate] = values
            bound = over(values[0], mean_of(look, runs, LEAST))
            rows.append((policy, rate, values[0], bound, values[1], values[2] / 1e3))
    headers = ("policy", "req/s", "mean latency per token, ms", "policy / bound", "P99, ms", "mean TTFT, s")

    def less(policy: str, rate: int) -> str:
        change = latency["ranking", rate][0] / latency[policy, rate][0] - 1
        spread = abs(change) < 0.07
        return f"{change:+.0%}" + (" (within the trial spread: no significant difference)" if spread else "")

    first, last = published.RATES[0], published.RATES[-1]
    return Outcome(
        "Conclusions",
        ["ShareGPT on one A100 under the fork's cost; simulated. Changes under 7 % are within trial spread."],
        tables=[Table(headers, rows)],
        points=[
            *(
                f"Ranking against {name}: mean latency per token {less(policy, first)} at {first} req/s, "
                f"{less(policy, last)} at {last} req/s."
                for name, policy in (
                    ("FCFS", "fcfs"),
                    ("MLFQ", "mlfq"),
                    ("percentile classification (as poor as the reproduction's)",
                     "classification(buckets=percentile)"),
                )
            ),
            f"It loses on mean TTFT under overload: {latency['ranking', last][2] / 1e3:.0f} s at {last} "
            f"req/s, against {latency['mlfq', last][2] / 1e3:.0f} s under MLFQ and "
            f"{latency['po', last][2] / 1e3:.0f} s under perception only, which start everything at once.",
        ],
    )  # fmt: skip
