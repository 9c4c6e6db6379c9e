"""The autoencoder of Stable Diffusion, by the names of diffusers' files and the keys of its ``config.json``.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", https://arxiv.org/abs/2112.10752,
section 3.1 and appendix G; a posterior of Kingma & Welling, https://arxiv.org/abs/1312.6114.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from mindspore import Tensor, nn, ops

from ..arrays import takes_arrays
from ..errors import UserError, require_positive
from ..maths.random import host_rng, normal
from ..nn.blocks_2d import Downsample2D, ResnetBlock2D, Upsample2D
from ..nn.layers import Conv2d, KernelNet
from ..nn.norms import GroupNorm
from ..nn.stages_2d import DecoderStage, DownStage, MidStage
from ..nn.transformer_2d import ImageAttention
from .levels import attention_of_today, check_levels
from .pretrained import PretrainedModel

EPS = 1e-6  # of every group normalisation
LOG_VARIANCES = (-30.0, 20.0)  # the least and the greatest


def mean_and_logvar(moments: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2 C, h, w) -> the mean and the logarithm of the variance, held within `LOG_VARIANCES`, each (B, C, h, w)."""
    mean, logvar = ops.Split(1, 2)(moments)
    return mean, ops.clamp(logvar, *LOG_VARIANCES)


class LatentDistribution:
    """N(mean, exp(logvar)) of every number of the latents, independent of each other.

    Attributes:
        mean, logvar: Tensors (B, C, h, w); logvar is held within `LOG_VARIANCES`.
    """

    def __init__(self, moments: Tensor):
        self.mean, self.logvar = mean_and_logvar(moments)

    def mode(self) -> Tensor:
        """The likeliest latents, (B, C, h, w): the mean."""
        return self.mean

    def sample(self, noise: np.random.Generator | np.ndarray | Tensor) -> Tensor:
        """mean + exp(logvar / 2) noise, (B, C, h, w); ``noise`` is standard normal, or the Generator to draw it from.

        Raises:
            UserError: for noise of another shape than the mean's.
        """
        if isinstance(noise, np.random.Generator):
            noise = normal(noise, self.mean.shape)
        if tuple(noise.shape) != tuple(self.mean.shape):
            raise UserError(f"noise has shape {tuple(noise.shape)}, expected the latents' {tuple(self.mean.shape)}")
        noise = noise if isinstance(noise, Tensor) else Tensor(np.asarray(noise, np.float32))
        return self.mean + ops.exp(0.5 * self.logvar) * noise


class Encoder(nn.Cell):
    """Image (B, in_channels, H, W) -> (B, 2 latent_channels, h, w), halved behind every resolution but the last."""

    def __init__(
        self, in_channels: int, widths: Sequence[int], layers: int, latents: int, groups: int, rng: np.random.Generator
    ):
        super().__init__()

        def block(dim: int, dim_out: int) -> nn.Cell:
            return ResnetBlock2D(dim, dim_out, groups=groups, eps=EPS, rng=rng)

        def halved(dim: int) -> nn.Cell:
            return Downsample2D(dim, 0, rng=rng)

        last = len(widths) - 1
        self.conv_in = Conv2d(in_channels, widths[0], 3, padding=1, rng=rng)
        self.down_blocks = nn.CellList(
            [
                DownStage(widths[max(i - 1, 0)], width, layers, block, None, halved if i < last else None)
                for i, width in enumerate(widths)
            ]
        )
        self.mid_block = _middle(widths[-1], block, groups, rng)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = Conv2d(widths[-1], 2 * latents, 3, padding=1, rng=rng)

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x, _ = stage(x)
        return self.conv_out(self.conv_norm_out.silu(self.mid_block(x)))


class Decoder(nn.Cell):
    """Latents (B, latent_channels, h, w) -> image (B, out_channels, H, W); the stages have one layer more."""

    def __init__(
        self, out_channels: int, widths: Sequence[int], layers: int, latents: int, groups: int, rng: np.random.Generator
    ):
        super().__init__()
        widths = tuple(reversed(widths))

        def block(dim: int, dim_out: int) -> nn.Cell:
            return ResnetBlock2D(dim, dim_out, groups=groups, eps=EPS, rng=rng)

        def doubled(dim: int) -> nn.Cell:
            return Upsample2D(dim, rng=rng)

        last = len(widths) - 1
        self.conv_in = Conv2d(latents, widths[0], 3, padding=1, rng=rng)
        self.mid_block = _middle(widths[0], block, groups, rng)
        self.up_blocks = nn.CellList(
            [
                DecoderStage(widths[max(i - 1, 0)], width, layers + 1, block, doubled if i < last else None)
                for i, width in enumerate(widths)
            ]
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = Conv2d(widths[-1], out_channels, 3, padding=1, rng=rng)

    def construct(self, z: Tensor) -> Tensor:
        z = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            z = stage(z)
        return self.conv_out(self.conv_norm_out.silu(z))


def _middle(width: int, block, groups: int, rng: np.random.Generator) -> MidStage:
    """Where each pixel attends to all, with one head."""
    return MidStage(width, block, lambda dim: ImageAttention(dim, 1, groups=groups, eps=EPS, rng=rng))


class AutoencoderKL(PretrainedModel, KernelNet):
    """Images (B, in_channels, H, W), usually in [-1, 1], to latents of 1 / 2^(stages - 1) their sides, and back.

    The latents that a diffusion works on are ``scaling_factor`` times what `encode` says; `decode` takes them divided
    by it again. Neither multiplies by itself.

    Args:
        in_channels, out_channels, latent_channels: of images, of what comes back, of latents.
        down_block_types, up_block_types: a "DownEncoderBlock2D" and an "UpDecoderBlock2D" for every width.
        block_out_channels: the widths, from the image inwards.
        layers_per_block: residual blocks of a stage of the encoder; the decoder's have one more.
        norm_num_groups: of every group normalisation; a divisor of the widths.
        sample_size, scaling_factor, force_upcast: kept for who reads them: the side of the images that it was trained
            on, see above, and whether float16 overflows in it.
        rng: numpy Generator or seed of the initial weights, which follow PyTorch's distributions.
        use_kernels: run by the C++ kernels for CPU (default: where they are there, see `ms_ddpm.ops.kernels`).

    Raises:
        UserError: for a key or value that does not exist or does not fit.
    """

    FIXED: ClassVar[dict[str, Any]] = {
        "act_fn": "silu",
        "shift_factor": None,
        "latents_mean": None,
        "latents_std": None,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "mid_block_add_attention": True,
    }
    renamed = staticmethod(attention_of_today)

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] = ("DownEncoderBlock2D",),
        up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int = 32,
        scaling_factor: float = 0.18215,
        force_upcast: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        use_kernels: bool | None = None,
    ):
        super().__init__(locals())
        widths = tuple(block_out_channels)
        check_levels(len(widths), down_block_types=down_block_types, up_block_types=up_block_types)
        require_positive(layers_per_block=layers_per_block, norm_num_groups=norm_num_groups)
        rng = host_rng(rng)
        self.encoder = Encoder(in_channels, widths, layers_per_block, latent_channels, norm_num_groups, rng)
        self.decoder = Decoder(out_channels, widths, layers_per_block, latent_channels, norm_num_groups, rng)
        self.quant_conv = Conv2d(2 * latent_channels, 2 * latent_channels, 1, rng=rng)
        self.post_quant_conv = Conv2d(latent_channels, latent_channels, 1, rng=rng)
        self.choose_kernels(use_kernels)

    @takes_arrays
    def moments(self, sample: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) -> mean and logarithm of the variance as they are, (B, 2 C, h, w)."""
        return self.leave(self.quant_conv(self.encoder(self.enter(sample))))

    def encode(self, sample: Tensor | np.ndarray) -> LatentDistribution:
        """Images (B, in_channels, H, W) -> the distribution of their latents (B, latent_channels, h, w)."""
        return LatentDistribution(self.moments(sample))

    @takes_arrays
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_channels, h, w), not scaled -> images (B, out_channels, H, W), not clipped."""
        return self.leave(self.decoder(self.post_quant_conv(self.enter(z))))

    def construct(self, sample: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images there and back, by the mode of the latents, or with ``noise`` (B, C, h, w) by a draw of them."""
        mean, logvar = mean_and_logvar(self.moments(sample))
        return self.decode(mean if noise is None else mean + ops.exp(0.5 * logvar) * noise)
