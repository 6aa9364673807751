"""Answers that are in prompts of others, and which of them somebody who is there may hit as they grow.

While nobody is there whose prompt holds an answer (the next turn of a session comes after it), its blocks can
be filled in one go when it ends; else as each gets full.
"""

from __future__ import annotations

from simsched.engine.base import CannotLeap
from simsched.engine.vllm_v1.shared_blocks import SharedBlocks


class Answers:
    """By their requests, which are there from `arrived` to `left`."""

    def __init__(self, blocks: SharedBlocks) -> None:
        self._blocks = blocks
        self.running: set[int] = set()
        """Who runs, of those whose answers are in prompts of others."""
        self.watched: set[int] = set()
        """Of these, whose answer is in the prompt of somebody who is there."""
        self._edges: dict[int, list[int]] = {}  # request -> edges of its answer
        self._answer_of: dict[int, int] = {}  # edge -> the request whose answer it is
        self._over: set[int] = set()  # edges of answers whose requests are done, for whom nobody watches
        self._others: dict[int, list[int]] = {}  # request -> edges of its prompt that are not over
        self._users: dict[int, int] = {}  # edge -> how many of these have it

    def arrived(self, number: int, num_prompt_tokens: int) -> None:
        """The blocks know the request already.

        Raises:
            CannotLeap: a block of its answer is a part of another answer, too.
        """
        answer_of, over = self._answer_of, self._over
        full = num_prompt_tokens // self._blocks.block_size
        for edge, end in self._blocks.paths[number]:
            if end > full:
                if edge in over or edge in answer_of:
                    raise CannotLeap("of two blocks of answers that are alike, which is older is not known")
                answer_of[edge] = number
                self._edges.setdefault(number, []).append(edge)
            elif edge not in over:
                self._others.setdefault(number, []).append(edge)
                self._users[edge] = self._users.get(edge, 0) + 1
                if edge in answer_of and answer_of[edge] in self.running:
                    self.watched.add(answer_of[edge])

    def is_grown_for(self, number: int) -> bool:
        """Would its arrival mean that somebody who runs is watched? The blocks know it already."""
        answer_of, running = self._answer_of, self.running
        if running:
            for edge, _ in self._blocks.paths[number]:
                if edge in answer_of and answer_of[edge] in running:
                    return True
        return False

    def started(self, number: int) -> None:
        """It is admitted."""
        edges = self._edges.get(number)
        if edges is not None:
            self.running.add(number)
            if self._users and self._is_watched(number):
                self.watched.add(number)

    def stopped(self, number: int) -> bool:
        """It is preempted, or done: is its answer in prompts of others?"""
        if number not in self.running:
            return False
        self.running.remove(number)
        if self.watched:
            self.watched.discard(number)
        return True

    def left(self, number: int) -> None:
        """It is done; the blocks still know it."""
        answer_of, users, watched = self._answer_of, self._users, self.watched
        for edge in self._others.pop(number, ()):
            left = users[edge] - 1
            if left:
                users[edge] = left
                continue
            del users[edge]
            if watched:
                other = answer_of.get(edge, -1)
                if other in watched and not self._is_watched(other):
                    watched.remove(other)
        for edge in self._edges.pop(number, ()):
            self._over.add(edge)
            del answer_of[edge]

    def _is_watched(self, number: int) -> bool:
        return not self._users.keys().isdisjoint(self._edges[number])
