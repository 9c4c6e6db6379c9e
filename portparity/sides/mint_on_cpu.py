"""Code written for `mindspore.mint`, which MindSpore 2.10 runs on an Ascend, on a CPU.

About a third of mint has no kernel on the CPU ("The kernel StackExt unregistered"). Inside `mint_on_cpu` those
functions are the ones of `mindspore.ops` that compute the same, wherever a module has bound them already:

    with mint_on_cpu():
        report = check(original, ports_cell, inputs)

What mint has on the CPU stays mint's own, so that its faults are seen. To see whether a function still needs this,
call it outside: the test does (test_mint_on_cpu.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..on_mindspore import start
from . import mint_functions
from .mint_functions import FUNCTIONS

import mindspore as ms  # isort: skip  on_mindspore says how it starts
from mindspore import Tensor, mint, nn, ops  # isort: skip

F = FUNCTIONS[mint.nn.functional]
MISSING = object()


# --- cells whose construct calls a kernel itself -------------------------------------------------------------------


def _convolution(convolve: Callable) -> Callable:
    def construct(self, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F["pad"](input, tuple(self._reversed_padding), self.padding_mode), 0
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    return construct


def _transposed_convolution(self, input, output_size=None):
    return F["conv_transpose2d"](
        input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
    )


def _layer_normed(self, input):
    return F["layer_norm"](input, tuple(self.normalized_shape), self.weight, self.bias, self.eps)


def _embedded(self, input):
    return F["embedding"](input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)


def _dropped(self, input):
    return F["dropout"](input, self.p, self.training)


def _averaged(self, input):
    return F["avg_pool2d"](
        input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
        self.divisor_override,
    )  # fmt: skip


def _maximal(self, input):
    return F["max_pool2d"](
        input, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
        return_indices=self.return_indices,
    )  # fmt: skip


CELLS: dict[type[nn.Cell], Callable] = {
    mint.nn.Conv1d: _convolution(F["conv1d"]), mint.nn.Conv2d: _convolution(F["conv2d"]),
    mint.nn.Conv3d: _convolution(F["conv3d"]), mint.nn.ConvTranspose2d: _transposed_convolution,
    mint.nn.LayerNorm: _layer_normed, mint.nn.Embedding: _embedded, mint.nn.Dropout: _dropped,
    mint.nn.AvgPool2d: _averaged, mint.nn.MaxPool2d: _maximal,
}  # fmt: skip


# --- methods of tensors, mostly those by which weights are drawn ------------------------------------------------------


def _normal_in_place(self, mean=0, std=1, *, generator=None):
    return self.copy_(ops.cast(mean + std * ops.standard_normal(self.shape), self.dtype))


def _uniform_in_place(self, from_=0, to=1, *, generator=None):
    return self.copy_(ops.cast(from_ + (to - from_) * FUNCTIONS[mint]["rand"](self.shape), self.dtype))


def _fill_in_place(self, value):
    """`copy_` cannot write into a row of another tensor; an assignment to places can."""
    if self.ndim == 0:
        return self.copy_(ops.full((), value, dtype=self.dtype))
    self[:] = value
    return self


def _zero_in_place(self):
    return _fill_in_place(self, 0)


def _repeat(self, *repeats):
    return ops.tile(self, tuple(repeats[0]) if isinstance(repeats[0], (tuple, list)) else repeats)


def _nonzero(self, *, as_tuple=False):
    found = ops.cast(ops.nonzero(self), ms.int64)
    return tuple(found[:, i] for i in range(found.shape[1])) if as_tuple else found


def _clone(self):
    return self.copy()


def _fill_masked_in_place(self, mask, value):
    return self.copy_(ops.masked_fill(self, mask, value))


METHODS: dict[str, Callable] = {
    "normal_": _normal_in_place, "uniform_": _uniform_in_place, "fill_": _fill_in_place, "zero_": _zero_in_place,
    "repeat": _repeat, "nonzero": _nonzero, "clone": _clone, "masked_fill_": _fill_masked_in_place,
    "repeat_interleave": FUNCTIONS[mint]["repeat_interleave"],
}  # fmt: skip


@contextmanager
def mint_on_cpu() -> Iterator[None]:
    """Inside, mint computes on the CPU what PyTorch's functions of these names compute."""
    start()
    swapped = {id(original): (original, new) for original, new in _originals()}
    places = [(cell, "construct", new) for cell, new in CELLS.items()]
    places += [(Tensor, name, new) for name, new in METHODS.items()]
    before = [(owner, name, owner.__dict__.get(name, MISSING)) for owner, name, _ in places]
    _exchange({key: new for key, (_, new) in swapped.items()})
    for owner, name, new in places:
        setattr(owner, name, new)
    try:
        yield
    finally:
        _exchange({id(new): original for original, new in swapped.values()})
        for owner, name, old in before:
            if old is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _originals() -> Iterator[tuple[Any, Callable]]:
    for module, functions in FUNCTIONS.items():
        for name, new in functions.items():
            yield getattr(module, name), new


def _exchange(by_id: dict[int, Any]) -> None:
    """Puts the new in the place of the old in every module that has it, under whatever name, but in mint_functions."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(module, ModuleType) or module is mint_functions or not names:
            continue
        for name, value in list(names.items()):
            if id(value) in by_id:
                setattr(module, name, by_id[id(value)])
