"""The U-Net of unconditional diffusion by diffusers' names and config keys, as google/ddpm-cifar10-32 is one.

Ho et al., "Denoising Diffusion Probabilistic Models", https://arxiv.org/abs/2006.11239, appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..errors import UserError, require_positive
from ..maths.random import host_rng
from ..nn.activations import SiLU
from ..nn.blocks_2d import Downsample2D, ResnetBlock2D, TimestepEmbedding, Timesteps, Upsample2D
from ..nn.layers import Conv2d, KernelNet
from ..nn.norms import GroupNorm
from ..nn.stages_2d import DownStage, MidStage, OfWidth, UpStage
from ..nn.transformer_2d import ImageAttention
from .levels import attention_of_today, check_levels
from .pretrained import PretrainedModel

Down = Literal["DownBlock2D", "AttnDownBlock2D"]
Up = Literal["UpBlock2D", "AttnUpBlock2D"]


class DenoisingUnet(PretrainedModel, KernelNet):
    """What both U-Nets share: stages down, one in the middle, stages up, each told the time.

    Called with the time as a Tensor (B,), a number for the whole batch, or an array of either kind.

    Raises:
        UserError: for widths that do not fit; when called, for another number of channels, and for times that are not
            one for all or one for each image.
    """

    any_numbers = frozenset({"timestep"})

    def build(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        layers: int,
        down: Sequence[OfWidth | None],
        middle: OfWidth,
        up: Sequence[OfWidth | None],
        *,
        groups: int,
        eps: float,
        downsample_padding: int,
        flip_sin_to_cos: bool,
        freq_shift: float,
        rng: np.random.Generator,
    ) -> None:
        """Makes the layers; ``down``, ``middle`` and ``up`` make the attention of a stage, None where it has none."""
        time_dim, last = 4 * widths[0], len(widths) - 1

        def block(dim: int, dim_out: int) -> nn.Cell:
            return ResnetBlock2D(dim, dim_out, time_dim, groups=groups, eps=eps, rng=rng)

        def halved(dim: int) -> nn.Cell:
            return Downsample2D(dim, downsample_padding, rng=rng)

        def doubled(dim: int) -> nn.Cell:
            return Upsample2D(dim, rng=rng)

        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=flip_sin_to_cos, freq_shift=freq_shift)
        self.time_embedding = TimestepEmbedding(widths[0], time_dim, rng=rng)
        self.silu = SiLU()
        self.conv_in = Conv2d(in_channels, widths[0], 3, padding=1, rng=rng)
        self.down_blocks = nn.CellList(
            [
                DownStage(widths[max(i - 1, 0)], width, layers, block, down[i], halved if i < last else None)
                for i, width in enumerate(widths)
            ]
        )
        self.mid_block = MidStage(widths[-1], block, middle)
        stages = []
        for i, width in enumerate(reversed(widths)):
            level = last - i
            below = widths[min(level + 1, last)]
            skips = [width] * layers + [widths[max(level - 1, 0)]]
            stages.append(UpStage(below, width, skips, block, up[i], doubled if level else None))
        self.up_blocks = nn.CellList(stages)
        self.skips_of_a_stage = layers + 1
        self.conv_norm_out = GroupNorm(groups, widths[0], eps)
        self.conv_out = Conv2d(widths[0], out_channels, 3, padding=1, rng=rng)

    def __call__(self, sample: Any, timestep: Any, *args: Any, **kwargs: Any) -> Tensor:
        if len(sample.shape) != 4 or sample.shape[1] != self.config.in_channels:
            raise UserError(
                f"sample has shape {tuple(sample.shape)}, expected (images, {self.config.in_channels}, height, width)"
            )
        return super().__call__(sample, times_of(timestep, sample.shape[0]), *args, **kwargs)

    def denoised(self, sample: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """sample (B, C, H, W), timestep (B,)[, context (B, S, width)] -> (B, out_channels, H, W)."""
        time_act = self.silu(self.time_embedding(ops.cast(self.time_proj(timestep), sample.dtype)))
        x = self.conv_in(self.enter(sample))
        made = (x,)
        for stage in self.down_blocks:
            x, new = stage(x, time_act, context)
            made = made + new
        x = self.mid_block(x, time_act, context)
        for stage in self.up_blocks:
            skips, made = made[-self.skips_of_a_stage :], made[: -self.skips_of_a_stage]
            size = self.sides(made[-1]) if made else None  # what the image was before it was halved
            x = stage(x, skips, time_act, context, size)
        return self.leave(self.conv_out(self.conv_norm_out.silu(x)))


def times_of(timestep: Any, batch: int) -> Tensor:
    """A number, or as many as there are images, as a float32 Tensor (B,). Raises UserError for another shape."""
    times = timestep.asnumpy() if isinstance(timestep, Tensor) else np.asarray(timestep)
    if times.shape not in ((), (1,), (batch,)):
        raise UserError(f"timestep has shape {times.shape}, expected one number, or {batch}: one for each image")
    return Tensor(np.broadcast_to(times.astype(np.float32).reshape(-1), (batch,)).copy(), ms.float32)


def number_of_heads(dim: int, width: int) -> int:
    """How many heads of ``width`` channels make up ``dim``. UserError where none do."""
    if width < 1 or dim % width:
        raise UserError(f"attention_head_dim, the width of a head, is {width}, expected a divisor of {dim}")
    return dim // width


class UNet2DModel(DenoisingUnet):
    """sample (B, in_channels, H, W), timestep -> (B, out_channels, H, W), without anything that says what to draw.

    Args:
        sample_size: side of the images that it was trained on, kept for who reads it.
        in_channels, out_channels: of the images.
        freq_shift, flip_sin_to_cos: see `Timesteps`.
        down_block_types: "DownBlock2D", or with attention "AttnDownBlock2D", from the image inwards.
        up_block_types: "UpBlock2D" or "AttnUpBlock2D", from the inside out.
        block_out_channels: the widths, from the image inwards.
        layers_per_block: residual blocks of a stage down; the stages up have one more.
        downsample_padding: see `Downsample2D`.
        attention_head_dim: the *width* of a head; None: one head of the full width.
        norm_num_groups, norm_eps: of every group normalisation.
        rng, use_kernels: as of `AutoencoderKL`.

    Raises:
        UserError: for a key or value that does not exist or does not fit.
    """

    FIXED: ClassVar[dict[str, Any]] = {
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "mid_block_type": "UNetMidBlock2D",
        "mid_block_scale_factor": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": 0.0,
        "act_fn": "silu",
        "attn_norm_num_groups": None,
        "resnet_time_scale_shift": "default",
        "add_attention": True,
        "class_embed_type": None,
        "num_class_embeds": None,
        "num_train_timesteps": None,
    }
    renamed = staticmethod(attention_of_today)

    def __init__(
        self,
        sample_size: int | tuple[int, ...] | None = None,
        in_channels: int = 3,
        out_channels: int = 3,
        freq_shift: int = 0,
        flip_sin_to_cos: bool = True,
        down_block_types: tuple[Down, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3),
        up_block_types: tuple[Up, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D"),
        block_out_channels: tuple[int, ...] = (224, 448, 672, 896),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        attention_head_dim: int | None = 8,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        *,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        super().__init__(locals())
        widths = tuple(block_out_channels)
        check_levels(len(widths), down_block_types=down_block_types, up_block_types=up_block_types)
        require_positive(layers_per_block=layers_per_block, norm_num_groups=norm_num_groups)
        rng = host_rng(rng)

        def attention(dim: int) -> nn.Cell:
            heads = 1 if attention_head_dim is None else number_of_heads(dim, attention_head_dim)
            return ImageAttention(dim, heads, groups=norm_num_groups, eps=norm_eps, rng=rng)

        def chosen(names: Sequence[str]) -> list[Callable | None]:
            return [attention if block.startswith("Attn") else None for block in names]

        self.build(
            in_channels, out_channels, widths, layers_per_block, chosen(down_block_types), attention,
            chosen(up_block_types), groups=norm_num_groups, eps=norm_eps, downsample_padding=downsample_padding,
            flip_sin_to_cos=flip_sin_to_cos, freq_shift=freq_shift, rng=rng,
        )  # fmt: skip
        self.choose_kernels(use_kernels)

    def construct(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return self.denoised(sample, timestep, None)
