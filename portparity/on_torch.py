"""PyTorch for the harness: tensors and arrays, weights, gradients. Imported where a leg runs, and nowhere before.

``dtype`` "float32" is the reference, "float64" the oracle of networks; "float16" and "bfloat16" run float32 weights
under PyTorch's autocast, as mixed precision does; "tf32" and "hf32" are float32 with rounded products
(`rounded_products`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from .case import Arrays
from .dtypes import as_bfloat16

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES = {"float64": torch.float64} | dict.fromkeys(("float32", "tf32", "hf32", *HALF), torch.float32)


def precision(dtype: str) -> AbstractContextManager:
    """The context in which ``dtype`` computes."""
    return torch.autocast("cpu", dtype=HALF[dtype]) if dtype in HALF else nullcontext()


def tensor(value: np.ndarray, dtype: str) -> torch.Tensor:
    """An array as a tensor; floats in ``dtype``."""
    made = torch.from_numpy(np.array(value))
    return made.to(DTYPES[dtype]) if made.is_floating_point() else made.long()


def arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays of their own dtype, which the verdict compares; see `dtypes` for bfloat16."""
    return {
        name: as_bfloat16(v.detach().float().numpy()) if v.dtype == torch.bfloat16 else v.detach().numpy().copy()
        for name, v in outputs.items()
    }


def load(module: torch.nn.Module, inputs: Arrays, dtype: str) -> None:
    """Puts the inputs called "weight.NAME" into the module's parameters; every parameter gets one."""
    module.to(DTYPES[dtype])
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensor(inputs[f"weight.{name}"], dtype))


def vjp(
    call: Callable, module: torch.nn.Module, args: Mapping[str, torch.Tensor], cotangent: torch.Tensor, positions, dtype
) -> Arrays:
    """y, "grad.NAME" of the differentiable args and "grad.weight.NAME" of the parameters."""
    names = list(args)
    leaves = {names[i]: args[names[i]].requires_grad_() for i in positions}
    with precision(dtype):
        y = call(*args.values())
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    wanted = [*leaves.values(), *trained.values()]
    outputs = {"y": y}
    if wanted:
        found = torch.autograd.grad((y.to(cotangent.dtype) * cotangent).sum(), wanted, allow_unused=True)
        labels = [f"grad.{name}" for name in leaves] + [f"grad.weight.{name}" for name in trained]
        for label, leaf, gradient in zip(labels, wanted, found, strict=True):
            outputs[label] = torch.zeros_like(leaf) if gradient is None else gradient
    return arrays(outputs)
