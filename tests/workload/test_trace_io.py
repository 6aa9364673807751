"""Our JSON Lines: what is read, what is refused (with file and line), and that writing is all or nothing."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.errors import InputError
from simsched.workload.formats import load_trace
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace

GOOD = '{"timestamp": 0.5, "input_length": 12, "output_length": 40}'


def write(folder: Path, *lines: str) -> Path:
    path = folder / "t.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def full_trace() -> Trace:
    return Trace(
        arrival_time=np.array([0.0, 0.1 + 0.2, 7.0]),
        num_prompt_tokens=np.array([1, 40, 33]),
        num_output_tokens=np.array([1, 2, 3]),
        request_id=["a", "b", "ü"],
        score=np.array([-1.5, 1 / 3, 1e-9]),
        predicted_class=np.array([0, 2, 1]),
        predicted_length=np.array([1.5, 2.0, 3.25]),
        length_quantiles=np.array([[1.0, 2.5], [2.0, 2.0], [0.0, 1e4]]),
        priority=np.array([0, -3, 2]),
        tenant=["x", "y", "x"],
        hash_ids=[(1,), (1, 2, 3), (1, 9, 8)],
        hash_block_size=16,
        prompt=["Hi", 'a "quoted"\nline', "三"],
    )


def test_round_trip(tmp_path: Path) -> None:
    before = full_trace()
    write_trace(before, tmp_path / "t.jsonl")
    after, counts = load_trace(tmp_path / "t.jsonl")
    assert counts == {}
    for name in ("arrival_time", "num_prompt_tokens", "num_output_tokens", "score", "predicted_class"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("predicted_length", "length_quantiles", "priority"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("request_id", "tenant", "hash_ids", "hash_block_size", "prompt"):
        assert getattr(after, name) == getattr(before, name)


def test_arrivals_are_kept_as_they_are(tmp_path: Path) -> None:
    trace, _ = load_trace(write(tmp_path, GOOD))
    assert trace.arrival_time.tolist() == [0.5]
    assert trace.request_ids() == ["0"]


def test_numeric_ids_blank_lines_byte_order_mark_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    text = '\ufeff{"timestamp": 0, "input_length": 2.0, "output_length": 3, "request_id": 17}\n\n'
    path.write_bytes(gzip.compress(text.encode()))
    trace, _ = load_trace(path)
    assert trace.request_ids() == ["17"]
    assert trace.num_prompt_tokens.tolist() == [2]
    assert trace.name == "t"


def test_null_is_not_given(tmp_path: Path) -> None:
    trace, _ = load_trace(write(tmp_path, GOOD.replace("}", ', "score": null}')))
    assert trace.score is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "'{': expected one JSON object a line"),
        ("[1, 2]", "expected one JSON object a line"),
        (GOOD[:-3], "expected one JSON object a line"),
        (GOOD.replace("0.5", "-1"), "timestamp -1: expected seconds, at least 0"),
        (GOOD.replace("0.5", "NaN"), "timestamp nan: expected seconds"),
        (GOOD.replace("0.5", "Infinity"), "timestamp inf: expected seconds"),
        (GOOD.replace("0.5", '"0.5"'), "timestamp '0.5': expected seconds"),
        (GOOD.replace("0.5", "true"), "timestamp True: expected seconds"),
        (GOOD.replace("0.5", "1e999"), "timestamp inf: expected seconds"),
        (GOOD.replace("0.5", "9" * 400), "timestamp 999"),
        (GOOD.replace("12", "0"), "input_length 0: expected a whole number of tokens, at least 1"),
        (GOOD.replace("12", "-5"), "input_length -5"),
        (GOOD.replace("12", "12.5"), "input_length 12.5"),
        (GOOD.replace("40", "0"), "output_length 0"),
        (GOOD.replace("40", "null"), "output_length missing"),
        ('{"timestamp": 1, "input_length": 12}', "output_length missing"),
        (GOOD.replace("}", ', "score": "low"}'), "score 'low': expected a finite number"),
        (GOOD.replace("}", ', "predicted_class": -1}'), "predicted_class -1"),
        (GOOD.replace("}", ', "predicted_class": 1.5}'), "predicted_class 1.5"),
        (GOOD.replace("}", ', "predicted_length": -2}'), "predicted_length -2"),
        (GOOD.replace("}", ', "length_quantiles": [3, 2]}'), "length_quantiles [3, 2]: expected a list"),
        (GOOD.replace("}", ', "length_quantiles": [-1, 2]}'), "length_quantiles [-1, 2]"),
        (GOOD.replace("}", ', "length_quantiles": []}'), "length_quantiles []"),
        (GOOD.replace("}", ', "length_quantiles": [1, 2, 3]}'), "expected 2 numbers, as in the first row"),
        (GOOD.replace("}", ', "priority": 0.5}'), "priority 0.5"),
        (GOOD.replace("}", ', "tenant": []}'), "tenant []"),
        (GOOD.replace("}", ', "request_id": ""}'), "request_id ''"),
        (GOOD.replace("}", ', "hash_ids": [1, "x"]}'), "hash_ids [1, 'x']: expected a list of whole numbers"),
        (GOOD.replace("}", ', "prompt": 3}'), "prompt 3: expected a text"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_or_dropped(tmp_path: Path, line: str, message: str) -> None:
    columns = json.loads(line) if line.endswith("}") and not line.startswith("[") else {}
    good = json.loads(GOOD)
    proper = {"score": 1.0, "predicted_class": 1, "predicted_length": 2.0, "priority": 1, "tenant": "a"}
    proper |= {"length_quantiles": [1, 2.5]}
    proper |= {"request_id": "a", "hash_ids": [1], "prompt": "p"}
    first = json.dumps(good | {key: value for key, value in proper.items() if key in columns})
    path = write(tmp_path, first, line)
    with pytest.raises(InputError) as error:
        load_trace(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    trace, counts = load_trace(path, skip_invalid=True)
    assert len(trace) == 1
    assert sum(counts.values()) == 1


def test_an_optional_column_in_some_rows_only(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("}", ', "score": 1}'), GOOD)
    with pytest.raises(InputError, match=r"t.jsonl:2: score missing: expected a finite number"):
        load_trace(path)


def test_rows_out_of_order(tmp_path: Path) -> None:
    early = GOOD.replace("0.5", "0.25").replace("12", "7")
    path = write(tmp_path, GOOD, early)
    with pytest.raises(InputError, match=r"t.jsonl:2: timestamp 0.25 is before the row above"):
        load_trace(path)
    trace, counts = load_trace(path, skip_invalid=True)
    assert trace.num_prompt_tokens.tolist() == [7, 12]
    assert counts == {"sorted: out of order": 1}


def test_repeated_ids(tmp_path: Path) -> None:
    rows = [GOOD.replace("}", f', "request_id": {name}}}') for name in ('"1"', "2", "1")]
    path = write(tmp_path, *rows)
    with pytest.raises(InputError, match=r"t.jsonl:3: request_id 1: expected a request_id not used before"):
        load_trace(path)
    trace, counts = load_trace(path, skip_invalid=True)
    assert trace.request_ids() == ["1", "2"]
    assert counts == {"dropped: invalid request_id": 1}


def test_missing_empty_binary_truncated_and_folder(tmp_path: Path) -> None:
    for name, content, message in (
        ("missing", None, "No such file"),
        ("empty", b"", "empty file"),
        ("blank", b"\n \n", "empty file"),
        ("binary", bytes(range(256)), "binary byte"),
        ("zeros", b"\0" * 100, "binary byte"),
        ("cut.gz", gzip.compress(GOOD.encode() * 100)[:-9], "truncated gzip"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_trace(path)
    with pytest.raises(InputError, match="found a folder"):
        load_trace(tmp_path)


def test_nothing_left_after_dropping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none; all 2 rows were dropped"):
        load_trace(write(tmp_path, '{"x": 1}', "{"), skip_invalid=True)


@given(
    st.lists(st.sampled_from([GOOD, "{", "[]", '{"timestamp": "x"}', "[]]", "nul", GOOD[:20]]), max_size=5)
)
@settings(max_examples=60, deadline=None)
def test_any_lines_give_a_trace_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = write(tmp_path_factory.mktemp("lines"), *lines)
    for skip in (False, True):
        if (not skip and set(lines) != {GOOD}) or GOOD not in lines:
            with pytest.raises(InputError):
                load_trace(path, skip_invalid=skip)
        else:
            assert len(load_trace(path, skip_invalid=skip)[0]) == lines.count(GOOD)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_trace_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "t"
    for prefix in (
        b"",
        b"PAR1",
        b"\x1f\x8b",
        b'{"input_lens": ',
        b"[",
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n",
    ):
        path.write_bytes(prefix + data)
        with pytest.raises(InputError):
            load_trace(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("before")
    broken = full_trace().with_columns(tenant=["x", "y", object()])
    with pytest.raises(TypeError):
        write_trace(broken, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_impossible_place_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write it"):
        write_trace(full_trace(), tmp_path / "no" / "t.jsonl")
    with pytest.raises(InputError, match="cannot write it"):
        write_trace(full_trace(), tmp_path)


def test_hash_block_size_is_given_or_found(tmp_path: Path) -> None:
    row = {"timestamp": 0.0, "input_length": 100, "output_length": 1}
    for ids, given_size, expected in (([1], None, 512), (list(range(7)), None, 16), (list(range(3)), 40, 40)):
        extra = {"hash_ids": ids, "request_id": "a"} | ({"hash_block_size": given_size} if given_size else {})
        trace, _ = load_trace(write(tmp_path, json.dumps(row | extra)))
        assert trace.hash_block_size == expected
    with pytest.raises(InputError, match="at most one id for each 16 tokens"):
        load_trace(write(tmp_path, json.dumps(row | {"hash_ids": list(range(9)), "request_id": "a"})))


def test_a_guessed_block_size_and_unread_keys_are_said(tmp_path: Path) -> None:
    row = json.loads(GOOD) | {"hash_ids": [1, 2, 3], "input_length": 600, "request_id": "a"}
    _, guess = load_trace(write(tmp_path, json.dumps(row)))[0].notes
    assert "a hash id is taken for 256 tokens" in guess
    given = row | {"hash_block_size": 200, "Score": 3, "model": "x"}
    _, unread = load_trace(write(tmp_path, json.dumps(given)))[0].notes
    assert "columns that nothing reads: Score, model" in unread


def test_ten_thousand_lines_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    write_trace(named_workload("sharegpt").generate(10_000, 8.0), tmp_path / "t.jsonl")

    def seconds() -> float:
        start = time.process_time()
        load_trace(tmp_path / "t.jsonl")
        return time.process_time() - start

    # 0.03 s on a quiet machine; one time of several may contain a garbage collection of all tests so far
    assert min(seconds() for _ in range(4)) < 0.3
