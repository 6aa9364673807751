"""Bad input, as a user meets it: exit code 2, one line that says what is wrong and where, nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.cli import main

COST = {"form": "linear", "unit": "s", "t0": 0.01, "a": 5e-5, "b": 6e-5, "c": 8e-8, "d": 3e-9}
ROW = {"timestamp": 0.0, "input_length": 30, "output_length": 10, "request_id": "q"}
NOISE = np.random.default_rng(0).bytes(300)
ENGINE = ["--num-gpu-blocks", "400", "--max-model-len", "2048"]
REST = [*ENGINE, "--no-plot", "-o", "out"]
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def row(**changes: Any) -> str:
    return json.dumps({**ROW, **changes}) + "\n"


def cost(**changes: Any) -> str:
    return json.dumps({**COST, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished results directory."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "COST.json").write_text(cost())
    rows = [row(timestamp=0.1 * i, request_id=f"q{i}", output_length=5 + i) for i in range(10)]
    (folder / "T.jsonl").write_text("".join(rows))
    words = ["--trace", folder / "T.jsonl", "--cost-profile", folder / "COST.json", "--policy", "fcfs,sjf"]
    with pytest.raises(SystemExit) as caught:
        main(["run", *map(str, words), *ENGINE, "--no-plot", "-o", str(folder / "results")])
    assert caught.value.code == 0
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with T.jsonl, COST.json, results, an empty folder, and the file to spoil."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "steps.jsonl").write_text(json.dumps({"scheduled": {}, "time": 10**400, "step_time": 1}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


Refused = Callable[..., str]


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused; returns its one line."""

    def tree() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_size) for path in here.rglob("*") if path.is_file())

    def run(*words: str, names: str) -> str:
        before = tree()
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        output = capsys.readouterr()
        assert caught.value.code == 2, output.err
        assert output.out == ""
        assert len(output.err.splitlines()) == 1, output.err
        assert len(output.err) < 3_000
        assert output.err.startswith("simsched: ")
        assert names in output.err
        assert tree() == before
        return output.err

    return run


TRACES: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("X.jsonl", "", "at least one request"),
    "blank lines": ("X.jsonl", "\n \n", "at least one request"),
    "binary": ("X.jsonl", NOISE, "X.jsonl"),
    "zeros": ("X.jsonl", b"\0" * 99, "X.jsonl"),
    "UTF-16": ("X.jsonl", row().encode("utf-16")[:-1], "expected text"),
    "Latin-1": ("X.jsonl", row().replace('"q"', '"é"').encode("latin-1"), "expected text"),
    "truncated": ("X.jsonl", row() + row(request_id="z")[:-9], "X.jsonl:2"),
    "a list": ("X.jsonl", "[1, 2]\n", "X.jsonl:1"),
    "too deep": ("X.jsonl", '{"a":' * 50_000, "X.jsonl:1"),
    "two on a line": ("X.jsonl", row().strip() + row(request_id="z"), "X.jsonl:1"),
    "gzip damaged": ("X.jsonl.gz", b"\x1f\x8b" + NOISE, "gzip"),
    "parquet damaged": ("X.parquet", b"PAR1" + NOISE, "X.parquet"),
    "unsorted": ("X.jsonl", row(timestamp=5) + row(request_id="z"), "X.jsonl:2: timestamp 0"),
    "one id twice": ("X.jsonl", row() + row(), "X.jsonl:2: request_id 'q'"),
    "one id twice, typed otherwise": ("X.jsonl", row(request_id=1) + row(request_id="1"), "X.jsonl:2"),
    "half a character": ("X.jsonl", row(request_id="\ud800"), "X.jsonl:1: request_id"),
    "milliseconds since 1970": ("X.jsonl", row(timestamp=1.7e12), "at most 1e10"),
    "endless": ("X.jsonl", row(output_length=2**53), "no request fits: the shortest has"),
    "over-long": ("X.jsonl", row(input_length=3_000), "expected at most 2048"),
    "Azure, no rows": ("X.csv", AZURE, "at least one request"),
    "Azure, bad date": ("X.csv", AZURE + "soon,1,2\n", "X.csv:2"),
    "Azure, short row": ("X.csv", AZURE + "2023-11-16 18:15:46.68,5\n", "X.csv:2"),
    "BurstGPT, a word": ("X.csv", BURST + "5,GPT-4,x,3,4,Conversation\n", "X.csv:2"),
    "BurstGPT, NaN": ("X.csv", BURST + "nan,GPT-4,3,3,6,Conversation\n", "X.csv:2"),
    "CSV, unknown": ("X.csv", "a,b,c\n1,2,3\n", "X.csv:1"),
    "ShareGPT, empty": ("X.json", "[]", "X.json"),
    "ShareGPT, no talk": ("X.json", '[{"id": "a", "conversations": []}]', "conversation 1"),
    "vLLM bench, uneven": ("X.json", '{"input_lens": [1, 2], "output_lens": [1]}', "X.json"),
    "vLLM bench, negative": ("X.json", '{"input_lens": [1, -2], "output_lens": [1, 1]}', "request 2"),
    "Mooncake, negative": (
        "X.jsonl", row(timestamp=-5, request_id="z", hash_ids=[1]), "timestamp -5",
    ),
}  # fmt: skip
for _name in ("timestamp", "input_length", "output_length"):
    for _value in (None, "x", "5", True, [], -1, float("nan"), float("inf")):
        _shown = f"X.jsonl:2: {_name} "
        TRACES[f"{_name} {_value!r}"] = ("X.jsonl", row() + row(request_id="z", **{_name: _value}), _shown)
for _name in ("score", "predicted_class", "predicted_length", "priority", "tenant", "hash_ids", "prompt"):
    for _value in ({}, True, float("inf")):
        TRACES[f"{_name} {_value!r}"] = ("X.jsonl", row(**{_name: _value}), f"X.jsonl:1: {_name} ")


@pytest.mark.parametrize("kind", TRACES)
def test_traces(here: Path, refused: Refused, kind: str) -> None:
    file, content, names = TRACES[kind]
    (here / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("run", "--trace", file, "--cost-profile", "COST.json", "--policy", "fcfs", *REST, names=names)


TABLE = {"form": "table", "unit": "s", "c": 0, "d": 0, "knots": [1, 2], "g": [0.1, 0.1]}
COSTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "not JSON"),
    "binary": (NOISE, "not JSON"),
    "truncated": (cost()[:-9], "not JSON"),
    "weights without end": (
        json.dumps({
            "name": "x", "hardware": {"gpu": "x", "memory_bytes": 1},
            "model": {"name": "x", "weight_bytes": 10**400}, "cost": COST,
        }),
        "weight_bytes",
    ),
    "too deep": ('{"a":' * 30_000, "not JSON"),
    "a list": ("[]", "expected an object"),
    "no form": ("{}", "form"),
    "unit": (cost(unit="h"), "unit"),
    "unknown term": (cost(z=1), "z"),
    "negative": (cost(b=-1), "b"),
    "NaN": (cost(a=float("nan")), "a"),
    "text": (cost(a="x"), "a"),
    "true": (cost(a=True), "a"),
    "huge": (cost(a=1e300), "a"),
    "no time at all": (cost(t0=0, a=0, b=0, c=0, d=0), "more than 0"),
    "knots fall": (json.dumps({**TABLE, "knots": [2, 1]}), "knots"),
    "a knot too few": (json.dumps({**TABLE, "knots": [2]}), "knots"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COSTS)
def test_cost_files(here: Path, refused: Refused, kind: str) -> None:
    content, names = COSTS[kind]
    (here / "X.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["run", "--trace", "T.jsonl", "--policy", "fcfs", "--cost-profile", "X.json", *REST]
    assert "X.json" in refused(*words, names=names)


STUDY = "trace: T.jsonl\ncost_profile: COST.json\nnum_gpu_blocks: 400\nmax_model_len: 2048\n"
STUDIES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "expected a mapping"),
    "binary": (NOISE, "S.yaml"),
    "a list": ("- a\n", "expected a mapping"),
    "not YAML": ("policy: [fcfs", "S.yaml:"),
    "a command": ("!!python/object/apply:os.system [touch pwned]", "S.yaml:1"),
    "too deep": ("[" * 5_000, "S.yaml"),
    "unknown option": (STUDY + "frobnicate: 1", "frobnicate"),
    "policy null": (STUDY + "policy: [fcfs, null]", "policy"),
    "policy a map": (STUDY + "policy: {a: 1}", "policy"),
    "rate true": (STUDY + "request_rate: true", "request_rate"),
    "rate NaN": (STUDY + "request_rate: .nan", "request_rate"),
    "runs a word": (STUDY + "num_runs: three", "num_runs"),
    "figure kind": (STUDY + "figures: [{kind: pie}]", "figures"),
    "goodput": (STUDY + "goodput: {ttft: x}", "goodput"),
    "figure of what": (STUDY + "figures: [{metric: speed}]", "metric speed: expected some of duration"),
    "figure, no ratio": (STUDY + "figures: [{relative_to: lifo}]", "relative_to lifo: expected one of fcfs"),
    "figure, where": (STUDY + "figures: [{where: {request_rate: 9}}]", "no cell has request_rate 9"),
    "figure of steps": (STUDY + "figures: [{kind: occupancy}]", "needs log_steps"),
    "figure of tau": (STUDY + "figures: [{kind: tau}]", "needs several values of tau"),
    "a long word": (STUDY + "preset: " + "a" * 70_000, "preset"),
    "slots": (STUDY + "policy: fcfs\nmax_num_seqs: 0", "max-num-seqs 0"),
}


@pytest.mark.parametrize("kind", STUDIES)
def test_studies(here: Path, refused: Refused, kind: str) -> None:
    content, names = STUDIES[kind]
    (here / "S.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("run", "S.yaml", "--no-plot", "-o", "out", names=names)


OWN = "from simsched.policies.base import Policy\nclass Mine(Policy):\n"
POLICIES: dict[str, str] = {
    "syntax": "def",
    "raises": "1 / 0",
    "exits": "import sys; sys.exit(0)",
    "empty": "",
    "not a policy": "Mine = 5",
    "abstract": "from simsched.policies.base import Policy\nclass Mine(Policy): pass",
    "answers None": OWN + "    def priority(self, request, now): return None",
    "raises in two lines": OWN + "    def priority(self, request, now): raise ValueError('a\\nb')",
    "fails at the end": OWN + "    def priority(self, request, now): return 0\n"
    "    def on_finish(self, request, now): {}[0]",
}


@pytest.mark.parametrize("kind", POLICIES)
def test_policy_files(here: Path, refused: Refused, kind: str) -> None:
    (here / "mine.py").write_text(POLICIES[kind])
    words = ["run", "--trace", "T.jsonl", "--cost-profile", "COST.json", "--policy", "./mine.py:Mine", *REST]
    refused(*words, names="mine.py")


# options of `run`, refused as they stand (a generated workload, so that sizes count)
OPTIONS: dict[str, list[str]] = {
    "--num-requests": ["0", "-1", "x", "1.5", "", "1000000000000"],
    "--duration": ["0", "nan", "inf", "1e15"],
    "--num-runs": ["0", "x", "100000000"],
    "--seed": ["-1", "1.5", "99999999999999999999999"],
    "--request-rate": ["0", "-1", "nan", "inf", "0x", "x", ",", "4,4", "4;5", "1e15"],
    "--max-num-seqs": ["0", "x", "1.5", "4,4"],
    "--max-num-batched-tokens": ["0", "-1"],
    "--block-size": ["0", "1000000000"],
    "--num-gpu-blocks": ["0", "1", "2", "1000000000"],
    "--max-model-len": ["0", "1", "2"],
    "--long-prefill-token-threshold": ["-1"],
    "--vllm-version": ["0.23.0", "99.0", "x", ""],
    "--max-num-active-seqs": ["0", "x", "100000"],
    "--max-num-scheduled-tokens": ["0", "100000000"],
    "--max-num-queued-reqs": ["-1", "x"],
    "--max-num-queued-tokens": ["-1"],
    "--watermark": ["-0.1", "1", "nan"],
    "--gpu-memory-utilization": ["0", "1.1", "nan"],
    "--num-swap-blocks": ["5"],
    "--arrivals": ["x", "gamma(cv=0)", "gamma(cv=nan)", f"gamma(cv=1{'0' * 400})", "gamma(", "gamma)",
                   "closed", "closed(users=1.5)",
                   "poisson(cv=1)"],
    "--predictor": ["x", "emulated(tau=2)", "emulated(", "empirical", "empirical(file=no.csv)", "trace",
                    "./no", "COST.json"],
    "--tau": ["2", "nan", "x"],
    "--predictor-time": ["-1", "nan", "inf"],
    "--goodput": ["x", "ttft", "ttft:-1", "ttft:1,ttft:2", "speed:1"],
    "--policy": ["nope", "", "fcfs,fcfs", "mlfq(", "mlfq)", "mlfq(base_quantum=0)", "mlfq(x=1)",
                 "fcfs(preemptive=7)", "ranking(starvation_period=3)", "ranking(starvation_threshold=0)",
                 "./no.py:X", "COST.json:X"],
    "--workload": ["nope", "sharegpt(x=1)"],
    "--preset": ["nope"],
    "--cost-profile": ["nope", "folder", "", "T.jsonl"],
    "--trace": ["nope.jsonl", "folder", "", "a" * 5_000],
    "--jobs": ["0", "x"],
    "--executor": ["x"],
    "-o": ["T.jsonl", "T.jsonl/x", "results", ".", "a" * 4_000],
}  # fmt: skip
USUAL = {
    "--cost-profile": "COST.json", "--num-gpu-blocks": "400", "--max-model-len": "4096",
    "--policy": "ranking", "--workload": "sharegpt", "--num-requests": "20",
    "--request-rate": "4", "-o": "out",
}  # fmt: skip
INSTEAD_OF = {
    "--trace": ["--workload"],
    "--duration": ["--num-requests"],
    "--request-rate": ["--num-requests"],
    "--arrivals": ["--request-rate"],
    "--gpu-memory-utilization": ["--cost-profile", "--num-gpu-blocks"],
}
EVERY = [(option, value) for option, values in OPTIONS.items() for value in values]


@pytest.mark.parametrize(("option", "value"), EVERY, ids=[f"{name} {value[:30]!r}" for name, value in EVERY])
def test_options_of_run(refused: Refused, option: str, value: str) -> None:
    others = {name: usual for name, usual in USUAL.items() if name not in INSTEAD_OF.get(option, ())}
    words = {**others, option: value}
    refused("run", "--no-plot", *(word for pair in words.items() for word in pair), names="")


def spoilt(name: str, content: bytes | None) -> Callable[[Path], None]:
    def spoil(results: Path) -> None:
        if content is None:
            (results / name).unlink()
        else:
            (results / name).write_bytes(content)

    return spoil


RESULTS: dict[str, Callable[[Path], None]] = {
    f"{name} {kind}": spoilt(name, content)
    for name in ("manifest.json", "summary.json", "requests.parquet")
    for kind, content in {"missing": None, "empty": b"", "binary": NOISE, "{}": b"{}", "[]": b"[]"}.items()
}


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize("kind", RESULTS)
def test_results(here: Path, refused: Refused, kind: str, command: str) -> None:
    RESULTS[kind](here / "results")
    refused(command, "results", names="results")


@pytest.mark.parametrize("command", ["compare", "plot", "report"])
@pytest.mark.parametrize("where", ["nope", "folder", "T.jsonl"])
def test_what_is_no_results_directory(refused: Refused, command: str, where: str) -> None:
    refused(command, where, names=where)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["nope"], "nope"),
        (["run", "--nope"], "--nope"),
        (["run", "--policy"], "--policy"),
        (["run", "a", "b"], "b"),
        (["run", "nope.yaml"], "nope.yaml"),
        (["run", "folder"], "folder"),
        (["list", "nope"], "nope"),
        (["compare"], "DIR"),
        (["compare", "results", "--baseline", "nope"], "nope"),
        (["compare", "results", "nope"], "nope"),
        (["trace", "stats", "nope.jsonl"], "nope.jsonl"),
        (["trace", "convert", "COST.json", "-o", "x.jsonl"], "COST.json"),
        (["trace", "fetch", "nope"], "nope"),
        (["predict", "folder", "--data", "T.jsonl", "-o", "x.jsonl"], "folder"),
        (["evaluate", "folder", "--data", "T.jsonl"], "folder"),
        (["train", "--data", "T.jsonl", "-o", "model"], "T.jsonl"),
        (["calibrate", "--from-steps", "steps.jsonl", "-o", "x.json"], "steps.jsonl, line 1: time"),
        (["calibrate", "--from-steps", "T.jsonl", "-o", "x.json"], "T.jsonl"),
    ],
)
def test_words(refused: Refused, words: list[str], names: str) -> None:
    refused(*words, names=names)


@pytest.mark.parametrize("option", ["starvation_seconds", "starvation_threshold"])
def test_promotion_from_the_forks_queues(refused: Refused, option: str) -> None:
    words = ["--trace", "T.jsonl", "--cost-profile", "COST.json", "--policy", f"fcfs,mlfq({option}=9)"]
    refused("run", *words, *REST, "--preset", "vllm-0.4.1-ltr", names=f"mlfq: {option} has no effect")


def test_as_a_process_too(here: Path) -> None:
    """Through the interpreter's own start and end."""
    words = ["run", "--trace", "nope.jsonl", "--cost-profile", "COST.json", "--policy", "fcfs", *REST]
    done = subprocess.run(
        [sys.executable, "-m", "simsched", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "simsched: nope.jsonl: cannot read it: No such file or directory\n"
    assert not (here / "out").exists()


def test_requests_that_displace_each_other_for_ever(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two prompts of four steps each, and turns of one step: neither would ever get a token."""
    rows = [row(input_length=64, request_id=name, score=0) for name in "ab"]
    (here / "X.jsonl").write_text("".join(rows))
    with pytest.raises(SystemExit) as caught:
        main([
            "run", "--trace", "X.jsonl", "--cost-profile", "COST.json", *REST,
            "--policy", "ranking(starvation_threshold=1,starvation_period=1)",
            "--max-num-seqs", "1", "--max-num-batched-tokens", "16", "--no-enable-prefix-caching",
        ])  # fmt: skip
    assert caught.value.code == 2
    assert "2 requests displace each other before any gets a token" in capsys.readouterr().err
