"""Stable Diffusion's blocks and networks of `torch_ref`, by the names of `cases`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from parity_tests.backends.shared_torch import kernels
from parity_tests.systems.core.on_torch.nets import magnitudes
from portparity.arrays import given
from portparity.case import Arrays
from portparity.on_torch import arrays, load, tensor, vjp
from torch_ref.systems import clip_text
from torch_ref.systems import stable_diffusion as reference


class Resized(nn.Module):
    """To a size that is given beforehand."""

    def __init__(self, dim: int, size):
        super().__init__()
        self.upsample, self.asked = reference.Upsample(dim), size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, dim, H, W) -> (B, dim, *size)."""
        return self.upsample(x, self.asked)


class Moments(reference.AutoencoderKL):
    """What the encoder says of the latents, mean and logarithm of the variance one behind the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, 2 latents, h, w)."""
        return torch.cat(self.encode(x), 1)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "sd_timesteps": lambda **k: reference.Timesteps(**k),
    "sd_timestep_embedding": lambda **k: reference.TimestepEmbedding(**k),
    "sd_resnet_block": lambda **k: reference.ResnetBlock(**k),
    "sd_downsample": lambda **k: reference.Downsample(**k),
    "sd_upsample": lambda **k: Resized(**k),
    "sd_attention": lambda **k: reference.Attention(**k),
    "sd_image_attention": lambda **k: reference.ImageAttention(**k),
    "sd_geglu": lambda **k: reference.GEGLU(**k),
    "sd_feed_forward": lambda **k: reference.FeedForward(**k),
    "sd_transformer": lambda **k: reference.Transformer(**k),
}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "autoencoder_kl": lambda **k: reference.AutoencoderKL(**k),
    "autoencoder_kl_moments": lambda **k: Moments(**k),
    "conditional_unet": lambda **k: reference.conditional_unet(**k),
    "unconditional_unet": lambda **k: reference.unconditional_unet(**k),
}


def _network(spec: Mapping, inputs: Arrays, dtype: str) -> tuple:
    net = NETWORKS[spec["net"]](**spec["arguments"])
    load(net, inputs, dtype)
    return net, {name: tensor(inputs[name], dtype) for name in spec["calls"]}, tensor(inputs["cotangent"], dtype)


@kernels
def sd_network(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """A whole network: output, gradients of its image and its context, and of every parameter."""
    net, args, cotangent = _network(spec, inputs, dtype)
    return vjp(net, net, args, cotangent, spec["differentiable"], dtype)


def sd_network_scales(spec: Mapping, inputs: Arrays) -> Arrays:
    """`magnitudes` of a whole network."""
    net, args, cotangent = _network(spec, inputs, "float64")
    return magnitudes(net, net, args, cotangent)


def sd_files(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The given weights into PyTorch's network, strictly, and out again."""
    net = {**NETWORKS, "clip_text": clip_text.TextEncoder}[spec["net"]](**spec["arguments"])
    net.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in given(inputs, "weight").items()}, strict=True)
    return arrays({f"weight.{name}": value for name, value in net.state_dict().items()})
