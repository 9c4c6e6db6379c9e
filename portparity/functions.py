"""Functions of tensors as models: a scheduler's step, a sampling chain, a loss, an optimizer's update under `check`.

check(torch_function(their_step), mindspore_function(our_step), {"x": x, "noise": noise})
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def torch_function(function: Callable) -> Callable[[], Any]:
    """What makes a PyTorch module that calls ``function``: of tensors, to a tensor or a tuple, list or dict of tensors.

    It runs in double as any original does, also where it makes its own tables, when it makes them at every call.
    """

    def make() -> Any:
        from torch import nn

        class Function(nn.Module):
            def forward(self, *args: Any, **kwargs: Any) -> Any:
                return function(*args, **kwargs)

        Function.__name__ = getattr(function, "__name__", "Function")
        return Function()

    return make


def mindspore_function(function: Callable) -> Callable[[], Any]:
    """The same as a MindSpore cell. In graph mode ``function`` is compiled, with what a graph can hold in it."""

    def make() -> Any:
        from mindspore import nn

        class Function(nn.Cell):
            called_as = staticmethod(function)  # whose arguments are this cell's: a graph takes them by position

            def construct(self, *args: Any) -> Any:
                return function(*args)

        Function.__name__ = getattr(function, "__name__", "Function")
        return Function()

    return make
