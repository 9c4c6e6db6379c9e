"""One operator asked in both frameworks. Runs in a process of its own: an operator may kill it, or never come back.

MindSpore compiles what stands in a file, so each entry becomes a file.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .entries import Entry
from .values import ORDINARY, cotangent, is_float

FILE = """import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops

layer = {layer}
pull = ops.GradOperation(get_all=True, sens_param=True)


def forward({names}):
    return {expression}


def gradient({names}, cotangent):
    return pull(forward)({names}, cotangent)


def compiled_forward({names}):
    return {expression}


def compiled_gradient({names}, cotangent):
    return pull(forward)({names}, cotangent)
"""


class MindSpore:
    """An entry in MindSpore."""

    def __init__(self, folder: Path):
        import mindspore as ms

        self.ms = ms
        self.folder = folder
        self.count = 0
        ms.set_device("CPU")
        ms.set_context(mode=ms.PYNATIVE_MODE)
        ms.runtime.launch_blocking()

    def functions(self, entry: Entry, mode: str) -> tuple:
        """(forward, gradient) of the entry."""
        self.count += 1
        path = self.folder / f"asked_{self.count}.py"
        names = ", ".join(entry.arguments)
        path.write_text(FILE.format(layer=entry.layer or None, names=names, expression=entry.mindspore))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where MindSpore looks for it when it compiles
        spec.loader.exec_module(module)
        if mode == "graph":
            return self.ms.jit(module.compiled_forward), self.ms.jit(module.compiled_gradient)
        return module.forward, module.gradient

    def tensor(self, value: np.ndarray, dtype: str):
        """An array as a tensor; bfloat16's comes as float32."""
        made = self.ms.Tensor(np.array(value, order="C"))
        return made.astype(self.ms.bfloat16) if dtype == "bfloat16" and value.dtype.kind == "f" else made

    def array(self, value) -> np.ndarray:
        """A tensor as an array."""
        if value.dtype == self.ms.bfloat16:
            value = value.astype(self.ms.float32)
        return np.array(value.asnumpy())

    def forward(self, function, arrays: Mapping[str, np.ndarray], dtype: str) -> np.ndarray:
        """The result."""
        return self.array(function(*(self.tensor(a, dtype) for a in arrays.values())))

    def gradient(self, function, arrays, cotangent: np.ndarray, dtype: str) -> list[np.ndarray]:
        """The gradients with respect to all arguments."""
        given = [self.tensor(a, dtype) for a in arrays.values()]
        found = function(*given, self.tensor(cotangent, dtype))
        return [self.array(g) for g in found]


class Torch:
    """An entry in PyTorch."""

    def __init__(self):
        import torch
        from torch.nn import functional

        warnings.filterwarnings("ignore", module="torch")
        torch.set_num_threads(1)
        self.torch = torch
        self.scope = {"torch": torch, "F": functional, "np": np}

    def _given(self, arrays: Mapping[str, np.ndarray], dtype: str) -> dict:
        wanted = getattr(self.torch, dtype)
        return {
            name: made.to(wanted) if made.is_floating_point() else made
            for name, made in ((name, self.torch.from_numpy(np.array(a))) for name, a in arrays.items())
        }

    def array(self, value) -> np.ndarray:
        """A tensor as an array; bfloat16 as float32."""
        value = value.detach()
        return np.array((value.float() if value.dtype == self.torch.bfloat16 else value).numpy())

    def forward(self, entry: Entry, arrays, dtype: str) -> np.ndarray:
        """The result."""
        return self.array(eval(entry.torch, dict(self.scope), self._given(arrays, dtype)))

    def gradient(self, entry: Entry, arrays, cotangent: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
        """Gradients by the names of the arguments that have one."""
        given = self._given(arrays, dtype)
        leaves = {name: given[name].requires_grad_() for name, arg in entry.arguments.items() if is_float(arg)}
        result = eval(entry.torch, dict(self.scope), given)
        pulled = self.torch.from_numpy(cotangent).to(result.dtype)
        found = self.torch.autograd.grad(result, list(leaves.values()), pulled, allow_unused=True)
        return {
            name: self.array(self.torch.zeros_like(leaf) if g is None else g)
            for (name, leaf), g in zip(leaves.items(), found, strict=True)
        }


def truths(torch: Torch, entry: Entry, given: Mapping[str, Mapping[str, np.ndarray]], dtype: str) -> dict:
    """Region -> (theirs, truth) of "y" and of each gradient; what but ordinary numbers PyTorch refuses is left out."""
    found = {}
    for region, arrays in given.items():
        made = {}
        try:
            for precision in (dtype, "float64"):
                results = {"y": torch.forward(entry, arrays, precision)}
                if entry.gradient:
                    pulled = cotangent(results["y"].shape, 0, dtype)
                    results |= {f"grad {n}": g for n, g in torch.gradient(entry, arrays, pulled, precision).items()}
                made[precision] = results
        except RuntimeError:
            if region == ORDINARY:
                raise
            continue
        found[region] = {part: (made[dtype][part], made["float64"][part]) for part in made[dtype]}
    return found
