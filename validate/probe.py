"""The probe workload: batches chosen so that every term of a step's time shows, on the host and on the device.

A replay's batches are what its requests happen to make of them; these are made on purpose, and take a minute
and a half on a GPU instead of hours. The two halves have the same blocks in other orders: what differs
between them is the machine, not a term. Nothing waits for a clock, so the batches are the same on every machine:
requests are added between steps, and with asynchronous scheduling each meets the next `schedule()`.

| block | batches | tells |
|---|---|---|
| ramp | decodes, their number falling from all slots to none, at two lengths of context; before them full prefill steps among ever more decodes | decode steps, context, output handling; full steps |
| chain | prefill steps of one size, one after the other, and each behind a full step, which hides its launch | prefill on the device, launches without decodes |
| chunks | one or more chunks among a number of decodes, alone and behind a full step | launches by sequences, chunks and tokens |
| prefix | chunks of one long prompt | attention to what is computed |
| mixed | as many requests of mixed lengths as a client of so many users sends | a check, like nothing above |
| marker | eight decodes and a small chunk, once a second | the host's speed over time |
"""  # noqa: E501  # a table

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simsched.engine.config import ResolvedConfig

HALVES = 2
PREFILLS = (64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2048)
"""Tokens of a chain's steps, in an engine whose steps have at most 2,048."""
SMALL = (16, 64, 128, 256)
"""Tokens of all chunks among decodes, likewise; all of them in CUDA graphs."""
LARGE = (600, 1000, 1800)
"""Likewise, beyond the largest graph."""
FULL = 2048
REPEATS = 3
"""Of each batch in each half; chains have twice as many."""


@dataclass(frozen=True)
class Added:
    """Requests that are added together, and how the engine goes on."""

    requests: tuple[tuple[int, int], ...]
    """Prompt and output tokens of each."""
    then: int | Literal["settled", "done"]
    """Step so many times; or until only decodes run; or until nothing runs."""


@dataclass(frozen=True)
class Users:
    """Requests of which so many are in the engine at any time, until all are done."""

    requests: tuple[tuple[int, int], ...]
    count: int


@dataclass(frozen=True)
class Block:
    """A part of the workload that begins and ends with an idle engine."""

    name: str
    parts: tuple[Added | Users, ...]

    def num_requests(self) -> int:
        return sum(len(part.requests) for part in self.parts)


class Sizes:
    """What fits the engine: the workload is written for 256 slots and 2,048 tokens a step."""

    def __init__(self, config: ResolvedConfig) -> None:
        self.slots = config.max_num_seqs
        self.step = min(config.max_num_batched_tokens, config.max_model_len - 2)
        self.longest = config.max_model_len - 1
        self.kv_tokens = int(0.9 * config.num_gpu_blocks) * config.block_size

    def tokens(self, of_2048: int) -> int:
        """A number of tokens in a step, to scale."""
        return max(1, min(self.step, round(of_2048 * self.step / FULL)))

    def decodes(self, of_256: int) -> int:
        """A number of running decodes, to scale."""
        return max(1, min(self.slots - 1, round(of_256 * self.slots / 256)))

    def context(self, wanted: int, outputs: int, requests: int) -> int:
        """A prompt's length, such that so many requests with these outputs fit."""
        return max(1, min(wanted, self.longest - outputs, self.kv_tokens // requests - outputs))


def make_half(config: ResolvedConfig, half: int, seed: int = 0) -> list[Block]:
    """The blocks of half 0 or 1, in an order of its own.

    Args:
        config: of the engine; its slots, step, context and KV blocks bound every batch.
        half: which.
        seed: of the orders and of the mixed lengths.
    """
    stream = np.random.default_rng([seed, half])
    sizes = Sizes(config)
    blocks = [
        *_ramps(sizes, half),
        *_chains(sizes),
        *_chunks(sizes, stream, (1, 64, 192), SMALL, (1, 4), "small"),
        *_chunks(sizes, stream, (1, 64, 192, 248), LARGE, (1, 3, 8), "large"),
        _prefix(sizes),
        *_mixed(sizes, stream),
    ]
    return [blocks[place] for place in stream.permutation(len(blocks))]


def marker(config: ResolvedConfig) -> Block:
    """Eight decodes and a chunk of 32 tokens, or what fits: the same batch whenever it is played."""
    sizes = Sizes(config)
    decodes = min(8, sizes.slots - 1)
    parts = (Added(((4, 8),) * decodes, "settled"), Added(((min(32, sizes.step - decodes), 1),), "done"))
    return Block("marker", parts)


def _ramps(sizes: Sizes, half: int) -> Iterator[Block]:
    """All slots are filled; then each request ends about a step after the one before it."""
    stride, slots = max(1, 64 // sizes.slots), sizes.slots
    for name, wanted in (("short", 64), ("long", (1200, 600)[half])):
        longest = stride * slots + wanted * slots // sizes.step + 4
        context = sizes.context(wanted, longest, slots)
        # those that come first decode while the others are prefilled
        requests = tuple(
            (context, (slots - place) * context // sizes.step + 4 + stride * (place + 1))
            for place in range(slots)
        )
        yield Block(f"ramp-{name}", (Added(requests, "done"),))


def _chains(sizes: Sizes) -> Iterator[Block]:
    full = sizes.step
    for of_2048 in PREFILLS:
        tokens = sizes.tokens(of_2048)
        alone = [Added(((tokens, 1),), 1) for _ in range(2 * REPEATS)]
        behind = [Added(((full, 1), (tokens, 1)), "done") for _ in range(2 * REPEATS)]
        yield Block(f"chain-{of_2048}", (*alone, Added((), "done"), *behind))


def _chunks(
    sizes: Sizes,
    stream: np.random.Generator,
    decodes: tuple[int, ...],
    prefills: tuple[int, ...],
    chunks: tuple[int, ...],
    name: str,
) -> Iterator[Block]:
    """Decodes go on in the background; three steps of them stand between the chunks."""
    for of_256 in decodes:
        running = sizes.decodes(of_256)
        probes: list[Added] = []
        for of_2048 in prefills:
            for count in chunks:
                number = min(count, sizes.slots - running - 1)
                total = min(sizes.tokens(of_2048), sizes.step - running)
                if number < 1 or total < number:
                    continue
                parts = tuple((total // number + (place < total % number), 1) for place in range(number))
                probes += [Added(parts, 4)] * (REPEATS - 1)
                probes.append(Added(((sizes.step - running, 1), *parts), 5))
        order = stream.permutation(len(probes))
        steps = sum(int(probe.then) for probe in probes)
        # the engine still decodes while it settles: as long as it takes to prefill all of them
        settling = 4 + running * 16 // sizes.step
        context = sizes.context(16, steps + settling, running)
        background = ((context, min(steps + settling, sizes.longest - context)),) * running
        shuffled = [probes[place] for place in order]
        yield Block(f"{name}-{of_256}", (Added(background, "settled"), *shuffled, Added((), "done")))


def _prefix(sizes: Sizes) -> Block:
    longest = min(3 * sizes.step + sizes.step // 2, sizes.longest - 1, sizes.kv_tokens - 1)
    return Block("prefix", tuple(Added(((longest, 1),), "done") for _ in range(2 * REPEATS)))


def _mixed(sizes: Sizes, stream: np.random.Generator) -> Iterator[Block]:
    for of_256 in (24, 128):
        users = sizes.decodes(of_256)
        count = 2 * users
        prompts = stream.lognormal(np.log(sizes.tokens(250)), 0.9, count)
        outputs = stream.lognormal(np.log(60), 0.7, count)
        most = sizes.context(4 * sizes.step, 300, users)
        requests = tuple(
            (min(max(1, int(prompt)), most), min(max(1, int(output)), 300))
            for prompt, output in zip(prompts, outputs, strict=True)
        )
        yield Block(f"mixed-{of_256}", (Users(requests, users),))
