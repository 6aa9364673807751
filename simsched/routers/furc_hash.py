"""The hash function of vllm-router's consistent hashing, so that sessions go where it sends them.

Source: vllm-router 0.1.17, src/policies/consistent_hash.rs, after lib/fbi/hash.c of mcrouter: `furc_hash`
draws bits from MurmurHash64A (Austin Appleby, public domain) of the key; the ring's points are MurmurHash64A
of its result.
"""

from __future__ import annotations

_WORD = 2**64 - 1
_M, _R = 0xC6A4A7935BD1E995, 47
_SEED = 4193360111
_MODULUS = 2**23 - 1
_TRIES, _SHIFT = 32, 23


def murmur_hash(key: bytes, seed: int = _SEED) -> int:
    """MurmurHash64A: 64 bits."""
    h = seed ^ len(key) * _M & _WORD
    whole = len(key) // 8 * 8
    for at in range(0, whole, 8):
        k = int.from_bytes(key[at : at + 8], "little") * _M & _WORD
        h = (h ^ (k ^ k >> _R) * _M & _WORD) * _M & _WORD
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _WORD
    h = (h ^ h >> _R) * _M & _WORD
    return h ^ h >> _R


def furc_hash(key: str, modulus: int = _MODULUS) -> int:
    """A number below the modulus; few keys change theirs when the modulus grows."""
    if modulus <= 1:
        return 0
    words = [murmur_hash(key.encode())]

    def bit(index: int) -> int:
        while len(words) <= index >> 6:
            words.append(murmur_hash(words[-1].to_bytes(8, "little")))
        return words[index >> 6] >> (index & 63) & 1

    depth = (modulus - 1).bit_length()
    at = depth
    for _ in range(_TRIES):
        while not bit(at):
            if not depth:
                return 0
            depth -= 1
            at = depth
        at += _SHIFT
        number = 1
        for _ in range(depth - 1):
            number = number << 1 | bit(at)
            at += _SHIFT
        if number < modulus:
            return number
    return 0


def ring_point(key: str) -> int:
    """Where a key or a worker's virtual node stands on the ring."""
    return murmur_hash(furc_hash(key).to_bytes(4, "little"))
