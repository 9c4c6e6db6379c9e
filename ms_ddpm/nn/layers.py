"""Convolution and dense layers with PyTorch's weight layout and initial distributions.

MindSpore's own ``nn.Conv2d`` and ``nn.Dense`` differ from PyTorch's in padding, bias and initial
distribution; these call the same primitives with nothing implied. They are also the one place where
precision is lowered (``compute_dtype``) and where the C++ kernels are put underneath (`use_kernels`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..arrays import TakesArrays
from ..devices.runtime import device_target, warn_of_slow_convolutions
from ..errors import UserError
from ..maths.random import host_rng, normal
from ..ops import by_kernels, by_operators, kernels
from ..ops.placed import Placed


def uniform_fan_in(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what PyTorch's kaiming_uniform(a=sqrt(5)) comes to."""
    bound = 1.0 / math.sqrt(fan_in)
    return Tensor.from_numpy(np.asarray(rng.uniform(-bound, bound, shape), np.float32))  # without another copy


def use_kernels(cell: nn.Cell, on: bool) -> None:
    """Every layer inside ``cell`` runs by the C++ kernels, in float32 and on (B, H, W, C), or by MindSpore's operators.

    Raises UserError where the kernels are wanted and cannot be used.
    """
    if on and kernels.why_not():  # which starts them, too
        raise UserError(f"the C++ kernels cannot be used: {kernels.why_not()}")
    for _, layer in cell.cells_and_names():
        if on and isinstance(layer, Affine):
            layer.compute_in(None)
        if isinstance(layer, Placed):
            layer.place(by_kernels if on else by_operators)
            layer.by_kernels = on


class KernelNet(TakesArrays, Placed):
    """A whole network, called with tensors or numpy arrays, that runs by the C++ kernels or without them."""

    def choose_kernels(self, use_kernels: bool | None) -> None:
        """The last line of a constructor: as it was told, by default where the kernels are there."""
        self.use_kernels(kernels.available() if use_kernels is None else use_kernels)

    def place(self, on: ModuleType) -> None:
        """How images get into the layers and out of them, and what stands between layers."""
        self.enter = on.enter
        self.leave = on.leave
        self.concat = on.concat()
        self.sides = on.sides

    def use_kernels(self, on: bool) -> None:
        """Runs by the C++ kernels, in float32 (again, after `ms_ddpm.training.amp`), or by MindSpore's operators.

        Raises UserError where they are wanted and cannot be used. Graphs that are compiled already stay as they are.
        """
        if not on and device_target() == "CPU":
            warn_of_slow_convolutions()
        use_kernels(self, on)


class Affine(Placed):
    """Weight, optional bias, and the precision they are applied in (see `ms_ddpm.training.amp`).

    With ``float32_out`` the result is float32 whatever that precision is. ``adapters``, None or a CellList of (x, y) ->
    y, change the result of the product (`nn.adapters`).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dim_out: int,
        bias: bool,
        rng: np.random.Generator | None,
        float32_out: bool = False,
    ):
        super().__init__()
        rng = host_rng(rng)
        fan_in = math.prod(shape[1:])
        self.weight = Parameter(uniform_fan_in(rng, shape, fan_in), name="weight")
        self.has_bias = bias
        if bias:
            self.bias = Parameter(uniform_fan_in(rng, (dim_out,), fan_in), name="bias")
        self.float32_out = float32_out
        self.compute_dtype: ms.Type | None = None  # None: that of the input
        self.output_dtype: ms.Type | None = None
        self.adapters: nn.CellList | None = None

    def take(self, product: Callable) -> None:
        """The last line of `place`: (x, weight[, bias]) -> y is the layer's product from now on."""
        self.whole_product = product
        self.compute_in(self.compute_dtype, self.output_dtype)

    def compute_in(self, compute: ms.Type | None, output: ms.Type | None = None) -> None:
        """Sets the precision of the product and of what is handed on; None: that of the input, and of the product."""
        self.compute_dtype, self.output_dtype = compute, output
        product = self.whole_product
        self.product = product if compute is None else by_operators.lowered(product, compute, output, self.has_bias)

    def prepared_weight(self) -> Tensor:
        """The weight as it enters the product."""
        return self.weight

    def affine(self, x: Tensor) -> Tensor:
        """The product with the weight, and the bias.

        Not ``construct`` with a ``super().construct`` in the classes below: compiled (2.10), ``super()`` is the parent
        of the object's class, not of the one that the call stands in, so that a class in between calls itself.
        """
        if self.has_bias:
            return self.adapted(x, self.product(x, self.prepared_weight(), self.bias))
        return self.adapted(x, self.product(x, self.prepared_weight()))

    def adapted(self, x: Tensor, y: Tensor) -> Tensor:
        """What the adapters make of ``y``, the layer's product of ``x``: (rows, dim_in) or an image."""
        if self.adapters is not None:
            for adapter in self.adapters:
                y = adapter(x, y)
        return y


class Conv2d(Affine):
    """2-D convolution: (B, dim_in, H, W) -> (B, dim_out, H', W'), zero padding given explicitly."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        float32_out: bool = False,
        rng: np.random.Generator | None = None,
    ):
        super().__init__((dim_out, dim_in, kernel_size, kernel_size), dim_out, bias, rng, float32_out)
        self.dim_out, self.geometry = dim_out, (kernel_size, stride, padding)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.take(on.conv(self.dim_out, *self.geometry, self.has_bias))

    def construct(self, x: Tensor) -> Tensor:
        return self.affine(x)


class WeightStandardizedConv2d(Conv2d):
    """Convolution whose filters are standardised to mean 0, variance 1 before use.

    Qiao et al., "Weight Standardization", https://arxiv.org/abs/1903.10520; biased variance,
    eps 1e-5 (1e-3 in half precision), added to the variance, or with ``least_variance`` the least that it counts for.
    """

    least_variance = False

    def prepared_weight(self) -> Tensor:
        shape = self.weight.shape
        flat = self.weight.reshape(shape[0], -1)
        centred = flat - flat.mean(axis=1, keep_dims=True)
        variance = (centred * centred).mean(axis=1, keep_dims=True)
        eps = 1e-5 if self.compute_dtype is None else 1e-3
        variance = ops.maximum(variance, eps) if self.least_variance else variance + eps
        return (centred / ops.sqrt(variance)).reshape(shape)


class ConvTranspose2d(Affine):
    """Transposed convolution, the gradient of a convolution: (B, dim_in, H, W) -> (B, dim_out, H', W').

    H' = (H - 1) stride - 2 padding + kernel_size + output_padding. Called with ``output_size=(H', W')``, as PyTorch's
    is, that decides instead: ``stride`` sizes fit one H. Weights are (dim_in, dim_out, k, k); their initial
    distribution follows PyTorch, whose fan-in of a transposed convolution is dim_out k^2.

    Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285, ch. 4.

    Raises:
        UserError: for an output_padding of a stride or more; when called, for a size that does not fit.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
    ):
        super().__init__((dim_in, dim_out, kernel_size, kernel_size), dim_out, bias, rng)
        if not 0 <= output_padding < stride:
            raise UserError(
                f"output_padding of a transposed convolution is {output_padding}, expected 0 to {stride - 1} "
                f"(less than its stride)"
            )
        self.dims, self.geometry = (dim_in, dim_out), (kernel_size, stride, padding)
        self.output_padding = output_padding
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.take(on.conv_transpose(*self.dims, *self.geometry, self.has_bias))
        self.sides = on.sides

    def smallest_output(self, side: int) -> int:
        """The side of the result without output padding."""
        kernel_size, stride, padding = self.geometry
        return (side - 1) * stride - 2 * padding + kernel_size

    def sides_of_output(self, height: int, width: int, output_size: tuple[int, int] | None) -> tuple[int, int]:
        """(H', W') of an image of ``height`` and ``width``."""
        low = self.smallest_output(height), self.smallest_output(width)
        if output_size is None:
            return low[0] + self.output_padding, low[1] + self.output_padding
        stride = self.geometry[1]
        for i in range(2):
            if not low[i] <= output_size[i] < low[i] + stride:
                raise ValueError(
                    f"a transposed convolution of stride {stride} makes {low[i]} to {low[i] + stride - 1} of a side of "
                    f"{(height, width)[i]}, and {output_size[i]} was asked for"
                )
        return output_size

    def construct(self, x: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        height, width = self.sides(x)
        size = self.sides_of_output(height, width, output_size)
        if self.has_bias:
            return self.product(x, self.weight, self.bias, size)
        return self.product(x, self.weight, size)


class Linear(Affine):
    """y = x W^T + b: (..., dim_in) -> (..., dim_out)."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        bias: bool = True,
        *,
        float32_out: bool = False,
        rng: np.random.Generator | None = None,
    ):
        super().__init__((dim_out, dim_in), dim_out, bias, rng, float32_out)
        self.dims = dim_in, dim_out
        self.reshape = ops.Reshape()
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.take(on.linear(self.has_bias))

    def construct(self, x: Tensor) -> Tensor:
        shape = x.shape
        if len(shape) == 2:
            return self.affine(x)
        return self.reshape(self.affine(self.reshape(x, (-1, self.dims[0]))), shape[:-1] + (self.dims[1],))


class Embedding(nn.Cell):
    """A learned vector per number: int (B,), 0 to count - 1 -> (B, dim). Rows start from N(0, 1), as PyTorch's do."""

    has_bias = False  # unlike `Affine`

    def __init__(self, count: int, dim: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        self.weight = Parameter(Tensor(normal(host_rng(rng), (count, dim))), name="weight")

    def construct(self, ids: Tensor) -> Tensor:
        return ops.gather(self.weight, ids, 0)
