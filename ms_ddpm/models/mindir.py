"""A trained network as a MINDIR file, which MindSpore loads without this library."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ..devices.runtime import quietly_import
from ..errors import UserError, first_line, one_line, quoted
from ..nn.layers import use_kernels
from ..storage.files import atomic

SUFFIX = ".mindir"  # mindspore.load takes no other
LARGEST = 2**30  # bytes of weights; MindSpore splits what is larger over several files


def export(cell: nn.Cell, path: str | Path, *inputs) -> Path:
    """Writes what ``cell(*inputs)`` computes as a MINDIR file, whole or not at all.

    The file runs where MindSpore is, ``ms_ddpm`` or not: ``mindspore.nn.GraphCell(mindspore.load(path))(*tensors)``. So
    it holds MindSpore's own operators, whatever ``cell`` runs by: a file with the C++ kernels' operators crashes where
    they are not loaded (2.10). ``cell`` stays as it is. What is written is the Cell outside of training.

    Args:
        cell: a network (``diffusion.model``, ``score_model.net``), or a Cell of your own around one.
        path: of the file; ".mindir" is added where it is missing.
        inputs: an example of each input: Tensor or array, of which shape and dtype are taken (float64 arrays as
            float32); numbers, flags and None become constants of the graph.

    Returns:
        The file's path.

    Raises:
        UserError: a path that cannot be written, inputs that ``cell`` does not take, weights of more than 1 GiB.
    """
    quietly_import()
    if not isinstance(cell, nn.Cell):
        raise UserError(f"export takes a Cell, not {quoted(cell)}; put a function into the construct of a Cell")
    path = Path(path)
    if path.suffix != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory")
    weights = sum(parameter.nbytes for parameter in cell.get_parameters())
    if weights > LARGEST:
        raise UserError(f"the weights take {weights / LARGEST:.1f} GiB, and one MINDIR file holds at most 1 GiB")
    examples = [_example(value, number) for number, value in enumerate(inputs, 1)]
    # MindSpore refuses file names with a space, writes in place and leaves the file read-only: a folder of our own.
    with atomic(path) as file, tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"network{SUFFIX}"
        _write(_by_stock_operators(cell), written, examples)
        with open(written, "rb") as source:
            shutil.copyfileobj(source, file)
    return path


def _example(value, number: int):
    """Input ``number`` as MindSpore's export takes it."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise UserError(f"input {number} is an array of dtype {value.dtype}, expected numbers")
        return Tensor(value.astype(np.float32) if value.dtype == np.float64 else np.ascontiguousarray(value))
    if value is None or isinstance(value, (Tensor, bool, int, float)):
        return value
    raise UserError(f"input {number} is {quoted(value)}, expected a Tensor, an array, a number or None")


def _by_stock_operators(cell: nn.Cell) -> nn.Cell:
    """A copy of ``cell`` that does without the kernels, outside of training."""
    try:
        copied = copy.deepcopy(cell)
    except (TypeError, ValueError, RuntimeError) as error:  # a Cell of the user's that holds what cannot be copied
        raise UserError(f"cannot export {type(cell).__name__}: it cannot be copied ({first_line(error)})") from error
    for _, inner in copied.cells_and_names():
        inner._compile_cache = None  # else the first Cell's graphs are thrown away with the copy (2.10)
    use_kernels(copied, on=False)
    return copied.set_train(False)


def _write(cell: nn.Cell, path: Path, inputs: list) -> None:
    level = ms.get_context("jit_syntax_level")
    try:
        ms.export(cell, *inputs, file_name=str(path), file_format="MINDIR")
    except Exception as error:  # of any kind: it comes out of the graph compiler
        shapes = ", ".join(_described(value) for value in inputs) or "none"
        raise UserError(
            f"cannot export {type(cell).__name__} with the inputs {shapes}: {one_line(first_line(error))}"
        ) from error
    finally:
        ms.set_context(jit_syntax_level=level)  # which ms.export leaves changed where it fails (2.10)


def _described(value) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
