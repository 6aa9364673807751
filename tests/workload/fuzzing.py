"""Files of every format with every oddity, each with the requests that were written into it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

Row = dict[str, Any]
SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst", "xz": ".xz", "bzip2": ".bz2"}


@dataclass
class Model:
    """The requests, in order of arrival."""

    nanoseconds: list[int]
    prompts: list[int]
    outputs: list[int]
    hash_ids: list[list[int]] | None
    block: int

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass
class File:
    """A file, how it is to be read, and what is in it."""

    name: str
    data: bytes
    model: Model
    options: dict[str, Any] = field(default_factory=dict)
    clear: bool = True
    """It must be read; otherwise it may also be refused."""
    broken: str | None = None
    """It must be refused, and this is part of the message."""
    said: str = ""
    """What a note must say where other times than the model's are read."""
    about: str = ""


@st.composite
def models(draw: st.DrawFn) -> Model:
    n = draw(st.integers(1, 12))
    # whole milliseconds, so that every unit down to them is exact
    gaps = draw(st.lists(st.sampled_from([0, 1, 3, 40, 250, 1000, 3000, 77_777]), min_size=n, max_size=n))
    epoch = draw(st.sampled_from([0, 0, 0, 27_482, 1_699_999_999_123]))
    times = (epoch + np.cumsum(gaps)).tolist()
    prompts = draw(st.lists(st.integers(1, 3000), min_size=n, max_size=n))
    outputs = draw(st.lists(st.integers(1, 2000), min_size=n, max_size=n))
    block = draw(st.sampled_from([16, 64, 512, 48]))
    hash_ids = None
    if draw(st.booleans()):
        hash_ids = []
        for prompt in prompts:
            count, shared = -(-prompt // block), draw(st.integers(0, 3))
            own = draw(st.integers(100, 10**12))
            hash_ids.append([*range(shared), *range(own, own + count)][:count])
    return Model([time * 10**6 for time in times], prompts, outputs, hash_ids, block)


def in_unit(nanoseconds: int, unit: str, as_float: bool) -> int | float:
    per = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    whole, rest = divmod(nanoseconds, per)
    if as_float or rest:
        return nanoseconds / per
    return whole


def as_date(nanoseconds: int, style: int) -> str:
    stamp = str(np.datetime64(nanoseconds // 1000, "us"))
    if style == 0:
        return stamp.replace("T", " ") + "0"  # seven digits, as Azure writes them
    if style == 1:
        return stamp.replace("T", " ") + "+00:00"
    if style == 2:
        return stamp + "Z"
    later = str(np.datetime64(nanoseconds // 1000 + 7_200_000_000, "us"))
    return later.replace("T", " ") + "+02:00"


# -- containers ----------------------------------------------------------------------------------------
def as_json_lines(rows: list[Row], end: str) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def as_csv(rows: list[Row], end: str, delimiter: str, quoting: int) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(names)
    for row in rows:
        values = [row.get(name) for name in names]
        writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in values])
    return file.getvalue()


@st.composite
def contained(draw: st.DrawFn, rows: list[Row], tabular: bool = True) -> tuple[str, bytes]:
    """The rows as a file of some kind: its suffix and its content."""
    kinds = ["jsonl", "json", "pretty"] + (["csv", "csv", "parquet"] if tabular else [])
    kind = draw(st.sampled_from(kinds))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if kind == "parquet":
        file = io.BytesIO()
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(file)
        suffix, data = ".parquet", file.getvalue()
    else:
        if kind == "jsonl":
            text = as_json_lines(rows, end)
            if draw(st.booleans()):
                text = draw(st.sampled_from(["\n", "\n\n", "  \n"])) + text + "\n\n"
        elif kind == "csv":
            quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
            text = as_csv(rows, end, draw(st.sampled_from([",", ";", "\t", "|"])), quoting)
        else:
            text = json.dumps(rows, indent=1 if kind == "pretty" else None)
        suffix = {"jsonl": ".jsonl", "csv": ".csv"}.get(kind, ".json")
        encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
        data = text.encode(encoding)
    packing = draw(st.sampled_from(["none", "none", *SUFFIXES]))
    return suffix + SUFFIXES[packing], pack(data, packing)


def pack(data: bytes, packing: str) -> bytes:
    if packing == "zstd":
        from backports import zstd

        return zstd.compress(data)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "none": lambda data: data, "gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress,
    }  # fmt: skip
    return packers[packing](data)


# -- formats -------------------------------------------------------------------------------------------
@st.composite
def flat_files(draw: st.DrawFn) -> File:
    """Rows with one request each: ours and the public ones."""
    model = draw(models())
    shape = draw(
        st.sampled_from(
            ["ours", "ours", "mooncake", "bailian", "azure", "burstgpt", "vidur", "llmservingsim"]
        )
    )
    file = File("", b"", model, about=shape)
    as_float = draw(st.booleans())
    names = ("timestamp", "input_length", "output_length")
    unit, dates = "s", -1
    if shape == "ours":
        unit = draw(st.sampled_from(["s", "s", "ms", "us", "ns"]))
        column = draw(st.sampled_from(["timestamp", "arrival_time", "named", "date"]))
        if column == "named":
            names = (f"timestamp_{unit}", *names[1:])
        elif column == "date":
            dates = draw(st.integers(0, 3))
        else:
            names = (column, *names[1:])
            told = unit != "s" or draw(st.booleans())
            if told:
                file.options["time_unit"] = unit
            else:
                file.clear, file.said = False, f"{column} in"
    elif shape == "mooncake":
        unit = "ms"
        if draw(st.booleans()):
            file.options["format"] = "mooncake"
        else:
            file.clear, file.said = False, "timestamp in"
    elif shape == "azure":
        names = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
        dates = draw(st.integers(-1, 3))
    elif shape == "burstgpt":
        names = ("Timestamp", "Request tokens", "Response tokens")
    elif shape == "vidur":
        names = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
    elif shape == "llmservingsim":
        names, unit = ("arrival_time_ns", "input_toks", "output_toks"), "ns"
    if unit != "s" and model.nanoseconds[0] > 10**18 and as_float:
        as_float = False  # as floats, nanoseconds since 1970 are no longer what they were
    ids = model.hash_ids is not None and shape in ("ours", "mooncake", "bailian")
    if not ids:
        model.hash_ids = None
    if shape == "bailian" and ids:
        model.block = 16
        model.hash_ids = [[9 * i + j for j in range(-(-p // 16))] for i, p in enumerate(model.prompts)]
    how = draw(st.sampled_from(["row", "option", "guess"])) if ids and shape != "bailian" else "known"
    if how == "option":
        file.options["hash_block_size"] = model.block
    elif how == "guess":
        file.clear = False
    extra = draw(st.sampled_from(["", "Priority", "NumImages", "Session ID", "model\u2028name"]))
    rows = []
    for i in range(len(model)):
        time: Any = in_unit(model.nanoseconds[i], unit, as_float)
        if dates >= 0:
            time = as_date(model.nanoseconds[i], dates)
        row = dict(zip(names, (time, model.prompts[i], model.outputs[i]), strict=True))
        if shape == "bailian":
            row = {"chat_id": i, "parent_chat_id": i - 1 if i % 3 else -1, "type": "text", **row}
        if model.hash_ids is not None:
            row["hash_ids"] = model.hash_ids[i]
            if how == "row":
                row["hash_block_size"] = model.block
        if extra:
            row[extra] = 'x;y, "z"\n\u2028' if i % 2 else "w"
        rows.append(row)
    public = shape not in ("ours",) and "time_unit" not in file.options
    order = list(range(len(rows)))
    certain = public and (shape != "mooncake" or "format" in file.options)
    if certain and len(set(model.nanoseconds)) == len(rows) and shape != "bailian" and draw(st.booleans()):
        order = draw(st.permutations(order))
    shuffled = [rows[i] for i in order]
    if draw(st.integers(0, 5)) == 0:
        _damage(draw, file, shuffled, names)
    suffix, file.data = draw(contained(shuffled))
    file.name = "trace" + suffix
    return file


def _damage(draw: st.DrawFn, file: File, rows: list[Row], names: tuple[str, ...]) -> None:
    """Make one value impossible, or leave a column out."""
    name = draw(st.sampled_from(names))
    if draw(st.booleans()):
        for row in rows:
            del row[name]
        if name == "arrived_at":  # a trace of lengths alone, which is a format of its own
            file.broken = None
            file.model.nanoseconds = [0] * len(rows)
            file.model.prompts = [row[names[1]] for row in rows]  # in the order of the file
            file.model.outputs = [row[names[2]] for row in rows]
            file.options.pop("time_unit", None)
        else:
            file.broken = ""
        return
    row = draw(st.integers(0, len(rows) - 1))
    bad = draw(st.sampled_from(["many", -5, None]))
    if isinstance(rows[row][name], str) or bad == "many":
        bad = "soon"
        for each in rows:  # Parquet columns have one type
            each[name] = str(each[name])
    rows[row][name] = bad
    file.broken = ""


@st.composite
def conversation_files(draw: st.DrawFn) -> File:
    """Text, with a token for each character."""
    model = draw(models())
    model.hash_ids = None
    model.prompts, model.outputs = [1 + p % 50 for p in model.prompts], [1 + o % 50 for o in model.outputs]
    name = draw(st.sampled_from(["sharegpt", "lmsys-chat", "wildchat"]))
    role, text = ("from", "value") if name == "sharegpt" else ("role", "content")
    human, answerer = draw(st.sampled_from([("human", "gpt"), ("user", "assistant")]))
    rows = []
    for i in range(len(model)):
        oddity = draw(st.integers(0, 3))
        prompt, answer = "q" * model.prompts[i], "\u2028" * model.outputs[i]
        turns = [{role: human, text: prompt}, {role: answerer, text: answer}]
        if oddity == 1:
            turns = [{role: answerer, text: "before"}, *turns]
        elif oddity == 2 and model.prompts[i] > 3:
            turns = [{role: "system", text: "s"}, {role: human, text: prompt[3:]}, turns[1]]
        elif oddity == 3:
            turns = [*turns, {role: human, text: "more"}, {role: answerer, text: "and more"}]
        row: Row = {"id": f"c{i}", ("conversations" if name == "sharegpt" else "conversation"): turns}
        if name == "wildchat":
            row |= {"conversation_hash": "h", "timestamp": as_date(model.nanoseconds[i], 1)}
        rows.append(row)
    if name != "wildchat":
        model.nanoseconds = [0] * len(model)
    suffix, data = draw(contained(rows, tabular=False))
    return File("talk" + suffix, data, model, {"count_tokens": len}, about=name)


@st.composite
def bench_files(draw: st.DrawFn) -> File:
    model = draw(models())
    model.hash_ids = None
    tool = draw(st.sampled_from(["vllm-bench", "aiperf", "guidellm", "inference-perf", "agentic"]))
    n = len(model)
    seconds = [time / 1e9 for time in model.nanoseconds]
    file = File("bench", b"", model, about=tool)
    lines = False
    if tool == "vllm-bench":
        document: Any = {
            "request_rate": 2.0, "input_lens": model.prompts, "output_lens": model.outputs,
            "errors": [""] * n, "start_times": seconds,
        }  # fmt: skip
        runs = draw(st.integers(1, 3))
        if runs > 1:
            other = document | {"output_lens": [7] * n}
            chosen = draw(st.integers(1, runs))
            document = [document if at == chosen else other for at in range(1, runs + 1)]
            file.options["format"] = f"vllm-bench(run={chosen})"
            if draw(st.booleans()):
                file.options, file.broken = {}, f"{runs} benchmark runs"
            lines = True
    elif tool == "aiperf":
        lines = True
        document = [
            {"metadata": {"x_request_id": str(i), "request_start_ns": model.nanoseconds[i]},
             "metrics": {"input_sequence_length": {"value": model.prompts[i], "unit": "tokens"},
                         "output_sequence_length": {"value": model.outputs[i], "unit": "tokens"}},
             "error": None}
            for i in range(n)
        ]  # fmt: skip
    elif tool == "guidellm":
        requests = [
            {"request_id": str(i), "request_start_time": seconds[i], "prompt_tokens": model.prompts[i],
             "output_tokens": model.outputs[i]}
            for i in range(n)
        ]  # fmt: skip
        document = {"benchmarks": [{"requests": {"successful": requests, "errored": [], "incomplete": []}}]}
    elif tool == "inference-perf":
        document = [
            {"start_time": seconds[i], "end_time": seconds[i] + 1, "error": None,
             "info": {"input_tokens": model.prompts[i], "output_tokens": model.outputs[i]}}
            for i in range(n)
        ]  # fmt: skip
    else:
        lines = True
        calls = [
            {"message_id": f"m{i}", "timestamp": as_date(model.nanoseconds[i], 2),
             "tokens": {"prompt": model.prompts[i], "completion": model.outputs[i], "cached": 0}}
            for i in range(n)
        ]  # fmt: skip
        document = [{"session_id": "s", "turns": [{"turn_id": "t", "llm_calls": calls}]}]
    indent = draw(st.sampled_from([None, 1])) if tool != "aiperf" else None
    documents = document if lines else [document]
    file.data = "\n".join(json.dumps(each, indent=indent) for each in documents).encode()
    if draw(st.integers(0, 5)) == 0 and len(file.data) > 40:
        file.data = file.data[: -draw(st.integers(3, 30))]
        file.broken = ""
    file.name += ".json"
    return file


def files() -> st.SearchStrategy[File]:
    return st.one_of(flat_files(), flat_files(), conversation_files(), bench_files())
