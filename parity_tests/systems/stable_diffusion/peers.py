"""Tier "peers" of Stable Diffusion's networks: diffusers' own are the truth, in double, and the reference."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from parity_tests.make import cases
from parity_tests.peers import of_installed
from portparity.arrays import perturbed
from portparity.case import Arrays, Case

from .cases.networks import NETWORKS, computation_of

NOT_THEIRS = ("sd_moments",)  # half of what sd_autoencoder is
EVEN = {"sd_unconditional": (3, 8, 6)}  # images that their network can halve, where ours has an odd one


def _stages(attends: list[bool], kind: str) -> dict[str, tuple[str, ...]]:
    """The stages' names, ``kind`` with attention."""
    return {
        "down_block_types": tuple(f"{kind if one else ''}DownBlock2D" for one in attends),
        "up_block_types": tuple(f"{kind if one else ''}UpBlock2D" for one in reversed(attends)),
    }


def _their_network(kind: str, arguments: Mapping[str, Any]) -> Any:
    """diffusers' network with the ``arguments`` of torch_ref's."""
    import diffusers

    given = dict(arguments)
    sizes = {
        "block_out_channels": tuple(given["widths"]), "layers_per_block": given["layers"],
        "norm_num_groups": given["groups"],
    }  # fmt: skip
    if kind == "autoencoder_kl":
        count = len(given["widths"])
        types = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
        return diffusers.AutoencoderKL(**sizes, **types)
    if kind == "conditional_unet":
        return diffusers.UNet2DConditionModel(
            **sizes, **_stages(given["attends"], "CrossAttn"), attention_head_dim=tuple(given["heads"]),
            cross_attention_dim=given["context_dim"], use_linear_projection=given["linear"],
            transformer_layers_per_block=given["depth"],
        )  # fmt: skip
    return diffusers.UNet2DModel(
        **sizes, **_stages(given["attends"], "Attn"), attention_head_dim=given["head_width"], norm_eps=given["eps"],
        downsample_padding=given["padding"], flip_sin_to_cos=given["cos_first"], freq_shift=given["shift"],
    )  # fmt: skip


def diffusers_leg(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The output, and the gradients of what it was called with and of all parameters, whose names are torch_ref's."""
    from portparity.on_torch import load, tensor, vjp

    logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)  # which has a word on `Module.double`
    network = _their_network(spec["net"], spec["arguments"])
    load(network, inputs, dtype)

    def there_and_back(x, noise):
        latents = network.encode(x).latent_dist
        return network.decode(latents.mean + latents.std * noise).sample

    def denoised(*args):
        return network(*args).sample

    call = there_and_back if spec["net"] == "autoencoder_kl" else denoised
    args = {name: tensor(inputs[name], dtype) for name in spec["calls"]}
    return vjp(call, network, args, tensor(inputs["cotangent"], dtype), spec["differentiable"], dtype)


def diffusers_cases(seed: int = 0) -> Iterator[Case]:
    """Every network, by operators and by the C++ kernels."""
    for name, row in NETWORKS.items():
        if name in EVEN:
            row = row._replace(calls={**row.calls, "x": EVEN[name]}, output=EVEN[name])
        for kernels in (False, True) if name not in NOT_THEIRS else ():
            made = computation_of("network", name, row, 1, "pynative", seed, kernels)
            spec = {**made.spec, "reference": "diffusers"}
            reference = partial(diffusers_leg, spec)
            references = (reference, *(perturbed(reference, i) for i in range(len(made.references) - 1)))
            made = replace(
                made, key=f"peers/diffusers/{name}{'-kernels' if kernels else ''}", references=references, further=(),
                truth=partial(diffusers_leg, spec, dtype="float64"), spec=spec,
            )  # fmt: skip
            yield from cases("peers", made, mode="pynative")


def tier_peers(seed: int = 0) -> Iterator[Case]:
    """diffusers, where it is installed."""
    yield from of_installed(LIBRARIES, seed)


LIBRARIES = {("diffusers",): diffusers_cases}
