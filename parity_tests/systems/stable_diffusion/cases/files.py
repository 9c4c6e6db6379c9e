"""Tier 6: weights into our networks through files as diffusers writes them, of both generations, and out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from parity_tests.make import cases, computation, shapes_of
from portparity.arrays import weights
from portparity.case import Arrays, Case

from .drawing import PARTS
from .networks import DDPM, SMALL, STABLE

TEXT = {**PARTS["text"], "num_hidden_layers": 2, "vocab_size": 30, "eos_token_id": 2}
ROWS: dict[str, tuple[str, Mapping, bool]] = {  # name: the network, its arguments, whether names are the older ones
    "text": ("clip_text", TEXT, False),
    "text_older": ("clip_text", TEXT, True),
    "autoencoder": ("autoencoder_kl", SMALL, False),
    "autoencoder_older": ("autoencoder_kl", SMALL, True),
    "unet": ("conditional_unet", STABLE, False),
    "unet_2": ("conditional_unet", {**STABLE, "linear": True}, False),
    "unconditional": ("unconditional_unet", DDPM, False),
    "unconditional_older": ("unconditional_unet", DDPM, True),
}


def _weights(rng: np.random.Generator, net: str, arguments: Mapping) -> Arrays:
    """Those of a network itself; the text encoder's cases of tier 3 have theirs inside another module."""
    return weights({name.removeprefix("net."): shape for name, shape in shapes_of(net, arguments).items()}, rng)


def tier6(seed: int = 0) -> Iterator[Case]:
    """PyTorch -> a directory -> MindSpore -> a directory -> PyTorch, bit for bit."""
    for name, (net, arguments, older) in ROWS.items():
        spec = {"net": net, "arguments": arguments, "older": older}
        made = computation(
            f"state/sd_files-{name}", "sd_files", spec,
            partial(_weights, net=net, arguments=arguments), truth="numpy", mode="pynative", rule="exact",
            neighbours=0, seed=seed,
        )  # fmt: skip
        yield from cases("6", made, mode="pynative")
