"""Stable Diffusion's networks against diffusers' own, which are computed in float64, at sizes of a few channels."""

import importlib
import json

import numpy as np
import pytest

from ms_ddpm.errors import UserError

TWO = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}
SD1 = {
    **TWO,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 6,
    "attention_head_dim": 4,  # heads: of one channel at the first width
}
SD2 = {
    **SD1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
}
DDPM = {
    **TWO,
    "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    "attention_head_dim": 2,  # the width of a head
}
CIFAR10 = {  # what google/ddpm-cifar10-32 has otherwise
    **DDPM,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
VAE = {
    **TWO,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "scaling_factor": 0.3,
}
NETWORKS = {
    "sd1": ("unet_2d_condition", "UNet2DConditionModel", SD1),
    "sd2": ("unet_2d_condition", "UNet2DConditionModel", SD2),
    "ddpm": ("unet_2d", "UNet2DModel", DDPM),
    "cifar10": ("unet_2d", "UNet2DModel", CIFAR10),
    "vae": ("autoencoder_kl", "AutoencoderKL", VAE),
}


def class_of(name):
    module, network, _ = NETWORKS[name]
    return getattr(importlib.import_module(f"ms_ddpm.models.{module}"), network)


def theirs(name):
    """diffusers' network in float64, with weights of which none is zero or one."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    network, rng = getattr(diffusers, NETWORKS[name][1])(**NETWORKS[name][2]), np.random.default_rng(1)
    for weight in network.parameters():
        noise = rng.standard_normal(weight.shape, dtype=np.float32)
        weight.data = (torch.ones if "norm" in name and weight.ndim == 1 else torch.zeros)(weight.shape) + torch.from_numpy(
            0.4 * noise / max(1, weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.3 * noise
        )
    return network.double()


def inputs(name, rng):
    """Of three images, not square; those of the latents have an odd side, which is halved and doubled."""
    times = np.array([3, 417, 981], np.float32)
    if name == "vae":
        return rng.standard_normal((3, 3, 10, 6)), rng.standard_normal((3, 4, 5, 3))
    if name.startswith("sd"):
        return rng.standard_normal((3, 4, 7, 6)), times, rng.standard_normal((3, 5, 6))
    return rng.standard_normal((3, 3, 8, 6)), times


def of_theirs(name, network, given):
    if name != "vae":
        return network(*given).sample
    images, noise = given
    latents = network.encode(images).latent_dist
    return network.decode(latents.mean + latents.std * noise).sample


def truth(name, given, cotangent_rng):
    """(their network, its output, the cotangent, gradients by name), all of float64."""
    import torch

    network = theirs(name)
    output = of_theirs(name, network, [torch.from_numpy(one.astype(np.float64)) for one in given])
    cotangent = cotangent_rng.standard_normal(output.shape)
    (output * torch.from_numpy(cotangent)).sum().backward()
    gradients = {key: weight.grad.numpy() for key, weight in network.named_parameters()}
    return network, output.detach().numpy(), cotangent, gradients


def ours_like(name, network, **options):
    """Our network with the weights of diffusers'."""
    from ms_ddpm.ops.assign import set_value

    made = class_of(name)(**NETWORKS[name][2], rng=0, **options)
    own = dict(made.parameters_and_names())
    state = {key: value.numpy().astype(np.float32) for key, value in network.state_dict().items()}
    assert own.keys() == state.keys()
    for key, value in state.items():
        assert own[key].name == key
        set_value(own[key], value)
    return made


def judge(output, gradients, expected, expected_gradients):
    """Every gradient is judged by the largest one of its tensor, or by a thousandth of the largest of all.

    The latter for the bias of a key, whose gradient is zero but for rounding: the softmax does not see it.
    """
    error = abs(output - expected).max() / abs(expected).max()
    assert error < 1e-5, f"output {error:.1e}"
    least = 1e-3 * max(abs(one).max() for one in expected_gradients.values())
    errors = {
        key: abs(gradients[key] - one).max() / max(least, abs(one).max()) for key, one in expected_gradients.items()
    }
    worst = max(errors, key=errors.get)
    assert errors[worst] < 1e-4, f"gradient of {worst} {errors[worst]:.1e}"


@pytest.fixture
def mode(mindspore, request):
    mindspore.set_context(mode=getattr(mindspore, f"{request.param}_MODE"))
    yield request.param
    mindspore.set_context(mode=mindspore.GRAPH_MODE)


CASES = [
    *(("PYNATIVE", name, False) for name in NETWORKS),
    *(("PYNATIVE", name, True) for name in NETWORKS),
    ("GRAPH", "sd1", False),
    ("GRAPH", "cifar10", True),
    ("GRAPH", "vae", True),
]


@pytest.mark.parametrize(("mode", "name", "use_kernels"), CASES, indirect=["mode"])
def test_outputs_and_the_gradients_of_all_weights(mindspore, rng, mode, name, use_kernels):
    from ms_ddpm.ops import kernels

    if use_kernels and kernels.why_not():
        pytest.skip(kernels.why_not())
    given = [one.astype(np.float32) for one in inputs(name, rng)]
    network, expected, cotangent, expected_gradients = truth(name, given, rng)
    ours = ours_like(name, network, use_kernels=use_kernels)
    cotangent = mindspore.Tensor(cotangent.astype(np.float32))

    def loss(*args):
        output = ours(*args)
        return (output * cotangent).sum(), output

    weights = ours.trainable_params()
    both = mindspore.value_and_grad(loss, None, weights, has_aux=True)
    (_, output), found = both(*map(mindspore.Tensor, given))
    judge(
        output.asnumpy(),
        {weight.name: one.asnumpy() for weight, one in zip(weights, found, strict=True)},
        expected,
        expected_gradients,
    )
