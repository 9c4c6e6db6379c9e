"""Stable Diffusion's blocks and networks of `ms_ddpm`, by the names of `cases`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mindspore import nn, ops

from ms_ddpm.models import autoencoder_kl, unet_2d, unet_2d_condition
from ms_ddpm.nn import blocks_2d, transformer_2d
from ms_ddpm.training import amp
from parity_tests.backends.shared_mindspore import RNG
from portparity.case import Arrays
from portparity.memo import memo
from portparity.on_mindspore import load, tensor, vjp, with_gradients


class Resized(nn.Cell):
    """Ours, asked for a size."""

    def __init__(self, dim: int, size: Sequence[int]):
        super().__init__()
        self.upsample = blocks_2d.Upsample2D(dim, rng=RNG)
        self.asked = tuple(size) if size else None

    def construct(self, x):
        return self.upsample(x, self.asked)


LAYERS: dict[str, Callable[..., nn.Cell]] = {
    "sd_timesteps": lambda dim, cos_first, shift: blocks_2d.Timesteps(dim, flip_sin_to_cos=cos_first, freq_shift=shift),
    "sd_timestep_embedding": lambda **k: blocks_2d.TimestepEmbedding(**k, rng=RNG),
    "sd_resnet_block": lambda **k: blocks_2d.ResnetBlock2D(**k, rng=RNG),
    "sd_downsample": lambda **k: blocks_2d.Downsample2D(**k, rng=RNG),
    "sd_upsample": Resized,
    "sd_attention": lambda **k: transformer_2d.TokenAttention(**k, rng=RNG),
    "sd_image_attention": lambda **k: transformer_2d.ImageAttention(**k, rng=RNG),
    "sd_geglu": lambda **k: transformer_2d.GEGLU(**k, rng=RNG),
    "sd_feed_forward": lambda **k: transformer_2d.FeedForward(**k, rng=RNG),
    "sd_transformer": lambda **k: transformer_2d.Transformer2DModel(**k, rng=RNG),
}


def _autoencoder(widths: Sequence[int], layers: int, groups: int, **options) -> nn.Cell:
    return autoencoder_kl.AutoencoderKL(
        block_out_channels=tuple(widths), layers_per_block=layers, norm_num_groups=groups,
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
        **options,
    )  # fmt: skip


def _names(attends: Sequence[bool], kind: str) -> dict:
    """The stages' names, ``kind`` with attention."""
    return {
        "down_block_types": tuple(f"{kind if one else ''}DownBlock2D" for one in attends),
        "up_block_types": tuple(f"{kind if one else ''}UpBlock2D" for one in reversed(attends)),
    }


def _conditional(widths, heads, context_dim, attends, layers, groups, linear, depth, seen=4, **options) -> nn.Cell:
    return unet_2d_condition.UNet2DConditionModel(
        in_channels=seen, block_out_channels=tuple(widths), attention_head_dim=tuple(heads),
        cross_attention_dim=context_dim,
        layers_per_block=layers, norm_num_groups=groups, use_linear_projection=linear,
        transformer_layers_per_block=depth, **_names(attends, "CrossAttn"), **options,
    )  # fmt: skip


def _unconditional(widths, head_width, attends, layers, groups, eps, padding, cos_first, shift, **options) -> nn.Cell:
    return unet_2d.UNet2DModel(
        block_out_channels=tuple(widths), attention_head_dim=head_width, layers_per_block=layers,
        norm_num_groups=groups, norm_eps=eps, downsample_padding=padding, flip_sin_to_cos=cos_first, freq_shift=shift,
        **_names(attends, "Attn"), **options,
    )  # fmt: skip


NETWORKS: dict[str, Callable[..., nn.Cell]] = {
    "autoencoder_kl": _autoencoder,
    "autoencoder_kl_moments": _autoencoder,
    "conditional_unet": _conditional,
    "unconditional_unet": _unconditional,
}


def sd_network(spec: Mapping, inputs: Arrays, mode: str = "graph", level: str = "O0", dtype: str = "float16") -> Arrays:
    """A whole network: output, gradients of its image and its context, and of every parameter."""
    by_kernels, positions = bool(spec.get("kernels")), tuple(spec["differentiable"])

    def build():
        net = NETWORKS[spec["net"]](**spec["arguments"], rng=RNG, use_kernels=by_kernels)
        amp.apply_amp(net, level, dtype)

        def call(*args):
            return net.construct(*args)

        def moments(x):
            return ops.concat(autoencoder_kl.mean_and_logvar(net.moments(x)), 1)

        encodes = spec["net"] == "autoencoder_kl_moments"
        return net, with_gradients(moments if encodes else call, net, positions, mode)

    what = (spec["net"], spec["arguments"], mode, level, dtype, by_kernels)
    net, call = memo(build, "mindspore stable diffusion", *what)
    names = {name: name for name, _ in net.parameters_and_names()}
    load(net, inputs, names)
    args = [(name, tensor(inputs[name])) for name in spec["calls"]]
    return vjp(call, net, args, tensor(inputs["cotangent"]), names, positions)
