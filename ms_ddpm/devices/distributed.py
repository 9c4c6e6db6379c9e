"""Data-parallel training: the same network in several processes ("workers"), each on images of its own.

    msrun --worker_num 2 --local_worker_num 2 scripts/train.py --distribute --config configs/digits.yaml

Gradients are averaged over the workers inside the compiled step, so every worker makes the same update and holds the
same weights; worker 0 alone writes files. W workers with batches of b train as one with ``gradient_accumulate_every``
W times as large: the same images, the same draws, gradients that differ by rounding.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import Config
from ..errors import UserError, first_line
from . import runtime
from .supervisor import supervise
from .watch import Watch

if TYPE_CHECKING:
    from mindspore import nn

log = logging.getLogger("ms_ddpm")

__all__ = ["ALONE", "Group", "check_launch", "is_scheduler", "run_scheduler", "start", "start_worker"]

HOW = "msrun --worker_num 2 --local_worker_num 2 scripts/train.py --distribute ..."
OPERATION_TIMEOUT = 1800  # s a worker waits for the others in a collective operation
_PIECES = 4  # a number below 2^64 travels as four of 16 bits, which float32 holds exactly


def check_launch(distribute: bool) -> None:
    """Raises UserError unless ``--distribute`` was given exactly where msrun started this process."""
    launched = "MS_ROLE" in os.environ
    if distribute and not launched:
        raise UserError(f"--distribute needs msrun, which starts the workers: {HOW}")
    if launched and not distribute:
        raise UserError(
            "started by msrun without --distribute: the workers would train side by side in one output directory; "
            f"run: {HOW}"
        )


def is_scheduler() -> bool:
    """Whether msrun started this process to bring the workers together, not to train."""
    return os.environ.get("MS_ROLE") == "MS_SCHED"


def share_cores(threads: int | None) -> None:
    """Gives this CPU worker cores of its own, ``threads`` or its share, where all workers are on this machine."""
    cores = runtime.thread_count()
    world, rank = int(os.environ.get("MS_WORKER_NUM", "1")), int(os.environ.get("MS_NODE_ID", "0"))
    if threads is None and os.environ.get("MS_SCHED_HOST") in ("127.0.0.1", "localhost", "::1"):
        threads = max(1, cores // world)
    if threads is not None:
        threads = min(threads, cores)
        runtime.use_cores(threads, first=rank * threads % cores)


def run_scheduler(output_dir: str | Path) -> int:
    """Brings the workers together and stays until they are done; returns the exit code."""
    runtime.setup("CPU")
    from mindspore.communication import init

    try:
        init()
    except RuntimeError as error:
        # When a job fails, msrun shows the lines of the scheduler's log that hold "ERROR".
        first = re.search(r"worker (\d+) is the first", str(error))
        what = f"worker {first[1]} is gone, lost or stopped" if first else f"workers are gone ({first_line(error)})"
        print(f"ERROR: {what}; {_how_to_go_on(output_dir)}", flush=True)
        return 1
    return 0


def start_worker(config: Config) -> Group:
    """What `runtime.setup` is for a single process: starts MindSpore as ``config`` says and joins the other workers."""
    supervise()
    if os.environ.get("MS_NODE_ID", "0") != "0":
        log.setLevel(logging.WARNING)  # worker 0 says it for all
    device_id = config.device_id
    if config.device_target == "CPU":
        share_cores(config.threads)
    elif device_id is None:
        device_id = int(os.environ.get("DEVICE_ID", "0"))  # from msrun: number of the worker on this machine
    runtime.setup(
        config.device_target, mode=config.mode, device_id=device_id, seed=config.seed,
        matmul_precision=config.matmul_precision,
    )  # fmt: skip
    return start(config.output_dir)


def _how_to_go_on(output_dir: str | Path) -> str:
    from ..storage import checkpoint

    found = checkpoint.steps(Path(output_dir) / "checkpoints")
    if not found:
        return f"{output_dir} has no checkpoint yet: the same command starts afresh"
    return f"the last checkpoint is {Path(output_dir) / 'checkpoints' / checkpoint.step_name(found[-1])}: the same " \
           "command continues from it, with as many workers as there are"  # fmt: skip


class Group:
    """All workers of a run, seen from one of them. `ALONE` is the group of a run that is not distributed.

    Inside ``with group:`` an error that ends this worker reaches the others as its loss, at once.

    Attributes:
        rank, world: which of how many.
        writer: whether this worker writes files: worker 0.
    """

    def __init__(self, rank: int = 0, world: int = 1, output_dir: str | Path = "."):
        self.rank = rank
        self.world = world
        self.output_dir = output_dir
        self.writer = rank == 0
        self._save: Callable[[], None] | None = None
        self._waiting_since: float | None = None
        self._durations: deque[float] = deque(maxlen=5)  # of steps, s
        self._losing = threading.Event()
        self._sum_graph: Callable | None = None
        self._watch: Watch | None = None
        if world > 1:
            self._watch = Watch(rank, world, self.gather, self._lost)

    # --- numbers from worker to worker -----------------------------------------------------------------------------

    def _sum(self, vector: np.ndarray) -> np.ndarray:
        from mindspore import Tensor, ops

        if self._sum_graph is None:
            all_reduce = ops.AllReduce()

            def total(x):
                return all_reduce(x)

            self._sum_graph = runtime.compiled(total)
        return self._sum_graph(Tensor(vector)).asnumpy()

    def gather(self, numbers: Sequence[int]) -> list[list[int]]:
        """``numbers`` (non-negative, below 2^64, as many on every worker) of every worker, by rank."""
        if self.world == 1:
            return [list(numbers)]
        pieces = np.zeros((self.world, len(numbers), _PIECES), np.float32)
        pieces[self.rank] = [[(n >> (16 * i)) & 0xFFFF for i in range(_PIECES)] for n in map(int, numbers)]
        found = self._sum(pieces.reshape(-1)).reshape(pieces.shape)
        return [[sum(int(p) << (16 * i) for i, p in enumerate(n)) for n in worker] for worker in found]

    def barrier(self) -> None:
        """Waits until every worker has come here."""
        self.gather([0])

    def agree(self, facts: Mapping[str, int], advice: str) -> None:
        """Raises UserError, on every worker, where one of ``facts`` is not the same number on all of them."""
        found = self.gather(list(facts.values()))
        for i, name in enumerate(facts):
            for rank, numbers in enumerate(found):
                if numbers[i] != found[0][i]:
                    raise UserError(
                        f"worker {rank} has another {name} than worker 0 ({numbers[i]}, {found[0][i]}); {advice}"
                    )

    def check_start(self, cell: nn.Cell, step: int, settings: object) -> None:
        """Raises UserError where the workers do not start from the same step, settings and weights."""
        if self.world > 1:
            facts = {"step": step, "configuration or data set": zlib.crc32(repr(settings).encode())}
            self.agree(
                facts,
                "give every worker the same options, data set and --output_dir, on a file system that all of them see",
            )
            self.check_weights(cell, step)

    def check_weights(self, cell: nn.Cell, step: int) -> None:
        """Raises UserError where the workers' weights are not the same, bit for bit."""
        if self.world > 1:
            sums = [zlib.crc32(p.asnumpy().tobytes()) for _, p in cell.parameters_and_names()]
            facts = {f"checksum of its weights at step {step}": zlib.crc32(repr(sums).encode())}
            with self._waiting():
                self.agree(facts, "this is a defect of the collective operations, or the workers' programs differ")

    # --- the end, wanted or not ------------------------------------------------------------------------------------

    def on_loss(self, save: Callable[[], None]) -> None:
        """When another worker is lost in a step, worker 0 calls ``save``, which saves the weights from before it."""
        if self.world > 1:
            self._save = save

    def close(self) -> None:
        """Waits for all workers to come to their end. Without it the others take this one's end for a loss."""
        if self._watch is not None:
            with self._waiting():
                self._watch.close()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        """When this worker fails, the others are told at once, and it is no longer told of them."""
        if kind is not None and self._watch is not None:
            self._watch.leave()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a training step, in which this worker waits for the others."""
        began = time.monotonic()
        with self._waiting():
            yield
        self._durations.append(time.monotonic() - began)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around what does not end when another worker is lost.

        An error inside that comes of such a loss does not get out: the watching thread ends the process.
        """
        self._waiting_since = time.monotonic()
        try:
            yield
        except RuntimeError:
            if self.world > 1 and self._losing.wait(timeout=5):
                threading.Event().wait()
            raise
        self._waiting_since = None

    def _lost(self, rank: int) -> None:
        """Ends this process for want of worker ``rank``; in the watching thread.

        The main thread is in a collective operation that will not end, or soon will be: the update comes after it, so
        the weights are those from before the step, and worker 0 saves them.
        """
        self._losing.set()
        try:  # a full disk may hold the log too
            print(f"error: worker {rank} of {self.world} was lost; see its log for why", file=sys.stderr, flush=True)
            if self.writer:
                self._save_when_stuck()
                print(f"error: {_how_to_go_on(self.output_dir)}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    def _save_when_stuck(self) -> None:
        """Saves once the main thread has waited for much longer than a step takes, compiling aside."""
        if self._save is None:
            return
        while True:
            since = self._waiting_since
            if since is not None and time.monotonic() - since > max(1.0, 5 * min(self._durations, default=0.0)):
                break
            time.sleep(0.05)
        try:
            self._save()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)


ALONE = Group()


def start(output_dir: str | Path = ".") -> Group:
    """Joins the other workers; after `runtime.setup`, before the first network.

    Args:
        output_dir: where checkpoints are, for what is said when a worker is lost.

    Raises:
        UserError: when they cannot be brought together.
    """
    from mindspore.communication import get_group_size, get_rank, init

    # 30 s by default (2.10, CPU), less than worker 0 may take to draw pictures while the others wait in the next step.
    os.environ.setdefault("MS_CPU_COMM_OP_TIMEOUT", str(OPERATION_TIMEOUT))
    try:
        init()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the workers could not be brought together: {first_line(error)}; were all of them started?"
        ) from None
    return Group(get_rank(), get_group_size(), output_dir)
