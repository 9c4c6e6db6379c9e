"""Batches made ahead of time: a sequence of arrays -> `mindspore.dataset` -> arrays, in order, with errors kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..devices import runtime
from ..errors import UserError

SEGMENT = 1 << 20  # batches in one MindSpore data set, which takes 15 bytes for each before the first is read (2.10)
PREFETCH = 2  # batches each MindSpore queue holds; measured: batches made ahead are two more than that


class _Ahead:
    """``batches``, read by ``workers`` threads up to that many ahead of the one asked for.

    Why not GeneratorDataset's own threads: with num_parallel_workers=2 and python_multiprocessing=False MindSpore 2.10
    looks for results every 100 ms only, so that the first batch comes 100 ms late and so does any that is not ready,
    and it runs 30 to 50 batches ahead whatever the prefetch size, which large batches have no memory for. Still
    needed as long as ``SamplerFn.process`` has ``time.sleep(0.1)``.
    """

    def __init__(self, batches: Sequence[np.ndarray], workers: int):
        self.batches = batches
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ms_ddpm-data")
        self._coming: dict[int, Future] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, item: int) -> np.ndarray:
        for number in range(int(item), min(int(item) + self.workers, len(self))):
            if number not in self._coming:
                self._coming[number] = self._pool.submit(self.batches.__getitem__, number)
        return self._coming.pop(int(item)).result()


class _Guard:
    """``batches`` that never raises: the place of a batch that failed is taken by an empty array, its error is kept.

    Why: MindSpore turns an exception of a source into a RuntimeError of thirty lines, whose type is lost.
    """

    def __init__(self, batches: Sequence, columns: Sequence[str] | None = None):
        self.batches = batches
        self.columns = columns
        self.errors: dict[int, Exception] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, item: int) -> np.ndarray:
        try:
            return self.batches[item]
        except Exception as error:
            self.errors[int(item)] = error
            empty = np.empty(0, np.float32)
            return empty if self.columns is None else (empty,) * len(self.columns)


def to_dataset(batches: Sequence, workers: int = 1, columns: Sequence[str] | None = None):
    """``batches`` in order as a `mindspore.dataset.GeneratorDataset`, with the one column "image" or with ``columns``.

    Args:
        batches: `data.Batches`, or any sequence of arrays; with ``columns`` of tuples, an array for each.
        workers: threads that read; they change how fast batches come, not what they hold.

    Raises:
        UserError: for fewer than one worker. Iterating over the data set raises MindSpore's RuntimeError where a batch
            fails; `iterate` raises the error itself.
    """
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")
    runtime.quietly_import()
    import mindspore.dataset as ds

    source = batches if workers == 1 else _Ahead(batches, workers)
    return ds.GeneratorDataset(
        source, list(columns or ["image"]), shuffle=False, num_parallel_workers=1, python_multiprocessing=False
    )


def iterate(
    batches: Sequence, workers: int = 1, columns: Sequence[str] | None = None
) -> Iterator[np.ndarray | tuple[np.ndarray, ...]]:
    """Yields ``batches`` in order, made ahead of time through `to_dataset`; a few batches are held in memory.

    Args are those of `to_dataset`.

    Closing the generator, or an exception, shuts the pipeline down.

    Raises:
        UserError: (or whatever ``batches`` raised) in place of the batch that could not be made.
    """
    for first in range(0, len(batches), SEGMENT):
        yield from _iterate_part(_Part(batches, first, min(SEGMENT, len(batches) - first)), workers, columns)


class _Part:
    """Items ``first`` to ``first + count - 1`` of ``batches``."""

    def __init__(self, batches: Sequence[np.ndarray], first: int, count: int):
        self.batches = batches
        self.first = first
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> np.ndarray:
        return self.batches[self.first + int(item)]


def _iterate_part(batches: _Part, workers: int, columns: Sequence[str] | None) -> Iterator:
    guard = _Guard(batches, columns)
    iterator = _started(to_dataset(guard, workers, columns))
    try:
        for item in range(len(batches)):
            arrays = tuple(next(iterator))
            if item in guard.errors:
                raise guard.errors[item]
            yield arrays[0] if columns is None else arrays
    finally:
        iterator.stop()
        del iterator  # and with it the reading threads: the traceback of an error keeps this frame alive


def _started(dataset):
    """An iterator of numpy arrays over ``dataset`` with short queues; MindSpore's 16 batches may be gigabytes."""
    import mindspore.dataset as ds

    before = ds.config.get_prefetch_size()
    ds.config.set_prefetch_size(PREFETCH)
    try:
        return dataset.create_tuple_iterator(output_numpy=True, num_epochs=1)
    finally:
        ds.config.set_prefetch_size(before)
