"""Denoising diffusion: Ho et al., https://arxiv.org/abs/2006.11239, and its successors; see `gaussian_diffusion`."""

from __future__ import annotations

from .. import STEPS, Option, System
from .config import DiffusionConfig

SAMPLERS = ("ddpm", "ddim")


class Diffusion(System):
    """A U-Net that predicts noise, image or velocity, sampled by DDPM or DDIM."""

    name = "diffusion"
    summary = "DDPM and DDIM with a U-Net"
    Config = DiffusionConfig
    smaller = "make dim, dim_mults, attn_heads or attn_dim_head smaller"
    can_animate = True
    sampling = (
        Option("sampler", str, "ddpm or ddim [ddim where the steps are fewer than T]", choices=SAMPLERS),
        STEPS,
        Option("eta", float, "ddim: 0 deterministic ... 1 as noisy as ddpm [as configured]"),
    )  # fmt: skip
    looking = (
        Option("interpolate", int, "also interpolation.png: rows of K steps between two images of --dataset",
               metavar="K", least=3, most=1000),
        Option("interpolate_t", int, "how far the two are noised [T/2]", metavar="T", least=1),
    )  # fmt: skip

    def build(self, config):
        from .model import build

        return build(config)

    def describe(self, cell):
        from .described import describe

        return describe(cell)

    def check_sizes(self, config):
        from .size import check

        check(config)

    def parameter_count(self, config):
        from .size import parameter_count

        return parameter_count(config)

    def kept_per_image(self, config):
        from .size import skip_values

        return skip_values(config)

    def sample(self, run):
        from . import pictures

        pictures.check_time(run.cell, run.args["interpolate_t"])
        run.check()
        ends = pictures.interpolation_ends(run) if run.args["interpolate"] else None
        super().sample(run)
        if ends is not None:
            pictures.save_interpolation(run, ends)

    def torch_part(self, cell):
        return cell

    def network_part(self, cell):
        return cell.model

    def torch_side(self):
        from .weights import DiffusionTorch

        return DiffusionTorch(self.name)


SYSTEM = Diffusion()
