"""What a U-Net of the system diffusion needs: parameters, and what waits for the way up. Plain arithmetic."""

from __future__ import annotations

import math

from ...config import image_sides
from ...config.layouts import LAYOUTS
from ...errors import UserError
from ..sizes import conv
from .config import DiffusionConfig

NUM_MEM_KV = 4  # of nn/attention.py


def _per_stage(value, stages: int, name: str) -> list:
    if not isinstance(value, (list, tuple)):
        return [value] * stages
    if len(value) != stages:
        raise UserError(f"{name} has {len(value)} entries, expected one per entry of dim_mults ({stages})")
    return list(value)


def parameter_count(config: DiffusionConfig) -> int:
    """Parameters of the U-Net of ``config``, the same number that `models.unet.Unet` would have."""
    layout, stages = LAYOUTS[config.norm], len(config.dim_mults)
    dim, time_dim = config.dim, config.dim * 4
    widths = [config.init_dim or dim, *(dim * mult for mult in config.dim_mults)]
    heads = _per_stage(config.attn_heads, stages, "attn_heads")
    dim_heads = _per_stage(config.attn_dim_head, stages, "attn_dim_head")
    full = _per_stage([not layout.wrapped and i == stages - 1 for i in range(stages)] if config.full_attn is None
                      else config.full_attn, stages, "full_attn")  # fmt: skip

    def block(dim_in: int, dim_out: int) -> int:
        return conv(dim_in, dim_out, 3) + (2 * dim_out if layout.group else dim_out)

    def resnet(dim_in: int, dim_out: int) -> int:
        shortcut = conv(dim_in, dim_out) if dim_in != dim_out else 0
        return conv(time_dim, 2 * dim_out) + block(dim_in, dim_out) + block(dim_out, dim_out) + shortcut

    def attention(width: int, i: int, softmax: bool) -> int:
        hidden = heads[i] * dim_heads[i]
        memories = 2 * hidden * NUM_MEM_KV if layout.memory else 0
        norms = width if softmax else 2 * width
        return norms + memories + conv(width, 3 * hidden, bias=False) + conv(hidden, width)

    outputs = config.channels * (2 if config.learned_variance else 1)
    total = conv(config.channels * (2 if config.self_condition else 1), widths[0], 7)
    fourier = config.learned_sinusoidal_cond or config.random_fourier_features
    total += config.learned_sinusoidal_dim // 2 if fourier else 0
    total += conv(config.learned_sinusoidal_dim + 1 if fourier else dim, time_dim) + conv(time_dim, time_dim)
    for i in range(stages):
        width, wider, last = widths[i], widths[i + 1], i == stages - 1
        total += 2 * resnet(width, width) + attention(width, i, softmax=full[i])
        total += conv(width, wider, 3 if last else 4 if config.downsample == "conv" else 2)
        # and the stage of the same resolution on the way up
        total += 2 * resnet(wider + width, wider) + attention(wider, i, softmax=full[i]) + conv(wider, width, 3)
    mid = widths[-1]
    total += 2 * resnet(mid, mid) + attention(mid, stages - 1, softmax=True)
    return total + resnet(widths[0] * 2, widths[0]) + conv(widths[0], outputs)


def skip_values(config: DiffusionConfig) -> int:
    """Numbers that one image's way through the U-Net keeps until the way up: two per channel and pixel and stage."""
    height, width = image_sides(config)
    pixels = height * width
    widths = [config.init_dim or config.dim, *(config.dim * mult for mult in config.dim_mults[:-1])]
    return widths[0] * pixels + sum(2 * dim * (pixels // 4**i) for i, dim in enumerate(widths))


def check(config: DiffusionConfig) -> None:
    """Raises UserError where the images cannot be halved as often as there are stages."""
    halvings = len(config.dim_mults) - 1
    sides = image_sides(config)
    if halvings > 62 or any(side % 2**halvings for side in sides):
        factor = 2 ** min(halvings, 62)
        near = tuple(max(1, math.floor(side / factor + 0.5)) * factor for side in sides)
        raise UserError(
            f"image size {sides[0]}x{sides[1]} cannot be halved {halvings} times: both sides must be divisible by "
            f"{factor} (nearest: {near[0]}x{near[1]})"
        )
