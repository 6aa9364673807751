"""`simsched trace` end to end, and the figures of `stats`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from simsched.cli import cli
from simsched.errors import InputError
from simsched.workload.formats import load_trace
from simsched.workload.named import named_workload
from simsched.workload.stats import describe, shared_prefix
from simsched.workload.trace import Trace


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["trace", *map(str, arguments)])


def test_generate_is_reproducible(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = call(
            *("generate", "--workload", "lmsys(shape=lognormal)", "--num-requests", 50),
            *("--request-rate", 4, "--seed", seed, "-o", tmp_path / name),
        )
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_generate_with_predictions_from_a_trace(tmp_path: Path) -> None:
    source, drawn = tmp_path / "source.jsonl", tmp_path / "drawn.jsonl"
    call("generate", "--num-requests", 30, "--arrivals", "burst", "-o", source)
    arguments = ["generate", "--resample", source, "--num-requests", 40, "--request-rate", 2]
    result = call(*arguments, "--predictor", "oracle", "-o", drawn)
    assert result.exit_code == 0, result.output
    trace, _ = load_trace(drawn)
    assert len(trace) == 40
    np.testing.assert_array_equal(trace.predicted_length, trace.num_output_tokens)
    assert set(trace.num_output_tokens) <= set(load_trace(source)[0].num_output_tokens)


def test_sessions_start_by_themselves(tmp_path: Path) -> None:
    arguments = ["generate", "--workload", "chat-sessions", "--num-requests", 40, "-o", tmp_path / "t.jsonl"]
    refused = call(*arguments)
    assert isinstance(refused.exception, InputError)
    assert "--arrivals sessions: expected --request-rate in turns/s" in str(refused.exception)
    assert call(*arguments, "--request-rate", 2).exit_code == 0
    trace, _ = load_trace(tmp_path / "t.jsonl")
    assert trace.session_id is not None
    expected = named_workload("chat-sessions").generate(40, 2.0, arrivals="sessions")
    assert trace.arrival_time[0] == pytest.approx(expected.arrival_time[0], abs=1e-6)
    assert trace.session_id[-1] == expected.session_id[-1] if expected.session_id else False


def test_convert(tmp_path: Path) -> None:
    source, target = tmp_path / "azure.csv", tmp_path / "t.jsonl"
    rows = [f"2023-11-16 18:17:{second:02}.0,{second + 1},{second % 3}" for second in range(30)]
    source.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    refused = call("convert", source, "-o", target)
    assert isinstance(refused.exception, InputError)
    assert not target.exists()
    result = call(
        "convert", source, "--skip-invalid", "--max-requests", 5, "--request-rate", 10, "-o", target
    )
    assert result.exit_code == 0, result.output
    assert "azure: 10 of 30 rows dropped: invalid output_length" in result.stderr
    trace, _ = load_trace(target)
    assert trace.num_prompt_tokens.tolist() == [2, 3, 5, 6, 8]
    assert trace.arrival_time[-1] == pytest.approx(0.4)


def test_convert_gives_new_arrivals(tmp_path: Path) -> None:
    source, target = tmp_path / "a.json", tmp_path / "t.jsonl"
    turns = [{"from": "human", "value": "hello there"}, {"from": "gpt", "value": "hi"}]
    source.write_text(json.dumps([{"conversations": turns}] * 200))
    arguments = ("convert", source, "--arrivals", "uniform", "--request-rate", 5, "-o", target)
    assert call(*arguments).exit_code == 0
    assert load_trace(target)[0].arrival_time[:3].tolist() == [0, 0.2, 0.4]


@pytest.mark.parametrize("command", [("convert",), ("generate", "--arrivals", "burst", "--resample")])
def test_the_trace_that_is_read_is_not_replaced_unasked(tmp_path: Path, command: tuple[str, ...]) -> None:
    source = tmp_path / "t.jsonl"
    call("generate", "--num-requests", 30, "--arrivals", "burst", "-o", source)
    before = source.read_bytes()
    again = (*command, source, "-o", tmp_path / "." / "t.jsonl")
    refused = call(*again)
    assert isinstance(refused.exception, InputError)
    assert "--overwrite replaces it" in str(refused.exception)
    assert source.read_bytes() == before
    assert call(*again, "--overwrite").exit_code == 0


@pytest.mark.parametrize("command", ["generate", "convert"])
def test_a_closed_loop_has_no_trace_file(tmp_path: Path, command: str) -> None:
    source = tmp_path / "t.jsonl"
    call("generate", "--num-requests", 3, "--arrivals", "burst", "-o", source)
    arguments = [source] if command == "convert" else []
    result = call(command, *arguments, "--arrivals", "closed(users=2)", "-o", tmp_path / "new")
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "new").exists()


def test_stats_table_and_json(tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    call("generate", "--num-requests", 500, "--request-rate", 4, "-o", source)
    table = call("stats", source)
    assert table.exit_code == 0
    assert "CV of arrival gaps" in table.stdout
    figures = json.loads(call("stats", source, source, "--json").stdout)
    assert len(figures) == 2
    assert figures[0]["num_requests"] == 500
    assert figures[0]["request_rate"] == pytest.approx(4, rel=0.15)
    assert figures[0]["arrival_cv"] == pytest.approx(1, abs=0.15)
    assert figures[0]["shared_prefix"] is None


def test_stats_of_sessions_in_the_table(tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    call("generate", "--workload", "chat-sessions", "--num-requests", 50, "--request-rate", 4, "-o", source)
    table = call("stats", source).stdout
    for line in ("duration (s), of timestamps", "sessions ", "turns a session, mean", "think time (s), p90"):
        assert line in table


def trace_of(hash_ids: list[tuple[int, ...]], tokens: list[int]) -> Trace:
    n = len(tokens)
    return Trace(
        np.arange(n, dtype=np.float64),
        np.array(tokens),
        np.ones(n, np.int64),
        hash_ids=hash_ids,
        hash_block_size=10,
    )


def test_stats_says_what_a_trace_was_taken_for(tmp_path: Path) -> None:
    """Whole numbers and 512-token blocks look like Mooncake's milliseconds."""
    source = tmp_path / "mine.jsonl"
    rows = [
        {"timestamp": 300 * i, "input_length": 600, "output_length": 9, "hash_ids": [0, i]} for i in range(9)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    guessed = call("stats", source, "--json")
    assert "mine.jsonl: read as mooncake: timestamp in milliseconds" in guessed.stderr
    assert json.loads(guessed.stdout)[0]["duration"] == pytest.approx(2.4)
    told = call("stats", source, "--json", "--format", "jsonl")
    assert "mooncake" not in told.stderr
    assert "a hash id is taken for 512 tokens" in told.stderr
    assert json.loads(told.stdout)[0]["duration"] == 2400


def test_shared_prefix_counts_leading_blocks_seen_before() -> None:
    # 2 blocks of the second, all 14 tokens of the third, none of the last (its hit is not at the front)
    trace = trace_of([(1, 2, 3), (1, 2, 9), (1, 2), (7, 2)], [30, 30, 14, 20])
    assert shared_prefix(trace) == pytest.approx((20 + 14) / 94)


def test_stats_of_a_burst_have_no_rate() -> None:
    trace = trace_of([(1,), (1,)], [10, 10]).with_columns(arrival_time=np.zeros(2))
    figures = describe(trace)
    assert figures["request_rate"] is None
    assert figures["arrival_cv"] is None
    assert figures["columns"] == ["hash_ids"]


def test_one_row_is_counted_as_one(tmp_path: Path) -> None:
    source = tmp_path / "azure.csv"
    rows = ["2023-11-16 18:17:01.0,5,0", "2023-11-16 18:17:02.0,5,7"]
    source.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    result = call("convert", source, "--skip-invalid", "-o", tmp_path / "t.jsonl")
    assert "azure: 1 of 2 rows dropped: invalid output_length" in result.stderr
    assert result.stderr.rstrip().endswith("t.jsonl: 1 request")


def test_convert_takes_columns_units_and_a_window(tmp_path: Path) -> None:
    source, target = tmp_path / "log.csv", tmp_path / "t.jsonl"
    rows = [f"{1700000000000 + 500 * i};{10 + i};{5};x" for i in range(20)]
    source.write_text("\n".join(["start;in;out;model", *rows]))
    refused = call("convert", source, "-o", target)
    assert isinstance(refused.exception, InputError)
    columns = ("--columns", "timestamp=start,input_length=in,output_length=out")
    result = call("convert", source, *columns, "--time-unit", "ms", "--trace-window", "2..4", "-o", target)
    assert result.exit_code == 0, result.output
    assert "log.csv: read as table: start in milliseconds" in result.stderr
    assert "log.csv: columns that nothing reads: model" in result.stderr
    trace, _ = load_trace(target)
    assert trace.num_prompt_tokens.tolist() == [14, 15, 16, 17]
    assert trace.arrival_time.tolist() == [0, 0.5, 1, 1.5]
    wrong = call("convert", source, "--columns", "timestamp", "-o", target)
    assert isinstance(wrong.exception, InputError)
    assert "--columns 'timestamp': expected OURS=THEIRS" in str(wrong.exception)


def test_stats_says_where_a_load_drifts(tmp_path: Path) -> None:
    source = tmp_path / "ramp.jsonl"
    times = [10.0 * i for i in range(100)] + [1000 + i / 4 for i in range(400)]
    same = {"input_length": 9, "output_length": 9}
    source.write_text("".join(json.dumps({"timestamp": time, **same}) + "\n" for time in times))
    result = call("stats", source, "--json")
    assert "ramp: its rate drifts" in result.stderr
    (figures,) = json.loads(result.stdout)
    assert figures["peak_rate"] > 2 * figures["request_rate"] > 2 * figures["median_rate"]
