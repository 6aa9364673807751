"""Compose the time of a step from tables of single GPU kernels.

Two public sets of tables are understood, as Parquet files in one folder:

- Vidur (microsoft/vidur @ 7d475133): every operation of a decoder layer but attention, at 451 token counts,
  on an A100-SXM4-80GB;
- AIConfigurator (aiconfigurator-core 0.12.0): matrix products, attention and all-reduce, on an A100 (vLLM
  0.14.0) and on an H100, an H200 and a B200 (vLLM 0.24.0).

A step is: host work (unless the host has a block of its own) + embedding + layers x (small operations +
matrix products + attention + all-reduces) + the vocabulary projection of each sequence. On an A100 Vidur's
grid shows the tiles of small products, so it rules up to 384 tokens; its large products are 18 % slower than
vLLM's today, so from 1,024 tokens AIConfigurator's rule, with a logarithmic blend between. On the other cards
all products are AIConfigurator's.

A card with slower or faster memory than the A100-80GB is derived where there is no table of its own: what
only waits for memory (small operations; for the A100-40GB also decode attention and a product with one row)
takes time by the ratio of the bandwidths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simsched.cost_model.facts import GPUS, Architecture, Gpu
from simsched.cost_model.fit import Steps
from simsched.errors import InputError

if TYPE_CHECKING:
    import polars as pl

FloatArray = NDArray[np.float64]

# Host time that CUDA graphs and kernels do not hide, in ms: fitted to half of the decode steps of one public
# end-to-end run of vLLM (Llama-3-8B on an A100-80GB, CUDA graphs), which scheduled every ten steps and
# overlapped nothing.
HOST_MS = 0.371
HOST_MS_PER_SEQUENCE = 0.0166

CUDA_GRAPH_TOKENS = 512  # vLLM pads smaller steps to the next captured size: 1, 2, 4, then multiples of 8
BLEND_FROM = 384  # tokens; above it Vidur's matrix products give way to AIConfigurator's
BLEND_AT = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class StepBatch:
    """One step's sequences."""

    contexts: tuple[int, ...]
    """Tokens in the KV cache of each decode, the new one included."""
    chunks: tuple[tuple[int, int], ...]
    """(new tokens, tokens computed before) of each prefill chunk."""


MEASURED_ON = GPUS["a100-80gb"]  # by Vidur


def slower(gpu: Gpu) -> float:
    """How much longer this card reads memory than the measured one; InputError if nobody knows."""
    if not gpu.tables or not gpu.bandwidth or not MEASURED_ON.bandwidth:
        raise InputError(f"--gpu {gpu.name}: the kernel tables cover {', '.join(GPUS)}")
    return MEASURED_ON.bandwidth / gpu.bandwidth


class Kernels:
    """Times of one model's kernels on `tp` GPUs, in ms, interpolated from the tables in a folder."""

    def __init__(self, folder: Path, model: Architecture, tp: int, gpu: Gpu = MEASURED_ON) -> None:
        if model.kv_heads % tp:
            raise InputError(f"--tp {tp}: {model.name} has {model.kv_heads} KV heads to share evenly")
        self.model, self.tp = model, tp
        self._vidurs_card = gpu.tables == MEASURED_ON.tables
        self._slower = slower(gpu)
        of_table = self._slower if self._vidurs_card else 1.0  # of what its own table has
        heads: dict[str, int | str] = {
            "num_heads": model.heads // tp, "num_key_value_heads": model.kv_heads // tp,
            "kv_cache_dtype": "bfloat16",
        }  # fmt: skip
        products = _table(folder, f"{gpu.tables}*gemm", {"gemm_dtype": "bfloat16"})
        self._products = _Products(products, of_table)
        self._read_layer(_table(folder, f"mlp_{model.table}", {"num_tensor_parallel_workers": tp}))
        attention = _table(folder, f"{gpu.tables}*context_attention", {**heads, "batch_size": 1})
        prefill = attention.sort("isl")
        self._prefill = prefill["isl"].to_numpy(), prefill["latency"].to_numpy()
        self._decode: dict[int, tuple[FloatArray, FloatArray]] = {}
        decode = _table(folder, f"{gpu.tables}*generation_attention", heads).sort("step")
        launch = float(decode["latency"].to_numpy().min())
        for batch in decode["batch_size"].unique().to_list():
            rows = decode.filter(decode["batch_size"] == batch)
            times = launch + (rows["latency"].to_numpy() - launch) * of_table
            self._decode[batch] = rows["step"].to_numpy() + 1.0, times
        self._batches = sorted(self._decode)
        if tp > 1:
            where: dict[str, int | str] = {"num_gpus": tp, "backend": "vllm_graph"}
            reduce = _table(folder, f"{gpu.tables}*allreduce", where).sort("message_size")
            self._reduce = reduce["message_size"].to_numpy(), reduce["latency"].to_numpy()

    def _read_layer(self, table: pl.DataFrame) -> None:
        import polars as pl

        table = table.group_by("num_tokens").agg(pl.col("^time_stats.*median$").median()).sort("num_tokens")

        def column(name: str) -> FloatArray:
            return table[f"time_stats.{name}.median"].to_numpy()

        self._tokens: FloatArray = table["num_tokens"].to_numpy().astype(float)
        small_names = ("input_layernorm", "post_attention_layernorm", "attn_rope", "mlp_act", "add", "add")
        large_names = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
        small = np.sum([column(name) for name in small_names], axis=0)
        small = small[0] + (small - small[0]) * self._slower
        self._ends = column("emb") + column("input_layernorm")
        if not self._vidurs_card:
            self._layer = small + [self._layer_products(int(m)) for m in self._tokens]
            return
        products = np.sum([column(name) for name in large_names], axis=0)
        # how much faster the other table's products are, over log(tokens)
        ratio = [self._layer_products(m) / np.interp(m, self._tokens, products) for m in BLEND_AT]
        grid = np.log([BLEND_FROM, *BLEND_AT])
        products = np.maximum(products, products[0] * self._slower)
        products = products * np.interp(np.log(self._tokens), grid, [1.0, *ratio])
        self._layer = products + small

    def _layer_products(self, tokens: int) -> float:
        m, tp, time = self.model, self.tp, self._products.time
        heads = (m.heads + 2 * m.kv_heads) * m.head_dim // tp
        return (
            time(tokens, heads, m.hidden)
            + time(tokens, m.hidden, m.heads * m.head_dim // tp)
            + time(tokens, 2 * m.intermediate // tp, m.hidden)
            + time(tokens, m.hidden, m.intermediate // tp)
        )

    def step(self, batch: StepBatch) -> float:
        """Seconds for this step where host and device take turns, as in the run that `HOST_MS` is from."""
        sequences = len(batch.contexts) + len(batch.chunks)
        return self.device(batch) + (HOST_MS + HOST_MS_PER_SEQUENCE * sequences) / 1e3

    def device(self, batch: StepBatch) -> float:
        """Seconds for this step on the device alone."""
        sequences = len(batch.contexts) + len(batch.chunks)
        tokens = len(batch.contexts) + sum(chunk for chunk, _ in batch.chunks)
        padded = tokens
        if tokens <= CUDA_GRAPH_TOKENS:
            padded = int(self._tokens[np.searchsorted(self._tokens, tokens)])
        per_layer = float(np.interp(padded, self._tokens, self._layer)) + self._attention(batch)
        if self.tp > 1:
            # one after attention, one after the MLP; the table counts elements
            per_layer += 2 * float(np.interp(padded * self.model.hidden, *self._reduce))
        head = self._products.time(sequences, self.model.vocabulary // self.tp, self.model.hidden)
        ends = float(np.interp(padded, self._tokens, self._ends))
        return (ends + self.model.layers * per_layer + head) / 1e3

    def _attention(self, batch: StepBatch) -> float:
        time = 0.0
        if batch.contexts:
            time += self._decode_attention(len(batch.contexts), sum(batch.contexts) / len(batch.contexts))
        if batch.chunks:
            # a chunk behind a prefix costs what the whole costs more than the prefix; one launch for all
            launch = self._prompt(1)
            time += launch + sum(
                self._prompt(prior + chunk) - (self._prompt(prior) if prior else launch)
                for chunk, prior in batch.chunks
            )
        return time

    def _prompt(self, tokens: int) -> float:
        lengths, times = self._prefill
        if tokens > lengths[-1]:  # beyond the table it grows with the square
            return float(times[-1] * (tokens / lengths[-1]) ** 2)
        return float(np.interp(tokens, lengths, times))

    def _decode_attention(self, batch: int, context: float) -> float:
        low, high = _bracket(self._batches, batch)
        below, above = (_line(context, *self._decode[self._batches[index]]) for index in (low, high))
        share = (batch - self._batches[low]) / (self._batches[high] - self._batches[low])
        return below + share * (above - below)


class _Products:
    """Matrix products (m x k) · (k x n), linear between the measured sizes."""

    def __init__(self, table: pl.DataFrame, slower: float) -> None:
        self._axes = [sorted(table[name].unique().to_list()) for name in ("m", "n", "k")]
        self._times = {
            (m, n, k): time for m, n, k, time in table.select("m", "n", "k", "latency").iter_rows()
        }
        self._slower = slower

    def time(self, m: int, n: int, k: int) -> float:
        """Milliseconds; at least what reading the weights takes."""
        return max(self._interpolate(m, n, k), self._slower * self._interpolate(1, n, k))

    def _interpolate(self, m: int, n: int, k: int) -> float:
        corners = []
        for value, axis in zip((m, n, k), self._axes, strict=True):
            low, high = _bracket(axis, value)
            share = (value - axis[low]) / (axis[high] - axis[low])
            corners.append(((axis[low], 1 - share), (axis[high], share)))
        total = 0.0
        for (cm, wm), (cn, wn), (ck, wk) in product(*corners):
            total += wm * wn * wk * self._times[cm, cn, ck]
        return total


def _bracket(axis: list[int], value: float) -> tuple[int, int]:
    """Indices of the neighbours of `value`; the end segments go on beyond the ends."""
    high = min(max(int(np.searchsorted(axis, value)), 1), len(axis) - 1)
    return high - 1, high


def _line(x: float, xs: FloatArray, ys: FloatArray) -> float:
    """Linear interpolation that goes on beyond the last point (attention reads memory at a constant rate)."""
    if x > xs[-1] and len(xs) > 1:
        return float(ys[-1] + (x - xs[-1]) * (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]))
    return float(np.interp(x, xs, ys))


def _table(folder: Path, name: str, where: Mapping[str, int | str] | None = None) -> pl.DataFrame:
    import polars as pl

    files = sorted(folder.glob(f"*{name}*.parquet"))
    if len(files) != 1:
        raise InputError(f"--from-kernels {folder}: expected one file *{name}*.parquet, found {len(files)}")
    try:
        rows = pl.read_parquet(files[0])
        for column, value in (where or {}).items():
            rows = rows.filter(pl.col(column) == value)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{files[0]}: not a kernel table: {str(error).splitlines()[0]}") from None
    if rows.is_empty():
        raise InputError(f"{files[0]}: no row with {where}")
    return rows


def sample_batches(model: Architecture, count: int, seed: int | list[int]) -> list[StepBatch]:
    """Batches that a server may meet: a third decodes only, a third prefills only, a third both.

    Decodes 1 to 256 and prefill tokens 16 to 8,192, log-uniform; contexts log-normal about a log-uniform
    mean; every other first chunk continues a prompt.
    """
    rng = np.random.default_rng(seed)
    longest = model.max_model_len
    batches = []
    for index in range(count):
        contexts: tuple[int, ...] = ()
        chunks: tuple[tuple[int, int], ...] = ()
        if index % 3 != 1:
            decodes = round(256 ** rng.random())
            # what 400,000 tokens of KV cache allow
            mean = min(_log_uniform(rng, 16, longest / 2), 400_000 / decodes)
            drawn = mean * rng.lognormal(-0.245, 0.7, size=decodes)  # mean of the factor: 1
            contexts = tuple(np.clip(drawn, 2, longest).astype(int).tolist())
        if index % 3 != 0:
            total = int(_log_uniform(rng, 16, 8192))
            parts = min(int(rng.geometric(0.5)), 1 + total // 64)
            cuts = np.sort(rng.integers(1, total, size=parts - 1))
            sizes = np.diff([0, *cuts, total])
            prior = int(_log_uniform(rng, 16, longest / 2)) if rng.random() < 0.5 else 0
            chunks = tuple((int(size), prior if i == 0 else 0) for i, size in enumerate(sizes) if size)
        batches.append(StepBatch(contexts, chunks))
    return batches


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def compose(kernels: Kernels, batches: list[StepBatch], *, device_only: bool = False) -> Steps:
    """Features and composed time of each batch: of the whole step, or of its device alone."""
    time = kernels.device if device_only else kernels.step
    rows = [
        (
            sum(chunk for chunk, _ in batch.chunks),
            len(batch.contexts),
            len(batch.chunks),
            sum(batch.contexts),
            sum(chunk * (prior + chunk / 2) for chunk, prior in batch.chunks),
            time(batch),
        )
        for batch in batches
    ]
    return Steps(*np.array(rows, dtype=np.float64).T)
