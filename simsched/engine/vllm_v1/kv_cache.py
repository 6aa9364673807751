"""The KV block pool and prefix cache of vLLM V1, block by block (*block need*, *prefix hit*, *free but
cached*, *early registration* and *free order* in docs/engine.md).

Sources: vllm/v1/core/block_pool.py and single_type_kv_cache_manager.py of vLLM 0.32.0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.prompt_blocks import Name, block_name
from simsched.workload.content import Stretch


class BlockKeys:
    """Which blocks of which requests hold the same tokens (`simsched.workload.content`)."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._paths: dict[int, Sequence[Stretch]] = {}

    def arrived(self, number: int, arrival: Arrival) -> None:
        """Note what this request shares."""
        if arrival.content:
            self._paths[number] = arrival.content

    def owners(self, number: int) -> set[int]:
        """The first parts of all keys of this request."""
        return {-1 - number, *(node for node, _ in self._paths.get(number, ()))}

    def key(self, number: int, block: int) -> Name:
        """The key of block number `block` of this request, when it is full."""
        return block_name(number, self._paths.get(number, ()), block, self._block_size)

    def forget(self, number: int) -> None:
        """The request is done."""
        self._paths.pop(number, None)


class KVCache:
    """Blocks held by each request, and the queue of free ones, some of which still hold cached content."""

    def __init__(self, num_blocks: int, block_size: int, caching: bool) -> None:
        self.num_blocks = num_blocks  # usable ones: without the null block
        self.block_size = block_size
        self.caching = caching
        self._keys = BlockKeys(block_size)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._users = [0] * num_blocks
        self._key_of: list[Name | None] = [None] * num_blocks
        self._cached: dict[Name, dict[int, None]] = {}  # blocks with this content, oldest first
        self._held: dict[int, list[int]] = {}
        self._full: dict[int, int] = {}  # blocks of a request that are registered (or hits)
        # the latest lookup (request, tokens, hits), good until content of these owners comes or goes: a head
        # of the queue that does not fit asks again in every step
        self._found: tuple[int, int, list[int]] | None = None
        self._found_of: set[int] = set()
        self.events: list[tuple[bool, Name]] | None = None
        """Content that was stored or hit (True) or thrown out (False) since these were taken, without that of
        requests that share nothing; None: nobody takes them."""

    def arrived(self, number: int, arrival: Arrival) -> None:
        """A request will ask for blocks."""
        if self.caching:
            self._keys.arrived(number, arrival)

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, cached or not."""
        return len(self._free)

    @property
    def num_evictable(self) -> int:
        """Of these, the ones that hold cached content."""
        return sum(self._key_of[block] is not None for block in self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free)

    def lookup(self, number: int, num_tokens: int) -> list[int]:
        """The longest run of cached blocks from the start that leaves a token to compute (*prefix hit*)."""
        hits: list[int] = []
        if not self.caching:
            return hits
        if self._found is not None and self._found[:2] == (number, num_tokens):
            return self._found[2]
        for block in range((num_tokens - 1) // self.block_size):
            blocks = self._cached.get(self._keys.key(number, block))
            if blocks is None:
                break
            hits.append(next(iter(blocks)))
        self._found = number, num_tokens, hits
        self._found_of = self._keys.owners(number)
        return hits

    def needed(self, number: int, num_tokens: int, hits: Sequence[int] = ()) -> int:
        """Free blocks it takes to hold so many tokens; hits that nobody holds count (*free but cached*)."""
        held = len(self._held.get(number, ())) + len(hits)
        unheld = sum(not self._users[block] for block in hits)
        return max(0, -(-num_tokens // self.block_size) - held) + unheld

    def allocate(
        self, number: int, num_tokens: int, hits: Sequence[int] = (), known: int | None = None
    ) -> None:
        """Take the hits, then new blocks from the front of the queue; register those that fill up (with
        asynchronous scheduling only up to the `known` tokens)."""
        held = self._held.setdefault(number, [])
        size = self.block_size
        if (
            len(held) * size >= num_tokens
            and self._full.get(number, 0) == num_tokens // size
            and known is None
        ):
            return  # neither is a block needed nor does one fill up
        for block in hits:
            if not self._users[block]:
                del self._free[block]
            self._users[block] += 1
        held.extend(hits)
        if self.events is not None:
            found = (self._key_of[block] for block in hits)
            self.events += [(True, key) for key in found if key is not None and key[0] >= 0]
        while len(held) * self.block_size < num_tokens:
            block, _ = self._free.popitem(last=False)
            self._evict(block)
            self._users[block] = 1
            held.append(block)
        if len(hits) > self._full.get(number, 0):
            self._full[number] = len(hits)
        self.register(number, num_tokens if known is None else min(num_tokens, known))

    def register(self, number: int, num_tokens: int) -> None:
        """These first tokens of a request are known: the blocks that they fill can be hit from now on."""
        if not self.caching:
            return
        held = self._held[number]
        full = num_tokens // self.block_size
        for place in range(self._full.get(number, 0), full):
            key = self._keys.key(number, place)
            if key[0] in self._found_of:
                self._found = None
            self._key_of[held[place]] = key
            self._cached.setdefault(key, {})[held[place]] = None
            if self.events is not None and key[0] >= 0:
                self.events.append((True, key))
            self._full[number] = full

    def _evict(self, block: int) -> None:
        key = self._key_of[block]
        if key is not None:
            if key[0] in self._found_of:
                self._found = None
            self._key_of[block] = None
            blocks = self._cached[key]
            del blocks[block]
            if not blocks:
                del self._cached[key]
            if self.events is not None and key[0] >= 0:
                self.events.append((False, key))

    def free(self, number: int, finished: bool) -> None:
        """Give up its blocks, tail first: those without content to keep go to the front: *free order*."""
        unhashed = []
        for block in reversed(self._held.pop(number, [])):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                if self._key_of[block] is None:
                    unhashed.append(block)
        for block in reversed(unhashed):
            self._free.move_to_end(block, last=False)
        self._full.pop(number, None)
        if finished:
            self._keys.forget(number)
