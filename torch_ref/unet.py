"""The U-Net of DDPM (Ho et al. 2020, https://arxiv.org/abs/2006.11239, appendix B), in a PyTorch library's layouts.

    init_conv -> downs: [block, block + attention, smaller] -> mid -> ups: [block, block + attention, larger] -> final

Each down stage leaves two images behind; the up stage of the same size reads them in reverse order, by concatenation.
``state_dict()`` has the library's keys and shapes: of version 2.3, and with norm="group", downsample="conv" of 2022.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from .attention import Attention, LinearAttention, PreNorm, Residual
from .layers import LAYOUTS, FourierPosEmb, ResnetBlock, SinusoidalPosEmb, Upsample, initialise, time_mlp
from .layers import downsample as make_downsample


def per_stage(name: str, value: object, stages: int) -> tuple:
    """``value`` once for each stage; a tuple must have one entry a stage already."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * stages
    if len(values) != stages:
        raise ValueError(f"{name} has {len(values)} entries, expected one per entry of dim_mults ({stages})")
    return values


def make_attention(full: bool, dim: int, heads: int, dim_head: int, norm: str) -> nn.Module:
    """The attention of one stage; in the older layouts its norm and residual are modules around it."""
    attention = (Attention if full else LinearAttention)(dim, heads, dim_head, norm)
    return Residual(PreNorm(dim, attention, norm)) if LAYOUTS[norm].wrapped else attention


def attend(attention: nn.Module, x: Tensor) -> Tensor:
    """attention(x) + x; a ``Residual`` has added x already."""
    return attention(x) if isinstance(attention, Residual) else attention(x) + x


class Unet(nn.Module):
    """x (B, C, H, W) and time (B,) -> (B, out_dim, H, W); H and W are divisible by 2^(stages - 1).

    ``norm``: of `layers.LAYOUTS`; ``downsample``: "unshuffle" | "conv". ``flash_attn`` is another order of the same
    sums: it changes nothing here. ``rng``, a seed or numpy Generator, makes the initial weights; without it PyTorch
    does.
    """

    def __init__(
        self,
        dim: int,
        init_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: tuple[int, ...] = (1, 2, 4, 8),
        channels: int = 3,
        self_condition: bool = False,
        learned_variance: bool = False,
        learned_sinusoidal_cond: bool = False,
        random_fourier_features: bool = False,
        learned_sinusoidal_dim: int = 16,
        sinusoidal_pos_emb_theta: float = 10000,
        dropout: float = 0.0,
        attn_dim_head: int | tuple[int, ...] = 32,
        attn_heads: int | tuple[int, ...] = 4,
        full_attn: bool | tuple[bool, ...] | None = None,
        flash_attn: bool = False,
        norm: str = "rms",
        downsample: str = "unshuffle",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if norm not in LAYOUTS:
            raise ValueError(f"norm is {norm!r}, expected one of: {', '.join(LAYOUTS)}")
        if LAYOUTS[norm].wrapped and full_attn is not None:
            raise ValueError(f"full_attn does not exist with norm={norm!r}: its full attention is in the middle only")
        self.channels = channels
        self.self_condition = self_condition
        self.out_dim = channels * (2 if learned_variance else 1) if out_dim is None else out_dim
        init_dim = dim if init_dim is None else init_dim
        self.init_conv = nn.Conv2d(channels * (2 if self_condition else 1), init_dim, 7, padding=3)

        time_dim = 4 * dim
        if learned_sinusoidal_cond or random_fourier_features:
            embedding = FourierPosEmb(learned_sinusoidal_dim, is_random=random_fourier_features)
            self.time_mlp = time_mlp(embedding, learned_sinusoidal_dim + 1, time_dim)
        else:
            self.time_mlp = time_mlp(SinusoidalPosEmb(dim, sinusoidal_pos_emb_theta), dim, time_dim)

        last = len(dim_mults) - 1
        if full_attn is None:  # by default in the innermost stage
            full_attn = tuple(not LAYOUTS[norm].wrapped and i == last for i in range(last + 1))
        settings = {"full_attn": full_attn, "attn_heads": attn_heads, "attn_dim_head": attn_dim_head}
        attention = list(zip(*(per_stage(k, v, last + 1) for k, v in settings.items()), strict=True))
        dims = [init_dim, *(dim * mult for mult in dim_mults)]
        stages = list(zip(dims[:-1], dims[1:], attention, strict=True))
        resnet = partial(ResnetBlock, time_dim=time_dim, norm=norm, dropout=dropout)
        smaller, same_size = partial(make_downsample, downsample), partial(nn.Conv2d, kernel_size=3, padding=1)

        self.downs = nn.ModuleList()
        for i, (dim_in, dim_out, (full, heads, dim_head)) in enumerate(stages):
            resize = smaller if i < last else same_size
            parts = resnet(dim_in, dim_in), resnet(dim_in, dim_in), make_attention(full, dim_in, heads, dim_head, norm)
            self.downs.append(nn.ModuleList([*parts, resize(dim_in, dim_out)]))

        self.mid_block1 = resnet(dims[-1], dims[-1])
        self.mid_attn = make_attention(True, dims[-1], *attention[-1][1:], norm)
        self.mid_block2 = resnet(dims[-1], dims[-1])

        self.ups = nn.ModuleList()
        for i, (dim_in, dim_out, (full, heads, dim_head)) in reversed(list(enumerate(stages))):
            resize = Upsample if i > 0 else same_size
            wide = dim_out + dim_in  # what comes up, and what the down stage left
            parts = resnet(wide, dim_out), resnet(wide, dim_out), make_attention(full, dim_out, heads, dim_head, norm)
            self.ups.append(nn.ModuleList([*parts, resize(dim_out, dim_in)]))

        self.final_res_block = resnet(2 * init_dim, init_dim)
        self.final_conv = nn.Conv2d(init_dim, self.out_dim, 1)
        self.downsample_factor = 2**last
        if rng is not None:
            initialise(self, np.random.default_rng(rng))

    def forward(self, x: Tensor, time: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        """The network's answer; ``x_self_cond`` (an x_0 estimate, zeros if None) stands before x among the channels."""
        if any(side % self.downsample_factor for side in x.shape[2:]):
            raise ValueError(f"both sides of {tuple(x.shape[2:])} must be divisible by {self.downsample_factor}")
        t = self.time_mlp(time.to(x.dtype))
        if self.self_condition:
            x = torch.cat((torch.zeros_like(x) if x_self_cond is None else x_self_cond, x), dim=1)
        x = first = self.init_conv(x)

        left = []
        for block1, block2, attention, resize in self.downs:
            x = block1(x, t)
            left.append(x)
            x = attend(attention, block2(x, t))
            left.append(x)
            x = resize(x)

        x = self.mid_block1(x, t)
        x = self.mid_block2(attend(self.mid_attn, x), t)

        for block1, block2, attention, resize in self.ups:
            x = block1(torch.cat((x, left.pop()), dim=1), t)
            x = attend(attention, block2(torch.cat((x, left.pop()), dim=1), t))
            x = resize(x)

        return self.final_conv(self.final_res_block(torch.cat((x, first), dim=1), t))
