"""What the U-Nets and the autoencoder of Stable Diffusion are built of: residual blocks, resizing, the time.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", https://arxiv.org/abs/2112.10752,
appendix E, after Ho et al., https://arxiv.org/abs/2006.11239, appendix B. Weights have the names of diffusers' files,
where `nn.blocks` has those of another family.
"""

from __future__ import annotations

import math
from types import ModuleType

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..errors import UserError
from ..maths.random import host_rng
from ..ops import by_operators
from ..ops.placed import Placed
from .activations import SiLU
from .layers import Conv2d, Linear
from .norms import GroupNorm


class Timesteps(nn.Cell):
    """[cos(t f), sin(t f)] with f_i = 10000^(-i / (half - freq_shift)), i < half = dim / 2: (B,) -> (B, dim).

    Ho et al.'s own order is [sin, cos] with a ``freq_shift`` of 1; Stable Diffusion has [cos, sin] and 0.

    Raises:
        UserError: for a ``dim`` that is odd, or so small that ``freq_shift`` leaves nothing to divide by.
    """

    def __init__(self, dim: int, *, flip_sin_to_cos: bool = True, freq_shift: float = 0):
        super().__init__()
        half = dim // 2
        if dim % 2 or half <= freq_shift:
            raise UserError(
                f"the time's embedding has width {dim} and freq_shift {freq_shift}, expected an even width above "
                f"{2 * freq_shift}"
            )
        exponents = np.arange(half, dtype=np.float64) / (half - freq_shift)
        self.frequencies = Tensor(np.exp(-math.log(10000) * exponents).astype(np.float32).reshape(1, half))
        self.cos_first = flip_sin_to_cos

    def construct(self, timestep: Tensor) -> Tensor:
        phase = timestep.astype(ms.float32).reshape(-1, 1) * self.frequencies
        if self.cos_first:
            return ops.concat((ops.cos(phase), ops.sin(phase)), 1)
        return ops.concat((ops.sin(phase), ops.cos(phase)), 1)


class TimestepEmbedding(nn.Cell):
    """linear_2(silu(linear_1(t))): (B, dim) -> (B, dim_out). Ho et al., appendix B."""

    def __init__(self, dim: int, dim_out: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        rng = host_rng(rng)
        self.linear_1 = Linear(dim, dim_out, rng=rng)
        self.linear_2 = Linear(dim_out, dim_out, rng=rng)
        self.silu = SiLU()

    def construct(self, t: Tensor) -> Tensor:
        return self.linear_2(self.silu(self.linear_1(t)))


class ResnetBlock2D(Placed):
    """shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time_emb_proj(time_act)))).

    x (B, dim, H, W)[, time_act (B, time_dim), the time's embedding *after* its SiLU] -> (B, dim_out, H, W). The
    shortcut is a 1x1 convolution where the width changes. Without ``time_dim`` the block knows no time.

    Raises:
        UserError: for widths that ``groups`` does not divide.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        time_dim: int | None = None,
        *,
        groups: int = 32,
        eps: float = 1e-6,
        rng: np.random.Generator | None = None,
    ):
        super().__init__()
        rng = host_rng(rng)
        self.norm1 = GroupNorm(groups, dim, eps)
        self.conv1 = Conv2d(dim, dim_out, 3, padding=1, rng=rng)
        self.timed = time_dim is not None
        if self.timed:
            self.time_emb_proj = Linear(time_dim, dim_out, rng=rng)
        self.norm2 = GroupNorm(groups, dim_out, eps)
        self.conv2 = Conv2d(dim_out, dim_out, 3, padding=1, rng=rng)
        self.widens = dim != dim_out
        if self.widens:
            self.conv_shortcut = Conv2d(dim, dim_out, 1, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.plus = on.plus()

    def construct(self, x: Tensor, time_act: Tensor | None = None) -> Tensor:
        h = self.conv1(self.norm1.silu(x))
        h = self.norm2.silu_of_sum(h, self.time_emb_proj(time_act)) if self.timed else self.norm2.silu(h)
        return self.plus(self.conv_shortcut(x) if self.widens else x, self.conv2(h))


class Downsample2D(Placed):
    """A 3x3 convolution of stride 2: (B, C, H, W) -> (B, C, H', W').

    With ``padding`` 1 zeros stand all around, H' = ceil(H / 2). With 0 there is one row below and one column to the
    right, and none on the other sides: H' = floor(H / 2). The first one's pixels are then a half pixel elsewhere.

    Raises:
        UserError: for another padding.
    """

    def __init__(self, dim: int, padding: int = 1, *, rng: np.random.Generator | None = None):
        super().__init__()
        if padding not in (0, 1):
            raise UserError(f"downsample_padding is {padding}, expected 0 or 1")
        self.conv = Conv2d(dim, dim, 3, stride=2, padding=padding, rng=rng)
        self.at_the_end = padding == 0
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.pad_end = on.pad_end()

    def construct(self, x: Tensor) -> Tensor:
        return self.conv(self.pad_end(x) if self.at_the_end else x)


class Upsample2D(Placed):
    """Nearest neighbour, then a 3x3 convolution: (B, C, H, W) -> (B, C, 2H, 2W), or (B, C, *size).

    ``size`` is the doubled one, or one less: what was odd before it was halved.
    """

    def __init__(self, dim: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        self.conv = Conv2d(dim, dim, 3, padding=1, rng=rng)
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.upsample = on.upsample()
        self.cropped = on.cropped

    def construct(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x = self.upsample(x)
        return self.conv(x if size is None else self.cropped(x, size))
