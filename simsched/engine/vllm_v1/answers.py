"""Answers that are in prompts of others, and which of them somebody who is there may hit as they grow.

While nobody is there whose prompt holds an answer (the next turn of a session comes after it), its blocks can
be filled in one go when it ends; else as each gets full.
"""

from __future__ import annotations

from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.shared_blocks import SharedBlocks


class Answers:
    """By their requests, which are there from `arrived` to `left`."""

    def __init__(self, blocks: SharedBlocks) -> None:
        self._blocks = blocks
        self.running: dict[int, LeapRequest] = {}
        """Who runs, of those whose answers are in prompts of others."""
        self.watched: dict[int, LeapRequest] = {}
        """Of these, whose answer is in the prompt of somebody who is there."""
        self._edges: dict[int, set[int]] = {}  # request -> edges of its answer
        self._answer_of: dict[int, int] = {}  # edge -> the request whose answer it is
        self._users: dict[int, int] = {}  # edge -> how many that are there have it, in prompt or answer

    def arrived(self, number: int, num_prompt_tokens: int) -> None:
        """The blocks know the request already.

        Raises:
            CannotLeap: a block of its answer is a part of another answer, too.
        """
        edges = self._blocks.answers(number, num_prompt_tokens)
        if edges:
            self._edges[number] = edges
            for edge in edges:
                self._answer_of[edge] = number
        users = self._users
        for edge in self._blocks.edges(number):
            users[edge] = users.get(edge, 0) + 1
            other = self._answer_of.get(edge, -1)
            if other in self.running and other != number:
                self.watched[other] = self.running[other]

    def started(self, request: LeapRequest) -> None:
        """It is admitted."""
        number = request.number
        if number in self._edges:
            self.running[number] = request
            if self._is_watched(number):
                self.watched[number] = request

    def stopped(self, number: int) -> bool:
        """It is preempted, or done: is its answer in prompts of others?"""
        self.watched.pop(number, None)
        return self.running.pop(number, None) is not None

    def left(self, number: int) -> None:
        """It is done; the blocks still know it."""
        users = self._users
        for edge in self._blocks.edges(number):
            users[edge] -= 1
            if not users[edge]:
                del users[edge]
            other = self._answer_of.get(edge, -1)
            if other in self.watched and not self._is_watched(other):
                del self.watched[other]
        edges = self._edges.pop(number, None)
        if edges is not None:
            for edge in edges:
                del self._answer_of[edge]

    def _is_watched(self, number: int) -> bool:
        return any(self._users.get(edge, 0) > 1 for edge in self._edges[number])
