"""Plays the probe workload on an offline engine, one half after the other, and keeps its step logs."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from simsched.engine.config import EngineConfig, ResolvedConfig
from simsched.errors import InputError
from simsched.files import write_file
from simsched.workload.trace import Trace
from validate.job import Job
from validate.json_file import write_json
from validate.probe import Block, Users, make_half, marker
from validate.recording import launch_times
from validate.replay import machine
from validate.replayed import FACTS
from validate.run_clock import RunClock

MARKER_EVERY = 1.0  # seconds


class Stepped(Protocol):
    """An engine that is stepped by its user."""

    def add(self, request: Any) -> None: ...
    def step(self) -> Any: ...
    def num_unfinished(self) -> int: ...
    def only_decodes(self) -> bool:
        """Does every unfinished request run, its prompt computed?"""
        ...


def play_blocks(
    engine: Stepped,
    blocks: Sequence[tuple[Block, Sequence[Any]]],
    markers: Sequence[Sequence[Any]],
    marker_block: Block,
    clock: RunClock,
    limit: float,
) -> list[str]:
    """Play blocks, each with its requests, in their order; a marker between two when a second has gone by.

    Args:
        engine: idle.
        blocks: with their requests, made beforehand.
        markers: requests of as many markers as there may be.
        marker_block: what they are requests of.
        clock: of the run.
        limit: seconds, after which no block is begun.

    Returns:
        The names of the blocks that were played.
    """
    played: list[str] = []
    waiting = deque(markers)
    next_marker = 0.0
    for block, requests in blocks:
        if clock.now() > limit:
            break
        if waiting and clock.now() >= next_marker:
            next_marker = clock.now() + MARKER_EVERY
            _play(engine, marker_block, waiting.popleft())
        _play(engine, block, requests)
        played.append(block.name)
    return played


def _play(engine: Stepped, block: Block, requests: Sequence[Any]) -> None:
    coming = iter(requests)
    for part in block.parts:
        if isinstance(part, Users):
            _serve_users(engine, part, coming)
            continue
        for _ in part.requests:
            engine.add(next(coming))
        if isinstance(part.then, int):
            for _ in range(part.then):
                engine.step()
        while part.then == "done" and engine.num_unfinished():
            engine.step()
        while part.then == "settled" and not engine.only_decodes():
            engine.step()


def _serve_users(engine: Stepped, part: Users, coming: Iterator[Any]) -> None:
    left = len(part.requests)
    while left or engine.num_unfinished():
        while left and engine.num_unfinished() < part.count:
            engine.add(next(coming))
            left -= 1
        engine.step()


@runtime_checkable
class Probed(Protocol):
    """An engine that plays probes (`validate.offline_engine`)."""

    version: str
    config: ResolvedConfig
    num_gpu_blocks: int
    graphs: dict[str, Any] | None

    def probe(
        self, blocks: Sequence[Block], marker_block: Block, limit: float
    ) -> tuple[list[dict[str, Any]], list[str]]: ...


def probe_job(options: Mapping[str, Any]) -> Job:
    """What an engine with these options is started for, to be probed.

    Raises:
        InputError: a bad option.
    """
    unknown = 10_000  # KV blocks, until the engine says how many it has
    config = EngineConfig(**{"num_gpu_blocks": unknown, **options}).resolve()
    one = np.ones(1, dtype=np.int64)
    blocks = options.get("num_gpu_blocks")
    return Job("fcfs", Trace(np.zeros(1), one, one), config, {"num_gpu_blocks": blocks} if blocks else {})


def write_half(
    engine: Probed,
    half: int,
    out: Path,
    facts: dict[str, Any],
    *,
    seed: int,
    limit: float,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Play half 0 or 1 and add its step log to the directory `out`, as `simsched calibrate` reads it.

    Raises:
        InputError: the engine died, or `out` can't be written to.
    """
    config = engine.config
    blocks = make_half(config, half, seed)
    steps, played = engine.probe(blocks, marker(config), limit)
    name = f"half-{half + 1}"
    try:
        (out / "steps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot make the directory: {error.strerror}") from None
    log = out / "steps" / f"{name}.jsonl"
    write_file(log, "".join(json.dumps(step) + "\n" for step in steps).encode())
    path = out / FACTS
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cells": {}}
    cut = [block.name for block in blocks if block.name not in played]
    cells = {
        **known["cells"],
        name: {
            "num_gpu_blocks": engine.num_gpu_blocks,
            "engine_options": config.model_dump(),
            "duration": steps[-1]["end"] if steps else 0.0,
            "host": launch_times(steps),
            "blocks": played,
            "not_played": cut,
        },
    }
    facts = {**facts, "workload": "probe", "seed": seed}
    found = {"vllm_version": engine.version, "graphs": engine.graphs, "machine": machine()}
    write_json(path, {**facts, **found, "cells": cells})
    say(f"  {name}: {len(steps)} steps of {len(played)} blocks in {cells[name]['duration']:.1f} s")
    if cut:
        say(f"  {name}: no time for {', '.join(cut)}")
