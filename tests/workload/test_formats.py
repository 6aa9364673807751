"""The public formats, by small files of each and by the real ones where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simsched.errors import InputError
from simsched.workload.formats import load_trace

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
    with pytest.raises(InputError, match=r"file:5: output_length 0.0: expected a whole number"):
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
        ("[46, 2353]", "[46]"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE.replace("374", "many"), r"file:2: input_length 'many'"),
        (AZURE.replace("2023-11-16 18:17:04.9799600", "yesterday"), r"file:2: timestamp 'yesterday'"),
        (AZURE.replace(",55", ""), r"file:4: 2 fields: expected 3"),
        (AZURE.replace(",55", ",nan"), r"file:4: output_length nan"),
        (AZURE.replace(",55", ","), r"file:4: output_length missing"),
        (AZURE.split("\n")[0], "expected at least one request, found none"),
        ("a,b,c\n1,2,3\n", r"file:1: 'a, b, c': expected JSON Lines, or a CSV header"),
        ("timestamp,input_length,output_length\n2,1,1\n1,1,1\n", r"file:3: timestamp 1 is before"),
        (MOONCAKE.replace("30535", '"x"'), r"file:2: timestamp 'x'"),
        (MOONCAKE.replace("30535", "-3"), r"file:2: timestamp -0.003"),
        (json.dumps(SHAREGPT)[:-10], "damaged or truncated JSON"),
        (json.dumps(BENCH)[:-10], "damaged or truncated JSON"),
        (json.dumps(BENCH | {"output_lens": None}), "--save-detailed"),
        (json.dumps(BENCH | {"output_lens": [1]}), "equally long"),
        (json.dumps(BENCH | {"output_lens": [1, -2, 3]}), "request 2: output_length -2"),
        (json.dumps(BENCH | {"start_times": 3}), "equally long"),
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
    with pytest.raises(InputError, match="expected the format azure, found a Parquet table"):
        load_trace(tmp_path / "t.parquet", format="azure")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MOONCAKE, ["read as mooncake: timestamp in milliseconds"]),
        (json.dumps({**BENCH, "start_times": []}), ["no start_times: all requests arrive at 0"]),
        (json.dumps(BENCH), []),
        (AZURE, []),
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
    with pytest.raises(InputError, match="file:1: 'TIMESTAMP"):
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
