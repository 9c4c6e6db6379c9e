"""The time-conditioned U-Net of DDPM, in the layouts of denoising-diffusion-pytorch's releases.

``norm="rms", downsample="unshuffle"`` is the network of its release 2.3; ``norm="group", downsample="conv"`` the 2022
one, which the MindSpore port of DDPM was made from; `config.layouts` lists those between. Weights move to and from
PyTorch with `ms_ddpm.storage.convert`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from mindspore import Tensor, nn, ops

from ..config.layouts import LAYOUTS, NORMS
from ..errors import UserError
from ..maths.random import host_rng
from ..nn.attention import Attention, LinearAttention
from ..nn.blocks import ResnetBlock, Upsample
from ..nn.blocks import downsample as make_downsample
from ..nn.embeddings import FourierPosEmb, SinusoidalPosEmb
from ..nn.layers import Conv2d, KernelNet, Linear
from ..ops import by_operators
from ..ops.placed import Placed
from ..storage.fingerprint import remembers


class TimeMLP(nn.Cell):
    """time (B,) -> SiLU of the time embedding (B, time_dim); every block begins with that SiLU, so it is done once."""

    def __init__(self, embedding: nn.Cell, time_dim: int, rng: np.random.Generator):
        super().__init__()
        self.embedding = embedding
        self.linear1 = Linear(embedding.dim, time_dim, float32_out=True, rng=rng)
        self.linear2 = Linear(time_dim, time_dim, float32_out=True, rng=rng)

    def construct(self, time: Tensor) -> Tensor:
        h = ops.gelu(self.linear1(self.embedding(time)), approximate="none")
        return ops.silu(self.linear2(h))


class Stage(Placed):
    """One resolution of the U-Net: two residual blocks, attention, and the change of resolution."""

    def __init__(self, block1: nn.Cell, block2: nn.Cell, attn: nn.Cell, resample: nn.Cell):
        super().__init__()
        self.block1 = block1
        self.block2 = block2
        self.attn = attn
        self.resample = resample
        self.place(by_operators)

    def place(self, on: ModuleType) -> None:
        self.concat = on.concat()

    def down(self, x: Tensor, time_act: Tensor, key) -> tuple[Tensor, Tensor, Tensor]:
        """-> (output of block 1, output of attention, downsampled): the first two go to the way up."""
        first = self.block1(x, time_act, key)
        x = self.block2(first, time_act, key)
        x = self.attn(x, x)
        return first, x, self.resample(x)

    def up(self, x: Tensor, skip1: Tensor, skip2: Tensor, time_act: Tensor, key) -> Tensor:
        """Takes the skips of `down`, the later one first, and returns the upsampled image."""
        x = self.block1(self.concat(x, skip1), time_act, key)
        x = self.block2(self.concat(x, skip2), time_act, key)
        return self.resample(self.attn(x, x))


def _per_stage(value, stages: int, name: str) -> tuple:
    """A setting given once or once per stage, as a tuple of one per stage."""
    if not isinstance(value, Sequence):
        return (value,) * stages
    if len(value) != stages:
        raise UserError(f"{name} has {len(value)} entries, expected one per entry of dim_mults ({stages})")
    return tuple(value)


@remembers()
class Unet(KernelNet):
    """U-Net that predicts what `GaussianDiffusion` asks it to.

    Called as ``unet(x, time, x_self_cond=None)``, with tensors or numpy arrays: x (B, channels, H, W) float and time
    (B,) int or float; returns (B, out_dim, H, W). H and W must be divisible by ``unet.downsample_factor``.

    Args:
        dim: width of the first stage; stage i has ``dim * dim_mults[i]`` channels.
        init_dim: channels after the first convolution (default ``dim``).
        out_dim: channels of the output (default ``channels``, twice that with ``learned_variance``).
        dim_mults: one factor per stage; resolution halves between stages.
        channels: of the image.
        self_condition: takes the previous estimate of x_0 as extra input channels (https://arxiv.org/abs/2208.04202).
        learned_variance: predicts the variance too (https://arxiv.org/abs/2102.09672).
        learned_sinusoidal_cond, random_fourier_features, learned_sinusoidal_dim: Fourier features of the time, learned
            or fixed, instead of sinusoids.
        sinusoidal_pos_emb_theta: longest period of the sinusoids.
        dropout: in the first block of each residual pair; active when called with a ``dropout_key``.
        attn_dim_head, attn_heads, full_attn: one value, or one per stage. ``full_attn`` (default: innermost stage
            only) chooses softmax attention over linear attention.
        flash_attn: softmax attention in blocks, without the (n, n) matrix.
        norm: "rms" (2.3 layout), "group" (2022 layout: weight standardisation, GroupNorm, linear attention everywhere
            but in the middle), or another of `ms_ddpm.config.layouts`.
        downsample: "unshuffle" (2.3) or "conv" (2022: 4x4, stride 2).
        rng: numpy Generator or seed of the initial weights, which follow PyTorch's distributions.
        use_kernels: run by the C++ kernels for CPU (default: where they are there, see `ms_ddpm.ops.kernels`).

    Raises:
        UserError: for a value that does not exist or does not fit.
    """

    any_numbers = frozenset({"time"})

    def __init__(
        self,
        dim: int,
        init_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: Sequence[int] = (1, 2, 4, 8),
        channels: int = 3,
        self_condition: bool = False,
        learned_variance: bool = False,
        learned_sinusoidal_cond: bool = False,
        random_fourier_features: bool = False,
        learned_sinusoidal_dim: int = 16,
        sinusoidal_pos_emb_theta: float = 10000,
        dropout: float = 0.0,
        attn_dim_head: int | Sequence[int] = 32,
        attn_heads: int | Sequence[int] = 4,
        full_attn: bool | Sequence[bool] | None = None,
        flash_attn: bool = False,
        *,
        norm: str = "rms",
        downsample: str = "unshuffle",
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        super().__init__()
        stages = len(dim_mults)
        self._check(dim, dim_mults, norm, downsample, dropout, full_attn, learned_sinusoidal_dim)
        rng = host_rng(rng)
        init_dim = init_dim or dim
        self.dim = dim
        self.channels = channels
        self.self_condition = self_condition
        self.out_dim = out_dim or channels * (2 if learned_variance else 1)
        self.dropout = dropout
        self.downsample_factor = 2 ** (stages - 1)
        self.norm_kind, self.downsample_kind = norm, downsample

        self.init_conv = Conv2d(channels * (2 if self_condition else 1), init_dim, 7, padding=3, rng=rng)
        if learned_sinusoidal_cond or random_fourier_features:
            embedding = FourierPosEmb(learned_sinusoidal_dim, is_random=random_fourier_features, rng=rng)
        else:
            embedding = SinusoidalPosEmb(dim, sinusoidal_pos_emb_theta)
        time_dim = dim * 4
        self.time_mlp = TimeMLP(embedding, time_dim, rng)

        if full_attn is None:
            full_attn = tuple(i == stages - 1 and not LAYOUTS[norm].wrapped for i in range(stages))
        full = _per_stage(full_attn, stages, "full_attn")
        heads = _per_stage(attn_heads, stages, "attn_heads")
        dim_heads = _per_stage(attn_dim_head, stages, "attn_dim_head")
        layer = iter(range(10**6))  # a number per residual block: its own dropout masks

        def block(width_in: int, width_out: int) -> ResnetBlock:
            return ResnetBlock(width_in, width_out, time_dim, norm=norm, dropout=dropout, layer=next(layer), rng=rng)

        def attention(width: int, i: int) -> nn.Cell:
            if full[i]:
                return Attention(width, heads[i], dim_heads[i], norm=norm, chunked=flash_attn, rng=rng)
            return LinearAttention(width, heads[i], dim_heads[i], norm=norm, rng=rng)

        widths = [init_dim, *(dim * mult for mult in dim_mults)]
        downs, ups = [], []
        for i in range(stages):
            width, wider = widths[i], widths[i + 1]
            last = i == stages - 1
            resample = (
                Conv2d(width, wider, 3, padding=1, rng=rng) if last else make_downsample(downsample, width, wider, rng)
            )
            downs.append(Stage(block(width, width), block(width, width), attention(width, i), resample))
        mid = widths[-1]
        self.mid_block1 = block(mid, mid)
        self.mid_attn = Attention(mid, heads[-1], dim_heads[-1], norm=norm, chunked=flash_attn, rng=rng)
        self.mid_block2 = block(mid, mid)
        for i in reversed(range(stages)):
            narrower, width = widths[i], widths[i + 1]
            resample = Conv2d(width, narrower, 3, padding=1, rng=rng) if i == 0 else Upsample(width, narrower, rng)
            ups.append(
                Stage(block(width + narrower, width), block(width + narrower, width), attention(width, i), resample)
            )
        # A CellList filled by append loses its parameters' prefix (MindSpore 2.10), so lists come first.
        self.downs = nn.CellList(downs)
        self.ups = nn.CellList(ups)
        self.final_res_block = block(init_dim * 2, init_dim)
        self.final_conv = Conv2d(init_dim, self.out_dim, 1, float32_out=True, rng=rng)
        self.choose_kernels(use_kernels)

    @staticmethod
    def _check(dim, dim_mults, norm, downsample, dropout, full_attn, fourier_dim) -> None:
        def one_of(name, value, allowed):
            if value not in allowed:
                raise UserError(f"Unet {name} is {value!r}, expected one of: {', '.join(allowed)}")

        one_of("norm", norm, NORMS)
        one_of("downsample", downsample, ("unshuffle", "conv"))
        if len(dim_mults) == 0 or min(dim_mults) < 1:
            raise UserError(f"Unet dim_mults is {tuple(dim_mults)}, expected one or more positive integers")
        if dim < 4 or dim % 2:
            raise UserError(f"Unet dim is {dim}, expected an even number of at least 4 (sines and cosines share it)")
        if not 0 <= dropout < 1:
            raise UserError(f"Unet dropout is {dropout}, expected a probability in [0, 1)")
        if fourier_dim % 2:
            raise UserError(f"Unet learned_sinusoidal_dim is {fourier_dim}, expected an even number")
        if LAYOUTS[norm].wrapped and full_attn is not None and any(np.atleast_1d(full_attn)):
            raise UserError(f"Unet full_attn does not exist with norm={norm!r} (full attention is in the middle only)")
        if LAYOUTS[norm].group and dim % 8:
            raise UserError(f"Unet dim is {dim}, expected a multiple of 8 with norm={norm!r} (GroupNorm of 8 groups)")

    def check_size(self, height: int, width: int) -> None:
        """Raises UserError unless every stage can halve the image."""
        factor = self.downsample_factor
        if height % factor or width % factor:
            near = tuple(max(1, math.floor(side / factor + 0.5)) * factor for side in (height, width))
            raise UserError(
                f"image size {height}x{width} cannot be halved {int(math.log2(factor))} times: "
                f"both sides must be divisible by {factor} (nearest: {near[0]}x{near[1]})"
            )

    def construct(self, x: Tensor, time: Tensor, x_self_cond: Tensor | None = None, dropout_key=None) -> Tensor:
        if self.self_condition:
            if x_self_cond is None:
                x_self_cond = ops.zeros_like(x)
            x = ops.concat((x_self_cond, x), 1)
        x = self.init_conv(self.enter(x))
        first = x
        time_act = self.time_mlp(time)
        skips = ()
        for stage in self.downs:
            skip1, skip2, x = stage.down(x, time_act, dropout_key)
            skips = skips + (skip1, skip2)
        x = self.mid_block1(x, time_act, dropout_key)
        x = self.mid_attn(x, x)
        x = self.mid_block2(x, time_act, dropout_key)
        for stage in self.ups:
            x = stage.up(x, skips[-1], skips[-2], time_act, dropout_key)
            skips = skips[:-2]
        x = self.concat(x, first)
        return self.leave(self.final_conv(self.final_res_block(x, time_act, dropout_key)))
