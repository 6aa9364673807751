"""The public formats, by small files of each and by the real ones where they are at hand."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simsched.errors import InputError
from simsched.workload.conversations import first_exchange
from simsched.workload.formats import load_bench, load_trace
from simsched.workload.sessions import history
from simsched.workload.stats import shared_prefix
from simsched.workload.trace_io import write_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:04.9799600,374,44
2023-11-16 18:17:03.9799600,396,109
2023-11-16 18:17:05.0319600,879,55
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,276,693,API log
"""
MOONCAKE = """{"timestamp": 27482, "input_length": 1500, "output_length": 52, "hash_ids": [46, 47, 48]}
{"timestamp": 30535, "input_length": 600, "output_length": 26, "hash_ids": [46, 2353]}
"""
SHAREGPT = [
    {"id": "x", "conversations": [{"from": "human", "value": "a" * 40}, {"from": "gpt", "value": "b" * 81}]},
    {"id": "y", "conversations": [{"from": "human", "value": "c" * 8}, {"from": "gpt", "value": "d" * 4}]},
]
BENCH = {
    "request_throughput": 2.0,
    "input_lens": [10, 20, 30],
    "output_lens": [5, 6, 7],
    "start_times": [100.5, 100.0, 101.0],
    "errors": ["", "", ""],
}


def saved(folder: Path, text: str, name: str = "file") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_azure(tmp_path: Path) -> None:
    trace, counts = load_trace(saved(tmp_path, AZURE))
    np.testing.assert_allclose(trace.arrival_time, [0, 1, 1.052], atol=1e-6)
    assert trace.num_prompt_tokens.tolist() == [396, 374, 879]
    assert trace.num_output_tokens.tolist() == [109, 44, 55]
    assert counts == {}


def test_azure_of_2024_has_a_time_zone(tmp_path: Path) -> None:
    text = (
        AZURE.splitlines()[0] + "\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,1,2\n"
    )
    trace, _ = load_trace(saved(tmp_path, text))
    np.testing.assert_allclose(trace.arrival_time, [0, 0.99007], atol=1e-6)


def test_burstgpt(tmp_path: Path) -> None:
    trace, _ = load_trace(saved(tmp_path, BURSTGPT))
    assert trace.arrival_time.tolist() == [0, 40, 113]
    assert trace.num_output_tokens.tolist() == [18, 230, 276]


def test_burstgpt_failures_are_refused_or_counted(tmp_path: Path) -> None:
    path = saved(tmp_path, BURSTGPT + "120,GPT-4,417,0,417,API log\n")
    with pytest.raises(
        InputError,
        match=r"file:5: output_length 0 in column Response tokens: expected a whole .*--skip-invalid drops",
    ):
        load_trace(path)
    trace, counts = load_trace(path, skip_invalid=True)
    assert len(trace) == 3
    assert counts == {"dropped: invalid output_length": 1}


def test_mooncake_is_in_milliseconds(tmp_path: Path) -> None:
    trace, _ = load_trace(saved(tmp_path, MOONCAKE))
    np.testing.assert_allclose(trace.arrival_time, [0, 3.053])
    assert trace.hash_block_size == 512
    assert trace.hash_ids is not None
    assert trace.hash_ids[1] == (46, 2353)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"timestamp": 27482', '"timestamp": 27.482'),
        ('"timestamp": 27482', '"request_id": "a", "timestamp": 27482'),
    ],
)
def test_ours_is_not_taken_for_mooncake(tmp_path: Path, old: str, new: str) -> None:
    text = MOONCAKE.replace(old, new)
    if "request_id" in new:
        text = text.replace('"timestamp": 30535', '"request_id": "b", "timestamp": 30535')
    trace, _ = load_trace(saved(tmp_path, text))
    assert trace.arrival_time[1] == 30535


def test_sharegpt_tokens_are_estimated_or_counted(tmp_path: Path) -> None:
    path = saved(tmp_path, json.dumps(SHAREGPT))
    trace, _ = load_trace(path)
    assert trace.num_prompt_tokens.tolist() == [10, 2]
    assert trace.num_output_tokens.tolist() == [21, 1]
    assert trace.prompt == ["a" * 40, "c" * 8]
    counted, _ = load_trace(path, count_tokens=len)
    assert counted.num_prompt_tokens.tolist() == [40, 8]


def test_sharegpt_without_an_answer(tmp_path: Path) -> None:
    path = saved(tmp_path, json.dumps([*SHAREGPT, {"id": "z", "conversations": []}, 3]))
    with pytest.raises(InputError, match="conversation 3: expected a question and an answer"):
        load_trace(path)
    trace, counts = load_trace(path, skip_invalid=True)
    assert len(trace) == 2
    assert counts == {"dropped: no question and answer": 2}


@pytest.mark.parametrize("indent", [None, 2])
def test_vllm_bench(tmp_path: Path, indent: int | None) -> None:
    trace, _ = load_trace(saved(tmp_path, json.dumps(BENCH, indent=indent)))
    assert trace.arrival_time.tolist() == [0, 0.5, 1]
    assert trace.num_prompt_tokens.tolist() == [20, 10, 30]


def test_vllm_bench_of_an_older_version_has_no_start_times(tmp_path: Path) -> None:
    older = {key: value for key, value in BENCH.items() if key != "start_times"}
    trace, _ = load_trace(saved(tmp_path, json.dumps(older)))
    assert not trace.arrival_time.any()
    assert trace.num_prompt_tokens.tolist() == [10, 20, 30]


def test_tables_with_our_names_and_with_others(tmp_path: Path) -> None:
    csv = saved(tmp_path, "arrival_s,input_toks,output_toks,score\n0.5,3,4,1.5\n0.75,5,6,-2\n")
    trace, _ = load_trace(csv)
    assert trace.arrival_time.tolist() == [0.5, 0.75]
    assert trace.score is not None
    assert trace.score.tolist() == [1.5, -2]
    table = pl.DataFrame({"timestamp": [0.0], "input_length": [16], "output_length": [2], "hash_ids": [[4]]})
    table.write_parquet(tmp_path / "t.parquet")
    parquet, _ = load_trace(tmp_path / "t.parquet")
    assert parquet.hash_ids == [(4,)]


def test_hash_ids_that_do_not_fit_the_prompts(tmp_path: Path) -> None:
    rows = [
        {"timestamp": i / 5, "input_length": 600, "output_length": 2, "hash_ids": [1, i]} for i in range(9)
    ]
    path = saved(tmp_path, lines_of(rows))
    assert load_trace(path, hash_block_size=300)[0].notes == (
        f"{path.name}: read as jsonl: timestamp in seconds, hash ids of 300 tokens",
    )
    few = load_trace(path, hash_block_size=30)[0].notes
    assert few[1].endswith("hash ids stand for 10% of the prompt tokens; others are not shared")
    with pytest.raises(InputError, match=r"--hash-block-size 600: .*9 of 9 prompts have more hash ids than"):
        load_trace(path, hash_block_size=600)
    own = saved(tmp_path, lines_of([{**row, "hash_block_size": 600} for row in rows]))
    assert "have more hash ids than blocks of 600 tokens" in load_trace(own)[0].notes[1]


def test_dates_in_another_form_are_told_the_right_one(tmp_path: Path) -> None:
    path = saved(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n16/11/2023 18:17,3,4\n")
    with pytest.raises(
        InputError, match="'16/11/2023 18:17' in column TIMESTAMP: expected seconds, or a date such"
    ):
        load_trace(path)


def test_durations_of_a_table_are_seconds_in_every_column(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "timestamp": [timedelta(0), timedelta(seconds=1.5)],
            "deadline": [timedelta(seconds=2), timedelta(milliseconds=300)],
            "input_length": [1, 2],
            "output_length": [3, 4],
        }
    )
    path = tmp_path / "t.parquet"
    table.write_parquet(path)
    trace, _ = load_trace(path)
    assert trace.arrival_time.tolist() == [0.0, 1.5]
    assert trace.deadline is not None
    assert trace.deadline.tolist() == [2.0, 0.3]
    with pytest.raises(
        InputError, match=r"--time-unit ms: .* has dates or durations in its column timestamp"
    ):
        load_trace(path, time_unit="ms")


def test_the_time_unit_is_of_time_stamps_alone_which_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, "arrival_ms,input_length,output_length,deadline\n0,3,4,5\n250,3,4,5\n")
    trace, _ = load_trace(path)
    assert trace.arrival_time.tolist() == [0.0, 0.25]
    assert trace.deadline is not None
    assert trace.deadline.tolist() == [5.0, 5.0]
    assert trace.notes[0].endswith("arrival_ms in milliseconds, deadline in seconds")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE.replace("374", "many"), r"file:2: input_length 'many'"),
        (AZURE.replace("2023-11-16 18:17:04.9799600", "yesterday"), r"file:2: timestamp 'yesterday'"),
        (AZURE.replace(",55", ""), r"file:4: 2 fields: expected 3"),
        (AZURE.replace(",55", ",nan"), r"file:4: output_length 'nan'"),
        (AZURE.replace(",55", ","), r"file:4: output_length missing"),
        (AZURE.split("\n")[0], "expected at least one request, found none"),
        ("a,b,c\n1,2,3\n", r"file:1: 'a, b, c': expected JSON Lines, or columns"),
        ("timestamp,input_length,output_length\n2,1,1\n1,1,1\n", r"file:3: timestamp 1 is before"),
        (MOONCAKE.replace("30535", '"x"'), r"file:2: timestamp 'x'"),
        (MOONCAKE.replace("30535", "-3"), r"file:2: timestamp -0.003"),
        (json.dumps(SHAREGPT)[:-10], "damaged or truncated JSON"),
        (json.dumps(BENCH)[:-10], "damaged or truncated JSON"),
        (json.dumps(BENCH | {"output_lens": None}), "--save-detailed"),
        (json.dumps(BENCH | {"output_lens": [1]}), "expected output_lens to be as long as input_lens"),
        (json.dumps(BENCH | {"ttfts": [0.1, 0.2]}), "expected ttfts to be as long as input_lens"),
        (json.dumps(BENCH | {"errors": [""]}), "each of 3 requests; it has 1"),
        (json.dumps(BENCH | {"output_lens": [1, -2, 3]}), "request 2: output_length -2"),
        (json.dumps(BENCH | {"start_times": 3}), "expected start_times to be as long as input_lens"),
        ("[" * 100_000, "nested too deeply|damaged"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_trace(saved(tmp_path, text))
    assert "\n" not in str(error.value)


def test_bad_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"timestamp": [0.0, -1.0], "input_length": [1, 1], "output_length": [1, 1]}).write_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match=r"t.parquet, row 2: timestamp -1"):
        load_trace(tmp_path / "t.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or truncated Parquet"):
        load_trace(cut)
    with pytest.raises(InputError, match="expected the columns TIMESTAMP, ContextTokens"):
        load_trace(tmp_path / "t.parquet", format="azure")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MOONCAKE, ["read as mooncake: timestamp in milliseconds", "a hash id is taken for 512 tokens"]),
        (json.dumps({**BENCH, "start_times": []}), ["no start_times: all requests arrive at 0"]),
        (json.dumps(BENCH), ["read as vllm-bench: start times in seconds"]),
        (AZURE, ["read as azure: TIMESTAMP is a date"]),
    ],
)
def test_what_is_guessed_is_said(tmp_path: Path, text: str, said: list[str]) -> None:
    notes = load_trace(saved(tmp_path, text))[0].notes
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))


def test_what_is_guessed_of_conversations_is_said(tmp_path: Path) -> None:
    turns = [{"value": "hello there"}, {"value": "hi"}]
    path = saved(tmp_path, json.dumps([{"conversations": turns}]))
    times, lengths = load_trace(path)[0].notes
    assert "conversations have no times: all requests arrive at 0" in times
    assert "lengths are estimates, a token for every 4 characters" in lengths
    assert load_trace(path, count_tokens=len)[0].notes == (times,)


def test_a_format_can_be_demanded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--format azura: expected one of jsonl"):
        load_trace(saved(tmp_path, AZURE), format="azura")
    with pytest.raises(InputError, match=r"file:1: expected the columns Timestamp, Request tokens"):
        load_trace(saved(tmp_path, AZURE), format="burstgpt")
    with pytest.raises(InputError, match="file:1: expected the columns timestamp"):
        load_trace(saved(tmp_path, AZURE), format="jsonl")
    milliseconds, _ = load_trace(saved(tmp_path, MOONCAKE), format="jsonl")
    assert milliseconds.arrival_time[0] == 27482


def test_the_real_traces(shared_data: Path) -> None:
    azure, _ = load_trace(shared_data / "traces" / "azure_conv_2023.parquet")
    assert len(azure) == 19_366
    assert azure.num_prompt_tokens.mean() == pytest.approx(1155, abs=0.5)
    mooncake, _ = load_trace(shared_data / "traces" / "mooncake_conversation.parquet")
    assert (len(mooncake), mooncake.hash_block_size) == (12_031, 512)
    sharegpt, _ = load_trace(shared_data / "traces" / "llmservingsim_sharegpt_llama31_8b.csv.gz")
    assert len(sharegpt) == 300


# -- one reader of rows, whatever holds them -------------------------------------------------------------
ROWS = [
    {"timestamp": 0.0, "input_length": 40, "output_length": 5, "hash_ids": [1, 2, 3], "hash_block_size": 16},
    {"timestamp": 0.5, "input_length": 30, "output_length": 6, "hash_ids": [1, 9], "hash_block_size": 16},
]


def as_csv(rows: list[dict[str, object]], delimiter: str = ",", end: str = "\n") -> str:
    quoted = [
        [f'"{value}"' if delimiter in str(value) else str(value) for value in row.values()] for row in rows
    ]
    return end.join(delimiter.join(line) for line in [list(rows[0]), *quoted]) + end


def packed(name: str, data: bytes) -> bytes:
    if name == "zst":
        from backports import zstd

        return zstd.compress(data)
    return {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[name](data)


JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", JSON_LINES.encode()),
        ("t.jsonl", JSON_LINES.replace("\n", "\r\n").encode()),
        ("t.json", json.dumps(ROWS).encode()),
        ("t.json", json.dumps(ROWS, indent=1).encode()),
        ("t.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
        ("t.csv", as_csv(ROWS).encode()),
        ("t.csv", as_csv(ROWS, ";").encode()),
        ("t.csv", as_csv(ROWS, "\t").encode()),
        ("t.csv", as_csv(ROWS, end="\r\n").encode()),
        ("t.csv", as_csv(ROWS).encode("utf-16")),
        ("t.csv", as_csv(ROWS).encode("utf-16-le")),
        ("t.csv", b"\xef\xbb\xbf" + as_csv(ROWS).encode()),
        *((f"t.csv.{how}", packed(how, as_csv(ROWS).encode())) for how in ("gz", "zst", "xz", "bz2")),
    ],
)
def test_rows_are_read_alike_whatever_holds_them(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    trace, counts = load_trace(path)
    assert trace.arrival_time.tolist() == [0, 0.5]
    assert trace.num_prompt_tokens.tolist() == [40, 30]
    assert trace.hash_ids == [(1, 2, 3), (1, 9)]
    assert trace.hash_block_size == 16
    assert counts == {}
    assert "timestamp in seconds, hash ids of 16 tokens" in trace.notes[0]


def test_parquet_has_all_columns(tmp_path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(tmp_path / "t.parquet")
    trace, _ = load_trace(tmp_path / "t.parquet")
    assert (trace.hash_ids, trace.hash_block_size) == ([(1, 2, 3), (1, 9)], 16)


@pytest.mark.parametrize("damaged", ["gz", "zst", "xz", "bz2"])
def test_a_damaged_packed_file_is_refused(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(packed(damaged, as_csv(ROWS * 50).encode())[:-9])
    with pytest.raises(InputError, match="a damaged or truncated"):
        load_trace(path)


def test_text_in_a_csv_is_kept_and_does_not_split_rows(tmp_path: Path) -> None:
    prompt = 'two\nlines, "quotes", a \u2028 and \x85 and \x0c'
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "input_length", "output_length", "prompt"])
        writer.writerows([[0, 3, 4, prompt], [1, 0, 4, "x"]])
    with pytest.raises(InputError, match=r"t.csv:4: input_length 0: expected"):  # not :3, for the line break
        load_trace(path)
    assert load_trace(path, skip_invalid=True)[0].prompt == [prompt]


# -- units -----------------------------------------------------------------------------------------------
def lines_of(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mooncake(gap: float, n: int = 20, tokens: int = 700, **more: object) -> list[dict[str, object]]:
    return [
        {"timestamp": i * gap, "input_length": tokens, "output_length": 9, "hash_ids": [2 * i, 2 * i + 1]}
        | more
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("rows", "seconds", "block"),
    [
        (mooncake(250), 0.25, 512),  # Mooncake's own
        (mooncake(250, session_id="s"), 0.25, 512),  # one more key
        (mooncake(250.0), 0.25, 512),  # floats
        ([*mooncake(250)[:-1], mooncake(250)[-1] | {"hash_ids": [9]}], 0.25, 512),  # one row an id short
        (mooncake(250, tokens=100), 0.25, 64),
        (mooncake(0.25), 0.25, 512),
        (mooncake(2.0, n=3), 2, 512),
        (mooncake(250, request_id=None), 0.25, 512),
        ([{"timestamp": i / 4, "input_length": 7, "output_length": 9} for i in range(20)], 0.25, None),
        ([{"timestamp": i, "input_length": 7, "output_length": 9} for i in range(20)], 1, None),
    ],
)
def test_milliseconds_and_seconds(
    tmp_path: Path, rows: list[dict[str, object]], seconds: float, block: int | None
) -> None:
    trace, _ = load_trace(saved(tmp_path, lines_of(rows)))
    assert trace.arrival_time[1] == pytest.approx(seconds)
    assert trace.hash_block_size == block
    assert ("milliseconds" in trace.notes[0]) == (seconds != rows[1]["timestamp"])


@pytest.mark.parametrize(
    "rows",
    [
        [{"timestamp": 250 * i, "input_length": 7, "output_length": 9} for i in range(20)],
        mooncake(1),  # 1 request/s or 1000
        mooncake(250.5),
    ],
)
def test_a_unit_that_can_not_be_known_is_asked_for(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    path = saved(tmp_path, lines_of(rows))
    with pytest.raises(InputError, match=r"may be in seconds .* say which with --time-unit s or"):
        load_trace(path)
    for unit, factor in (("s", 1), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        trace, _ = load_trace(path, time_unit=unit)
        assert trace.arrival_time[1] == pytest.approx(rows[1]["timestamp"] * factor)


def test_the_name_of_a_time_column_says_its_unit(tmp_path: Path) -> None:
    for name, factor in (("arrival_s", 1), ("timestamp_ms", 1e-3), ("arrival_time_ns", 1e-9)):
        text = as_csv([{name: 250 * i, "input_length": 7, "output_length": 9} for i in range(20)])
        assert load_trace(saved(tmp_path, text))[0].arrival_time[1] == pytest.approx(250 * factor)


def test_the_rows_own_block_size_counts_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    rows = mooncake(250, hash_block_size=64, tokens=100)
    path = saved(tmp_path, lines_of(rows))
    assert load_trace(path, format="mooncake")[0].hash_block_size == 64
    with pytest.raises(InputError, match=r"--hash-block-size 128: .* says 64 itself"):
        load_trace(path, format="mooncake", hash_block_size=128)
    rows[3]["hash_block_size"] = 32
    with pytest.raises(InputError, match="file:4: hash_block_size 32: expected 64"):
        load_trace(saved(tmp_path, lines_of(rows)), format="mooncake")
    rows = mooncake(250)
    assert load_trace(saved(tmp_path, lines_of(rows)), hash_block_size=256)[0].hash_block_size == 256
    with pytest.raises(InputError, match=r"--hash-block-size 16: .* has no hash_ids"):
        load_trace(saved(tmp_path, AZURE), hash_block_size=16)


def test_a_block_size_that_can_not_be_seen_is_asked_for(tmp_path: Path) -> None:
    rows = [
        row | {"hash_ids": [1], "input_length": 5000, "request_id": str(i)}
        for i, row in enumerate(mooncake(1))
    ]
    with pytest.raises(InputError, match="say how many tokens one stands for with --hash-block-size"):
        load_trace(saved(tmp_path, lines_of(rows)))


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16 18:17:04.9799600", 1.0),
        ("2024-05-10T00:00:00Z", "2024-05-10T02:00:01+02:00", 1.0),
        ("2024-05-10 00:00:00.5+00:00", "2024-05-09 19:30:01-04:30", 0.5),
        ("1971", "1972", 1.0),
        ("0.25", "0.5", 0.25),
    ],
)
def test_the_times_of_azure_are_dates_or_seconds(
    tmp_path: Path, first: str, second: str, seconds: float
) -> None:
    path = saved(tmp_path, f'"TIMESTAMP","ContextTokens","GeneratedTokens"\n"{first}",1,2\n{second},3,4\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace, _ = load_trace(path)
    assert trace.arrival_time.tolist() == pytest.approx([0, seconds], abs=1e-9)


def test_times_that_are_no_seconds_are_not_taken_for_a_year(tmp_path: Path) -> None:
    rows = [f"{1715299200500 + 137 * i},1,2" for i in range(20)]
    path = saved(tmp_path, "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    with pytest.raises(
        InputError, match=r"file:2: timestamp 1715299200500 in column TIMESTAMP: .*--time-unit"
    ):
        load_trace(path)
    assert load_trace(path, time_unit="ms")[0].arrival_time[-1] == pytest.approx(19 * 0.137, abs=1e-12)


# -- columns ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "unread"),
    [
        (BURSTGPT, "Model, Total tokens, Log Type"),
        (AZURE.replace("GeneratedTokens", "GeneratedTokens,NumImages").replace("44\n", "44,1\n")
         .replace("109\n", "109,1\n").replace("55\n", "55,1\n"), "NumImages"),
        ("timestamp,input_length,output_length,Priority\n0,1,2,3\n", "Priority"),
        (lines_of([{"timestamp": 0.0, "input_length": 1, "output_length": 2, "Score": 3}]), "Score"),
    ],
)  # fmt: skip
def test_columns_that_nothing_reads_are_named(tmp_path: Path, text: str, unread: str) -> None:
    assert f"file: columns that nothing reads: {unread}" in load_trace(saved(tmp_path, text))[0].notes


def test_columns_are_chosen(tmp_path: Path) -> None:
    path = saved(tmp_path, "t,in,out,input_length\n0,1,2,9\n1,3,4,9\n")
    columns = {"timestamp": "t", "input_length": "in", "output_length": "out"}
    trace, _ = load_trace(path, columns=columns)
    assert (trace.num_prompt_tokens.tolist(), trace.num_output_tokens.tolist()) == ([1, 3], [2, 4])
    with pytest.raises(InputError, match=r"--columns input_length=no: .* has t, in, out"):
        load_trace(path, columns=columns | {"input_length": "no"})
    with pytest.raises(InputError, match=r"--columns inputs=in: expected one of timestamp"):
        load_trace(path, columns={"inputs": "in"})


def test_two_columns_for_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompt_tokens and input_tokens both look like input_length"):
        load_trace(saved(tmp_path, "timestamp,prompt_tokens,input_tokens,output_length\n0,1,2,3\n"))
    with pytest.raises(InputError, match="file:1: two columns 'timestamp'"):
        load_trace(saved(tmp_path, "timestamp,timestamp,input_length,output_length\n0,1,2,3\n"))


# -- conversations ---------------------------------------------------------------------------------------
def turns(*spoken: tuple[str, str], names: tuple[str, str] = ("from", "value")) -> list[dict[str, str]]:
    return [dict(zip(names, turn, strict=True)) for turn in spoken]


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ([("human", "q"), ("gpt", "aa")], ("q", "aa")),
        ([("gpt", "x"), ("human", "q"), ("gpt", "aa")], ("q", "aa")),
        ([("system", "s"), ("human", "q"), ("gpt", "aa")], ("s\n\nq", "aa")),
        ([("user", "q"), ("assistant", "aa"), ("user", "r"), ("assistant", "b")], ("q", "aa")),
        ([("human", "q"), ("human", "r"), ("gpt", "aa")], ("r", "aa")),
        ([("gpt", "x"), ("gpt", "y")], None),
        ([("human", "q")], None),
    ],
)
def test_who_speaks_is_known_by_the_role(
    spoken: list[tuple[str, str]], expected: tuple[str, str] | None
) -> None:
    assert first_exchange(turns(*spoken)) == expected
    assert first_exchange(turns(*spoken, names=("role", "content"))) == expected


def test_lmsys_and_wildchat(tmp_path: Path) -> None:
    exchange = turns(("user", "q" * 8), ("assistant", "a" * 20), names=("role", "content"))
    lmsys = [{"conversation_id": str(i), "model": "m", "conversation": exchange, "turn": 1} for i in range(3)]
    wild = [
        {"conversation_hash": "h", "timestamp": f"2023-04-09T00:02:{second}+00:00", "conversation": exchange}
        for second in ("53", "50")
    ]
    for rows, times in ((lmsys, [0, 0, 0]), (wild, [0, 3])):
        pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
        lines = saved(tmp_path, lines_of(rows), "lines")
        for path in (saved(tmp_path, json.dumps(rows)), lines, tmp_path / "t.parquet"):
            trace, _ = load_trace(path)
            assert trace.arrival_time.tolist() == times
            assert set(trace.num_prompt_tokens) == {2}
            assert set(trace.num_output_tokens) == {5}


# -- sessions --------------------------------------------------------------------------------------------
def test_bailian_has_parents(tmp_path: Path) -> None:
    rows = [
        {"chat_id": 9, "parent_chat_id": -1, "timestamp": 0.0, "input_length": 20, "output_length": 5,
         "type": "text", "turn": 1, "hash_ids": [1, 2]},
        {"chat_id": 7, "parent_chat_id": 9, "timestamp": 1.5, "input_length": 40, "output_length": 5,
         "type": "search", "turn": 2, "hash_ids": [1, 3, 4]},
        {"chat_id": 8, "parent_chat_id": 1234, "timestamp": 2.5, "input_length": 40, "output_length": 5,
         "type": "text", "turn": 5, "hash_ids": [6, 7, 8]},
    ]  # fmt: skip
    trace, _ = load_trace(saved(tmp_path, lines_of(rows)))
    assert trace.request_id == ["9", "7", "8"]
    assert trace.parent == [(), ("9",), ()]
    assert trace.session_id == ["9", "9", "1234"]
    assert trace.request_class == ["text", "search", "text"]
    assert trace.hash_block_size == 16
    assert "file: 1 of 3 requests follow one that is not in the file" in trace.notes
    before, tokens = history(trace)
    assert (before.tolist(), tokens.tolist()) == ([-1, 0, -1], [0, 25, 0])


@pytest.mark.parametrize(
    ("rows", "before", "tokens"),
    [
        ([{"session_id": "a"}, {"session_id": "b"}, {"session_id": "a"}], [-1, -1, 0], [0, 0, 15]),
        ([{"session_id": "a"}, {}, {"session_id": "a", "history_length": 4}], [-1, -1, 0], [0, 0, 4]),
        ([{"request_id": "x"}, {"request_id": "y", "parent": "x"}, {"request_id": "z", "parent": ["x", "y"]}],
         [-1, 0, 0], [0, 15, 15]),
        ([{"session_id": "a"}, {"session_id": "a", "input_length": 14}, {}], [-1, 0, -1], [0, 0, 0]),
    ],
)  # fmt: skip
def test_what_a_turn_goes_on_from(
    tmp_path: Path, rows: list[dict[str, object]], before: list[int], tokens: list[int]
) -> None:
    plain = {"input_length": 10, "output_length": 5}
    full = [plain | {"timestamp": float(i), "input_length": 10 + 20 * i} | row for i, row in enumerate(rows)]
    trace, _ = load_trace(saved(tmp_path, lines_of(full)))
    found, known = history(trace)
    assert (found.tolist(), known.tolist()) == (before, tokens)
    write_trace(trace, tmp_path / "again.jsonl")
    again, _ = load_trace(tmp_path / "again.jsonl")
    for name in ("session_id", "parent", "request_id"):
        assert getattr(again, name) == getattr(trace, name)
    np.testing.assert_array_equal(history(again)[1], known)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"parent": "nobody"}, "parent 'nobody' of request b: expected the request_id of a row above"),
        (
            {"history_length": 1},
            "history_length 1 of request b: expected at most 0, of its prompt and a request",
        ),
        ({"parent": "a", "history_length": 16}, "history_length 16 of request b: expected at most 15"),
        ({"parent": {}}, "file:2: parent {}: expected a request_id"),
        ({"history_length": -1}, "file:2: history_length -1: expected a whole number"),
    ],
)
def test_impossible_turns_are_refused(tmp_path: Path, row: dict[str, object], message: str) -> None:
    rows = [
        {"timestamp": 0.0, "input_length": 10, "output_length": 5, "request_id": "a"},
        {"timestamp": 1.0, "input_length": 30, "output_length": 5, "request_id": "b"} | row,
    ]
    with pytest.raises(InputError, match=message):
        load_trace(saved(tmp_path, lines_of(rows)))


def test_what_was_recorded_goes_on_without_a_dropped_turn_and_says_so(tmp_path: Path) -> None:
    shared = {"type": "text", "turn": 1, "hash_ids": [1, 2], "input_length": 20}
    rows = [
        shared | {"chat_id": 9, "parent_chat_id": -1, "timestamp": 0.0, "output_length": 0},
        shared | {"chat_id": 7, "parent_chat_id": 9, "timestamp": 1.5, "output_length": 5},
    ]
    trace, counts = load_trace(saved(tmp_path, lines_of(rows)), skip_invalid=True)
    assert (trace.request_id, trace.parent) == (["7"], [()])
    assert counts == {"dropped: invalid output_length": 1}
    assert "file: 1 of 1 requests follow one that is not in the file" in trace.notes


def test_sessions_of_calls(tmp_path: Path) -> None:
    def call(name: str, second: int, prompt: int, cached: int) -> dict[str, object]:
        tokens = {"prompt": prompt, "completion": 100, "cached": cached, "total": prompt + 100}
        stamp = f"2026-06-01T00:00:{second:02}.500Z"
        return {"message_id": name, "timestamp": stamp, "initiator_type": "user", "tokens": tokens}

    rows = [
        {"session_id": "x", "turns": [
            {"turn_id": "t0", "llm_calls": [call("m0", 1, 500, 0), call("m1", 3, 700, 600)]},
            {"turn_id": "t1", "llm_calls": [call("m0", 6, 400, 300)]},
        ]},
        {"session_id": "y", "turns": [{"turn_id": "t0", "llm_calls": [call("m0", 2, 50, 0)]}]},
    ]  # fmt: skip
    trace, _ = load_trace(saved(tmp_path, lines_of(rows)))
    assert trace.request_id == ["x/t0/m0", "y/t0/m0", "x/t0/m1", "x/t1/m0"]
    assert trace.arrival_time.tolist() == [0, 1, 2, 5]
    before, tokens = history(trace)
    assert before.tolist() == [-1, -1, 0, 2]
    assert tokens.tolist() == [
        0,
        0,
        600,
        300,
    ]  # the last one was compacted: what was cached is what it shares


# -- other simulators, and benchmarks --------------------------------------------------------------------
def test_vidur_and_llmservingsim(tmp_path: Path) -> None:
    vidur = saved(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n3,10,2\n1.5,20,3\n")
    assert load_trace(vidur)[0].arrival_time.tolist() == [0, 1.5]
    lengths = saved(tmp_path, "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n10,2,12,5\n")
    trace, _ = load_trace(lengths)
    assert (trace.num_prompt_tokens.tolist(), trace.arrival_time.tolist()) == ([10], [0])
    assert "no arrival times: all requests arrive at 0" in trace.notes[0]
    text = "input_toks\toutput_toks\tarrival_time_ns\n10\t2\t0\n20\t3\t1500000000\n"
    assert load_trace(saved(tmp_path, text))[0].arrival_time.tolist() == [0, 1.5]
    flat = lines_of([{"input_toks": 10, "output_toks": 2, "arrival_time_ns": 0, "input_tok_ids": [1, 2]}])
    assert load_trace(saved(tmp_path, flat))[0].num_prompt_tokens.tolist() == [10]


def test_several_runs_in_one_bench_file(tmp_path: Path) -> None:
    runs = [BENCH | {"request_rate": 2}, BENCH | {"request_rate": 4, "output_lens": [8, 9, 10]}]
    for text in (lines_of(runs), "\n".join(json.dumps(run, indent=1) for run in runs)):
        path = saved(tmp_path, text)
        with pytest.raises(
            InputError, match=r"2 benchmark runs .*1: request_rate 2; 2: .*choose one with --format"
        ):
            load_trace(path)
        trace, _ = load_trace(path, format="vllm-bench(run=2)")
        assert trace.num_output_tokens.tolist() == [9, 8, 10]
        with pytest.raises(InputError, match=r"--format vllm-bench\(run=3\): .* has 2 runs"):
            load_trace(path, format="vllm-bench(run=3)")


def test_a_bench_result_without_requests_says_what_is_missing(tmp_path: Path) -> None:
    summary = {"date": "20261101", "request_throughput": 1.25, "total_input_tokens": 400, "completed": 4}
    with pytest.raises(InputError, match=r"expected input_lens, a list: .*--save-detailed"):
        load_trace(saved(tmp_path, json.dumps(summary)))


def aiperf(number: int, **more: object) -> dict[str, object]:
    start = 1761877876646336000 + number * 100_000_000
    return {
        "metadata": {"x_request_id": f"r{number}", "conversation_id": "c", "request_start_ns": start,
                     "benchmark_phase": "profiling", "was_cancelled": False},
        "metrics": {"input_sequence_length": {"value": 400, "unit": "tokens"},
                    "output_sequence_length": {"value": 30, "unit": "tokens"},
                    "time_to_first_token": {"value": 50.0, "unit": "ms"},
                    "inter_token_latency": {"value": 12.5, "unit": "ms"}},
        "error": None,
    } | more  # fmt: skip


def test_aiperf(tmp_path: Path) -> None:
    warm = aiperf(0)
    warm["metadata"] = {**warm["metadata"], "benchmark_phase": "warmup"}  # type: ignore[dict-item]
    path = saved(tmp_path, lines_of([warm, aiperf(1), aiperf(2), aiperf(3, error={"code": 500}, metrics={})]))
    with pytest.raises(InputError, match="file:4: a request that failed"):
        load_trace(path)
    trace, counts = load_trace(path, skip_invalid=True)
    assert trace.arrival_time.tolist() == [0, 0.1]
    assert trace.session_id == ["c", "c"]
    assert counts == {"dropped: of the warm-up": 1, "dropped: failed": 1}
    tool, (run,) = load_bench(path)
    assert (tool, run.ttft[0], run.itl[0]) == ("aiperf", 0.05, 0.0125)


def test_guidellm_and_inference_perf(tmp_path: Path) -> None:
    def request(name: str, start: float) -> dict[str, object]:
        return {"request_id": name, "request_start_time": 1.7e9 + start, "prompt_tokens": 100,
                "output_tokens": 20, "request_latency": 1.25, "time_to_first_token_ms": 40.0}  # fmt: skip

    one = {"requests": {"successful": [request("b", 2), request("a", 1)], "incomplete": [request("c", 3)],
                        "errored": []}}  # fmt: skip
    path = saved(tmp_path, json.dumps({"metadata": {}, "benchmarks": [one]}, indent=1))
    trace, counts = load_trace(path)
    assert (trace.request_id, trace.arrival_time.tolist()) == (["a", "b"], [0, 1])
    assert counts == {"dropped: incomplete": 1}
    _, (run,) = load_bench(path)
    assert (run.ttft, run.e2el) == ([0.04, 0.04], [1.25, 1.25])
    path = saved(tmp_path, json.dumps({"benchmarks": [one, one]}))
    with pytest.raises(InputError, match="2 benchmark runs"):
        load_trace(path)

    def lifecycle(start: float, **info: object) -> dict[str, object]:
        return {"stage_id": 0, "start_time": start, "end_time": start + 1, "request": "", "info": info,
                "error": None}  # fmt: skip

    older = lifecycle(5.0, input_tokens=10, output_tokens=3, output_token_times=[5.25, 5.5, 6.0])
    newer = lifecycle(
        6.5, request_metrics={"text": {"input_tokens": 20}}, input_tokens=20,
        response_metrics={"output_tokens": 2, "output_token_times": [6.75, 7.5]},
    )  # fmt: skip
    path = saved(tmp_path, json.dumps([older, newer]))
    trace, _ = load_trace(path)
    assert trace.arrival_time.tolist() == [0, 1.5]
    assert (trace.num_prompt_tokens.tolist(), trace.num_output_tokens.tolist()) == ([10, 20], [3, 2])
    _, (run,) = load_bench(path)
    assert (run.ttft, run.itl) == ([0.25, 0.25], [[0.25, 0.5], [0.75]])


@pytest.mark.parametrize("option", ["time_unit", "hash_block_size", "columns"])
def test_a_benchmarks_units_are_known(tmp_path: Path, option: str) -> None:
    given = {"time_unit": "ms", "hash_block_size": 16, "columns": {"timestamp": "x"}}[option]
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}: .* is a result of vllm-bench"):
        load_trace(saved(tmp_path, json.dumps(BENCH)), **{option: given})


# -- the small files that once went wrong ----------------------------------------------------------------
def test_cases(shared_cases: Path) -> None:
    plain, session = (load_trace(shared_cases / "08-mooncake-variants" / f"load_{name}.jsonl")[0]
                      for name in ("plain", "session"))  # fmt: skip
    np.testing.assert_array_equal(plain.arrival_time, session.arrival_time)
    assert plain.arrival_time[1] == 0.03
    assert (shared_prefix(plain), shared_prefix(session)) == (0, 0)
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        trace, _ = load_trace(shared_cases / "05-prefix-info-lost" / name)
        assert trace.hash_block_size == 256
        assert shared_prefix(trace) == pytest.approx(0.675)
    rag, _ = load_trace(shared_cases / "04-content-hash-share" / "rag.jsonl")
    assert shared_prefix(rag) == pytest.approx(0.322, abs=5e-4)
    quoted, _ = load_trace(shared_cases / "11-tables" / "azure_R.csv")
    assert quoted.num_prompt_tokens.tolist() == [374, 396]
