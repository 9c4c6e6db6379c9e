"""Other libraries: which are installed, lucidrains' classes as a leg, and every difference that is meant.

A difference stands in `DIFFERENCES` with its size; test_peers.py measures it, so that none is claimed that is not
there and none grows unseen. docs/differences.md is `differences_markdown()`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NamedTuple
from unittest import mock

import numpy as np

from .case import Arrays

MODULES = {
    "diffusers": "diffusers", "denoising-diffusion-pytorch": "denoising_diffusion_pytorch", "ema-pytorch": "ema_pytorch",
}  # fmt: skip


def installed(package: str) -> bool:
    """Whether ``package`` (a key of `MODULES`) can be imported, and PyTorch with it."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", MODULES[package]))


def missing_peers() -> list[str]:
    """One line for the report for every peer that is not here, whose cases are therefore not run."""
    return [
        f"{package} is not installed: its cases were not run (pip install {package})"
        for package in MODULES
        if not installed(package)
    ]


# --- lucidrains' classes in the place of torch_ref's ---------------------------------------------------------------


def _tuples(arguments: Mapping) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _classes() -> dict[str, type]:
    """denoising-diffusion-pytorch's Unet and GaussianDiffusion and ema-pytorch's EMA with torch_ref's signatures."""
    import torch
    from denoising_diffusion_pytorch import denoising_diffusion_pytorch as theirs
    from ema_pytorch import EMA

    class Diffusion(theirs.GaussianDiffusion):
        def __init__(self, model, *, dtype, loss_type="l2", **arguments):
            super().__init__(model, **arguments)

        def p_sample(self, x, t, noise, x_self_cond=None):
            rows = []
            for i, time in enumerate(t.tolist()):
                hint = None if x_self_cond is None else x_self_cond[i, None]
                with mock.patch("torch.randn_like", lambda like, i=i: noise[i, None]):
                    rows.append(super().p_sample(x[i, None], time, hint))
            return tuple(torch.cat(column) for column in zip(*rows, strict=True))

        def forward(self, img, t, noise, self_cond=False, offset_noise=None):
            coin = mock.patch.object(theirs, "random", lambda: 0.0 if self_cond else 1.0)
            with coin, mock.patch("torch.randn", lambda *args, **kwargs: offset_noise):
                return super().forward(img, times=t, noise=noise.clone())

    class Average(EMA):
        calls = property(lambda self: int(self.step))
        average = property(lambda self: dict(self.ema_model.named_parameters()))

        def swapped(self):
            return nullcontext()

    return {
        "Unet": lambda **arguments: theirs.Unet(**_tuples(arguments)), "GaussianDiffusion": Diffusion, "EMA": Average,
        "plain": theirs.GaussianDiffusion,
    }  # fmt: skip


@contextmanager
def lucidrains_installed() -> Iterator[None]:
    """Inside, torch_ref's Unet, GaussianDiffusion and EMA are the libraries' own."""
    import torch_ref

    classes = _classes()
    with ExitStack() as stack:
        for name in ("Unet", "GaussianDiffusion", "EMA"):
            stack.enter_context(mock.patch.object(torch_ref, name, classes[name]))
        yield


def _chain(spec: Mapping, inputs: Arrays) -> Arrays:
    """Its own sampling loop, which draws x_T and every noise from the tape."""
    import torch

    from .backends.on_torch._common import load, model_of

    model, arguments = model_of(spec), spec.get("arguments", {})
    load(model, inputs, "float32")
    diffusion = _classes()["plain"](
        model, **spec["diffusion"], sampling_timesteps=arguments.get("steps"),
        ddim_sampling_eta=arguments.get("eta", 0.0),
    )  # fmt: skip
    tape = iter([*map(torch.from_numpy, inputs["tape"]), torch.zeros(inputs["tape"].shape[1:])])
    draw = lambda *args, **kwargs: next(tape)  # noqa: E731
    with mock.patch("torch.randn", draw), mock.patch("torch.randn_like", draw):
        images = diffusion.sample(inputs["tape"].shape[1], return_all_timesteps=True)
    return {"chain": np.ascontiguousarray(images.transpose(0, 1).numpy())}


def lucidrains(kind: str, spec: Mapping, inputs: Arrays) -> Arrays:
    """The leg of denoising-diffusion-pytorch and ema-pytorch: ``kind`` and ``spec`` are those of backend torch."""
    from .backends import on_torch

    if kind == "chain":
        return _chain(spec, inputs)
    with lucidrains_installed():
        return on_torch.KINDS[kind](spec, inputs)


# --- differences ------------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """What is done otherwise, and by how much.

    Args:
        peer: the library, with the release looked at.
        thing: what it is about.
        theirs, ours: what either does.
        magnitude: its size in words, with {} for ``size``.
        size: the number that the test must find again, within 10 % (None: it has no number).
        case: the test's name in test_peers.py's MEASURES ("": it can only be read off the source).
    """

    peer: str
    thing: str
    theirs: str
    ours: str
    magnitude: str
    size: float | None = None
    case: str = ""
