"""Normalisations of both U-Net layouts, and the autoencoder's.

What follows a norm is part of it, because the C++ kernels do both in one pass over the image: ``norm(x, residual)``
adds to it, ``norm.silu(x, scale_shift, residual)`` conditions it on the time and takes the SiLU. Statistics are taken
in float32 whatever the precision of the input. The formulas: `ops.by_operators`.
"""

from __future__ import annotations

from types import ModuleType

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import UserError
from ..ops import by_operators
from ..ops.placed import Placed
from ..ops.sums import batch_mean, spread_all


def _ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32))


def _zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


class RMSNorm(Placed):
    """x / max(||x||_2 over channels, 1e-12) * sqrt(C) * g [+ residual]: (B, C, H, W) -> same.

    Zhang & Sennrich, https://arxiv.org/abs/1910.07467.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.g = Parameter(_ones(1, dim, 1, 1), name="g")
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.norm, self.norm_silu = on.rms_norm(), on.rms_norm_silu()

    def silu(self, x: Tensor, scale_shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """silu(norm(x) (scale + 1) + shift), scale and shift (B, 2 C), or silu(norm(x)) [+ residual]."""
        return self.norm_silu(x, self.g, scale_shift, residual)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.norm(x, self.g, residual)


class GroupNorm(Placed):
    """Group normalisation with gain and bias: (B, C, H, W) -> same. Wu & He, https://arxiv.org/abs/1803.08494."""

    def __init__(self, groups: int, dim: int, eps: float = 1e-5):
        super().__init__()
        if dim % groups:
            raise UserError(
                f"a width of {dim} channels cannot be split into {groups} groups; take a multiple of {groups}"
            )
        self.weight = Parameter(_ones(dim), name="weight")
        self.bias = Parameter(_zeros(dim), name="bias")
        self.groups = groups
        self.eps = eps
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        """UserError for an eps without a kernel."""
        self.norm = on.group_norm(self.groups, self.eps)
        self.norm_silu = on.group_norm_silu(self.groups, self.eps)
        self.norm_silu_of_sum = on.group_norm_silu_of_sum(self.groups, self.eps)

    def silu(self, x: Tensor, scale_shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """As `RMSNorm.silu`."""
        return self.norm_silu(x, self.weight, self.bias, scale_shift, residual)

    def silu_of_sum(self, x: Tensor, shift: Tensor, residual: Tensor | None = None) -> Tensor:
        """silu(norm(x + shift)) [+ residual], shift (B, C) the same for every pixel."""
        return self.norm_silu_of_sum(x, self.weight, self.bias, shift, residual)

    def construct(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.bias)


class LayerNorm(Placed):
    """Normalisation over the last axis, with gain and bias: (..., dim) -> same.

    Ba et al., https://arxiv.org/abs/1607.06450. ``nn.LayerNorm`` has an epsilon of 1e-7, PyTorch's is 1e-5.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = Parameter(_ones(dim), name="weight")
        self.bias = Parameter(_zeros(dim), name="bias")
        self.eps = eps
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        """As `GroupNorm.place`."""
        self.norm = on.layer_norm(self.eps)

    def construct(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.bias)


class ChannelLayerNorm(Placed):
    """Normalisation over channels with a gain and no bias [+ residual]: (B, C, H, W) -> same (the 2022 layout)."""

    def __init__(self, dim: int):
        super().__init__()
        self.g = Parameter(_ones(1, dim, 1, 1), name="g")
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.norm = on.channel_norm()

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.norm(x, self.g, residual)


class BatchNorm2d(nn.Cell):
    """Batch normalisation as PyTorch does it: (B, C, H, W) -> same. Ioffe & Szegedy, https://arxiv.org/abs/1502.03167.

    While training (``set_train(True)``) the batch's mean and biased variance normalise, and move the running estimates
    by ``momentum``, the variance's by the unbiased one (PyTorch's momentum: MindSpore calls 0.9 what is 0.1 here).
    Otherwise the running estimates normalise. They are parameters that are not trained, so checkpoints hold them; an
    estimate of which this batch would make something not finite stays as it was.

    Raises ValueError, while training, for a batch of one value per channel, which has no variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.weight = Parameter(_ones(dim), name="weight")
        self.bias = Parameter(_zeros(dim), name="bias")
        self.running_mean = Parameter(_zeros(dim), name="running_mean", requires_grad=False)
        self.running_var = Parameter(_ones(dim), name="running_var", requires_grad=False)
        self.eps, self.momentum = eps, momentum

    def moved(self, estimate: Tensor, value: Tensor) -> Tensor:
        """The running ``estimate`` (C,) after a batch whose own is ``value``."""
        new = estimate + self.momentum * (ops.stop_gradient(value).reshape(-1) - estimate)
        return ops.select(ops.isfinite(new), new, estimate)

    def construct(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = ops.cast(x, ms.float32)
        if self.training:
            count = x.shape[0] * x.shape[2] * x.shape[3]
            if count < 2:
                raise ValueError("batch normalisation needs more than one value per channel to train")
            mean = batch_mean(x)
            centred = x - spread_all(mean, x)
            variance = batch_mean(centred * centred)
            ops.assign(self.running_mean, self.moved(self.running_mean, mean))
            ops.assign(self.running_var, self.moved(self.running_var, variance * (count / (count - 1))))
        else:
            centred = x - spread_all(self.running_mean, x)
            variance = self.running_var
        gain = ops.rsqrt(variance.reshape(-1) + self.eps) * self.weight
        return ops.cast(centred * spread_all(gain, x) + spread_all(self.bias, x), dtype)
