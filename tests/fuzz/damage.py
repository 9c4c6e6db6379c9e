"""What the fuzz tests share: how many inputs, how bytes are damaged, and what a complaint must look like.

CI tries few inputs, always the same ones. `scripts/test.sh --all` sets MS_DDPM_FUZZ=all and tries thousands.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from hypothesis import HealthCheck, settings

from parity_tests.conftest import RUN_ALL

_common = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("ci", derandomize=True, **_common)
settings.register_profile("all", **_common)
settings.load_profile("all" if RUN_ALL else "ci")


def count(few: int, many: int) -> int:
    """How many inputs: ``few`` in CI, ``many`` under --all."""
    return many if RUN_ALL else few


class Hung(BaseException):
    """Not an Exception: code that catches those must not swallow it."""


@contextmanager
def watched(what: object, seconds: int = 120) -> Iterator[None]:
    """Turns a hang into a failure that names the input. What runs inside takes milliseconds when it does not hang."""

    def expire(*_):
        raise Hung(f"{what!r:.500} took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def check_complaint(error: Exception, *names: object, limit: int = 1500) -> None:
    """A complaint is one printable line of reasonable length that has one of ``names`` in it."""
    message = str(error)
    assert message.isprintable(), repr(message)
    assert 10 < len(message) <= limit, (len(message), message[:2000])
    message.encode()
    assert not names or any(str(name) in message for name in names), message


# ---- damaged bytes --------------------------------------------------------------------------------------------------


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(0, len(data), int(rng.choice([1, 1, 2, 8, 64]))):
        data[place] ^= 1 << int(rng.integers(8))


def _flip_early(data: bytearray, rng: np.random.Generator) -> None:
    """Most formats keep what can hurt, sizes and types, in front."""
    for place in rng.integers(0, min(len(data), 64), int(rng.integers(1, 4))):
        data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(0, len(data))) :]


def _cut_out(data: bytearray, rng: np.random.Generator) -> None:
    first = int(rng.integers(0, len(data)))
    del data[first : first + int(rng.integers(1, 50))]


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    first = int(rng.integers(0, len(data) + 1))
    data[first:first] = rng.bytes(int(rng.integers(1, 50)))


def _splice(data: bytearray, rng: np.random.Generator) -> None:
    a, b, size = (int(v) for v in rng.integers(0, len(data), 3))
    data[a : a + size // 4] = data[b : b + size // 4]


def _number(data: bytearray, rng: np.random.Generator) -> None:
    """A huge or negative number of 2, 4 or 8 bytes, either endianness, somewhere."""
    width = int(rng.choice([2, 4, 8]))
    value = int(rng.choice([2**16 - 1, 2**31 - 1, 2**32 - 1, 100_000, 2**63 - 1], p=None)) % 256**width
    first = int(rng.integers(0, max(1, len(data) - width)))
    data[first : first + width] = value.to_bytes(width, str(rng.choice(["little", "big"])))


def _zero(data: bytearray, rng: np.random.Generator) -> None:
    first, size = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    data[first : first + size] = bytes(len(data[first : first + size]))


MUTATIONS: tuple[Callable, ...] = (_flip, _flip, _flip_early, _truncate, _cut_out, _insert, _splice, _number, _zero)


def damaged(data: bytes, seed: int) -> bytes:
    """``data`` with one to three kinds of damage; never the same as ``data``."""
    rng = np.random.default_rng(seed)
    while True:
        result = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            if result:
                MUTATIONS[int(rng.integers(len(MUTATIONS)))](result, rng)
        if bytes(result) != data:
            return bytes(result)
