"""How workers notice, within milliseconds, that one of them is gone.

Every worker holds a connection to worker 0; the kernel closes it when a process ends, however it ends, and TCP's
keep-alive does for a machine that vanishes. MindSpore's own heartbeat (2.10) tells after 30 s, by SIGTERM to a process
whose main thread waits in a collective operation and cannot answer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence

from ..errors import UserError

log = logging.getLogger("ms_ddpm")

CONNECT_SECONDS = 60
_GREETING = struct.Struct("!QI")  # token, rank
_DONE = b"."
Gather = Callable[[Sequence[int]], list[list[int]]]  # numbers below 2^64
_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # seconds, seconds, tries


class Watch:
    """A star of connections around worker 0, and a thread that reads them.

    Args:
        rank, world: which of how many workers this is.
        gather: gives every worker's numbers to every worker, [world][...]; worker 0's address travels by it.
        on_lost: called in the watching thread, once, with the rank of the worker that is gone.

    Raises:
        UserError: when not all workers are connected after `CONNECT_SECONDS`.
    """

    def __init__(self, rank: int, world: int, gather: Gather, on_lost: Callable[[int], None]):
        self.rank = rank
        self.world = world
        self.on_lost = on_lost
        self._finished = threading.Event()
        self._bye = threading.Event()  # this worker is done
        listener = socket.create_server(("", 0), backlog=world) if rank == 0 else None
        mine = (int(_own_address()), listener.getsockname()[1], secrets.randbits(63)) if listener else (0, 0, 0)
        address, port, token = gather(mine)[0]
        self.peers = self._accept(listener, token) if listener else [self._connect(address, port, token)]
        self._thread = threading.Thread(target=self._run, name="ms_ddpm-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Says that this worker is done, and returns when all are. What has to be written is to be written before."""
        self._bye.set()
        if self.rank:
            _send(self.peers[0][1])
        self._finished.wait()

    def leave(self) -> None:
        """Closes the connections, by which the others know that this worker is gone, and stops watching them."""
        self.on_lost = lambda rank: None
        for _, peer in self.peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket, token: int) -> list[tuple[int, socket.socket]]:
        found: dict[int, socket.socket] = {}
        deadline = time.monotonic() + CONNECT_SECONDS
        with listener:
            while len(found) < self.world - 1:
                listener.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    peer, _ = listener.accept()
                    peer.settimeout(5)
                    given, rank = _GREETING.unpack(_receive(peer, _GREETING.size))
                except (OSError, struct.error):
                    if time.monotonic() > deadline:
                        missing = sorted(set(range(1, self.world)) - set(found))
                        raise UserError(
                            f"no connection from worker(s) {missing} within {CONNECT_SECONDS} s; worker 0 listens on "
                            "a port of the system's choice: let the workers' machines reach each other"
                        ) from None
                    continue
                if given == token and 0 < rank < self.world and rank not in found:
                    found[rank] = _kept_alive(peer)
                else:  # a stranger
                    peer.close()
        return sorted(found.items())

    def _connect(self, address: int, port: int, token: int) -> tuple[int, socket.socket]:
        host = str(ipaddress.IPv4Address(address))
        try:
            peer = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
            peer.sendall(_GREETING.pack(token, self.rank))
        except OSError as error:
            raise UserError(
                f"worker {self.rank} cannot reach worker 0 at {host}:{port} ({error.strerror or error}); "
                "let the workers' machines reach each other"
            ) from None
        return 0, _kept_alive(peer)

    def _run(self) -> None:
        """Until all are done, or one is gone."""
        waiting = dict(self.peers)
        with selectors.DefaultSelector() as selector:
            for rank, peer in self.peers:
                selector.register(peer, selectors.EVENT_READ, rank)
            while waiting:
                for key, _ in selector.select():
                    try:
                        said = key.fileobj.recv(1)
                    except OSError:
                        said = b""
                    if said != _DONE:
                        self.on_lost(key.data)
                        return
                    selector.unregister(key.fileobj)
                    del waiting[key.data]
        self._bye.wait()
        if self.rank == 0:
            for _, peer in self.peers:
                _send(peer)
        self._finished.set()


def _own_address() -> ipaddress.IPv4Address:
    """The address by which other workers reach this machine: the one that leads to the scheduler."""
    host, port = os.environ.get("MS_SCHED_HOST", "127.0.0.1"), int(os.environ.get("MS_SCHED_PORT", "9"))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))  # sends nothing
            return ipaddress.IPv4Address(probe.getsockname()[0])
    except OSError as error:
        raise UserError(f"no route to the scheduler {host} ({error.strerror or error}); check --master_addr") from None


def _kept_alive(peer: socket.socket) -> socket.socket:
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer


def _receive(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def _send(peer: socket.socket) -> None:
    try:
        peer.sendall(_DONE)
    except OSError:
        log.debug("a worker was gone before it could be told that this one is done")
