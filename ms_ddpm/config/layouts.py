"""What the U-Nets of denoising-diffusion-pytorch compute, release by release, where their weights' names do not tell.

The network kept its shape from 2022 to today; its normalisations and its attention changed several times, often under
the names of before. A layout is one of these ways; `torch_releases` of the diffusion says which release
has which.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One way to compute the U-Net. The defaults are today's.

    Args:
        group: the blocks normalise by GroupNorm of 8 groups; else by RMSNorm.
        standardise: filters of the blocks have mean 0 and variance 1: "add" puts eps on the variance, "least" takes eps
            where the variance is smaller, "" leaves the filters alone.
        centred: attention normalises by LayerNorm, which takes the mean off; else by RMSNorm.
        memory: attention has four learned keys and values.
        divides_values: linear attention without memory divides its values by the number of pixels.
        wrapped: in PyTorch attention stands in Residual(PreNorm(...)), and is full in the middle alone.
    """

    group: bool = True
    standardise: str = ""
    centred: bool = False
    memory: bool = False
    divides_values: bool = False
    wrapped: bool = False


LAYOUTS = {  # the values of ``Unet(norm=...)``; a number is the first release with that layout
    "rms": Layout(group=False, memory=True),
    "group": Layout(standardise="add", centred=True, divides_values=True, wrapped=True),
    "group-1.7.0": Layout(standardise="add", divides_values=True, wrapped=True),
    "group-1.7.1": Layout(standardise="least", divides_values=True, wrapped=True),
    "group-1.7.2": Layout(divides_values=True, wrapped=True),
    "group-1.7.4": Layout(wrapped=True),
    "group-1.8.0": Layout(),
    "group-1.9.0": Layout(memory=True),
}
NORMS = tuple(LAYOUTS)
