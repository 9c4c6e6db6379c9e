"""Normalisations of both U-Net layouts.

Each is called as ``norm(x)`` or ``norm(x, scale, shift)``; the second is the time-conditioned form
norm(x) * (scale + 1) + shift with the two per-channel gains multiplied before they meet the image,
which saves a pass over it. Statistics are taken in float32 whatever the precision of the input.

With channels last (the C++ kernels) ``norm.fused`` does that and what follows it, SiLU and a residual, in one operator.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..errors import UserError
from ..ops import kernels
from ..ops.sums import batch_mean, channel_sum, spread, spread_all


def _ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32))


def _zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


class _Norm(nn.Cell):
    """What the three share: whether they run by the C++ kernels."""

    def __init__(self):
        super().__init__()
        self.channels_last = False


class RMSNorm(_Norm):
    """x / max(||x||_2 over channels, 1e-12) * sqrt(C) * g: (B, C, H, W) -> same.

    Zhang & Sennrich, https://arxiv.org/abs/1910.07467.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.g = Parameter(_ones(1, dim, 1, 1), name="g")
        self.root_dim = dim**0.5

    def prepare_channels_last(self) -> None:
        """As `_Norm.prepare_channels_last`."""
        self.plain, self.plain_add = kernels.norm("rms", 2, False), kernels.norm("rms", 2, True)
        self.silu, self.silu_add = kernels.norm("rms_silu", 2, False), kernels.norm("rms_silu", 2, True)
        self.silu_time = kernels.norm("rms_silu_time", 3, False)

    def fused(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """norm(x) [+ residual], all (B, H, W, C)."""
        return self.plain(x, self.g) if residual is None else self.plain_add(x, self.g, residual)

    def fused_silu(self, x: Tensor, scale_shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """silu(norm(x) (scale + 1) + shift), scale and shift (B, 2 C), or silu(norm(x)) [+ residual]."""
        if scale_shift is not None:
            return self.silu_time(x, self.g, scale_shift)
        return self.silu(x, self.g) if residual is None else self.silu_add(x, self.g, residual)

    def construct(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if self.channels_last:
            if scale is not None:
                raise ValueError("with channels last, scale and shift go through fused_silu")
            return self.fused(x)
        dtype = x.dtype
        x = ops.cast(x, ms.float32)
        # Clamping the square, not its root, keeps the gradient finite where a pixel is zero.
        x = x * ops.rsqrt(ops.maximum(channel_sum(x * x), 1e-24))
        gain = self.g * self.root_dim
        y = x * spread(gain, x) if scale is None else x * spread(gain * (scale + 1), x) + spread(shift, x)
        return ops.cast(y, dtype)


class GroupNorm(_Norm):
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
        self.mean = ops.ReduceMean(keep_dims=True)

    def prepare_channels_last(self) -> None:
        """As `_Norm.prepare_channels_last`; UserError for a norm without a kernel."""
        if self.eps != 1e-5:
            raise UserError(f"GroupNorm of eps={self.eps} has no kernel; expected 1e-5")
        self.silu, self.silu_add = kernels.norm("group_silu", 3, False), kernels.norm("group_silu", 3, True)
        self.silu_time = kernels.norm("group_silu_time", 4, False)
        self.silu_sum = kernels.norm("group_silu_sum", 4, False)
        self.silu_sum_add = kernels.norm("group_silu_sum", 4, True)

    def by_groups(self) -> Tensor:
        """The gain as the kernels take it, (groups, channels of a group)."""
        return self.weight.reshape(self.groups, -1)

    def fused_silu(self, x: Tensor, scale_shift: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """As `RMSNorm.fused_silu`."""
        if scale_shift is not None:
            return self.silu_time(x, self.by_groups(), self.bias, scale_shift)
        if residual is None:
            return self.silu(x, self.by_groups(), self.bias)
        return self.silu_add(x, self.by_groups(), self.bias, residual)

    def silu_of_sum(self, x: Tensor, shift: Tensor, residual: Tensor | None = None) -> Tensor:
        """silu(norm(x + shift)) [+ residual], shift (B, C) the same for every pixel, in either layout."""
        if self.channels_last:
            if residual is None:
                return self.silu_sum(x, self.by_groups(), self.bias, shift)
            return self.silu_sum_add(x, self.by_groups(), self.bias, shift, residual)
        y = ops.silu(self.construct(x + spread(shift.reshape(shift.shape + (1, 1)), x)))
        return y if residual is None else y + residual

    def construct(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if self.channels_last:
            raise ValueError("with channels last, GroupNorm is called through fused_silu")
        dtype, shape = x.dtype, x.shape
        x = ops.cast(x, ms.float32).reshape(shape[0], self.groups, -1)
        x = x - self.mean(x, 2)
        x = x * ops.rsqrt(self.mean(x * x, 2) + self.eps)
        gain, bias = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        if scale is not None:
            gain, bias = gain * (scale + 1), bias * (scale + 1) + shift
        return ops.cast(x.reshape(shape) * gain + bias, dtype)


class LayerNorm(_Norm):
    """Normalisation over the last axis, with gain and bias: (..., dim) -> same.

    Ba et al., https://arxiv.org/abs/1607.06450. ``nn.LayerNorm`` has an epsilon of 1e-7, PyTorch's is 1e-5.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = Parameter(_ones(dim), name="weight")
        self.bias = Parameter(Tensor(np.zeros(dim, np.float32)), name="bias")
        self.eps = eps
        self.mean = ops.ReduceMean(keep_dims=True)

    def prepare_channels_last(self) -> None:
        """As `GroupNorm.prepare_channels_last`. Only the operator changes: channels are last already."""
        if self.eps != 1e-5:
            raise UserError(f"LayerNorm of eps={self.eps} has no kernel; expected 1e-5")
        self.kernel = kernels.norm("layer_bias", 3, False)

    def construct(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        if self.channels_last:
            rows = x.reshape(1, 1, -1, x.shape[-1])
            return self.kernel(rows, self.weight, self.bias).reshape(x.shape)
        x = ops.cast(x, ms.float32)
        x = x - self.mean(x, -1)
        x = x * ops.rsqrt(self.mean(x * x, -1) + self.eps)
        return ops.cast(x * self.weight + self.bias, dtype)


class ChannelLayerNorm(_Norm):
    """Normalisation over channels with a gain and no bias: (B, C, H, W) -> same (the 2022 layout)."""

    def __init__(self, dim: int):
        super().__init__()
        self.g = Parameter(_ones(1, dim, 1, 1), name="g")
        self.mean = ops.ReduceMean(keep_dims=True)

    def prepare_channels_last(self) -> None:
        """As `_Norm.prepare_channels_last`."""
        self.plain, self.plain_add = kernels.norm("layer", 2, False), kernels.norm("layer", 2, True)

    def fused(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `RMSNorm.fused`."""
        return self.plain(x, self.g) if residual is None else self.plain_add(x, self.g, residual)

    def construct(self, x: Tensor) -> Tensor:
        if self.channels_last:
            return self.fused(x)
        dtype = x.dtype
        eps = 1e-5 if dtype == ms.float32 else 1e-3
        x = ops.cast(x, ms.float32)
        x = x - self.mean(x, 1)
        x = x * ops.rsqrt(self.mean(x * x, 1) + eps)
        return ops.cast(x * self.g, dtype)


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
