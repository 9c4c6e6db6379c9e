"""DDPMPipeline and DDIMPipeline: pictures from a network that is told nothing but the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
from mindspore import Tensor

from .. import schedulers
from ..errors import UserError, quoted
from ..models.unet_2d import UNet2DModel
from .base import (
    PICTURES,
    ImagePipelineOutput,
    Noise,
    Pipeline,
    as_asked,
    check_number,
    check_output,
    chosen,
    from_0_to_1,
    shown,
)

KINDS = {name: getattr(schedulers, name) for name in schedulers.__all__ if name.endswith("Scheduler")}
KINDS.pop("Scheduler", None)


def _output(unet: UNet2DModel) -> Callable:
    """(x, t) -> what the network makes of it, to be compiled."""

    def output(x, t):
        return unet(x, t)

    return output


class _Unconditional(Pipeline):
    PARTS: ClassVar = {
        "unet": ("diffusers", chosen({"UNet2DModel": UNet2DModel}, "unet")),
        "scheduler": ("diffusers", chosen(KINDS, "scheduler")),
    }
    CLASSES = ("DDPMPipeline", "DDIMPipeline")
    kind: ClassVar[type[schedulers.Scheduler]]

    def __init__(self, unet: UNet2DModel, scheduler: schedulers.Scheduler):
        if type(scheduler) is not self.kind:
            scheduler = self.kind.from_config(scheduler.config)
        super().__init__(unet=unet, scheduler=scheduler)

    def _shape(self, batch_size: int) -> tuple[int, ...]:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size is {quoted(batch_size)}, expected a whole number of at least 1")
        side = self.unet.config.sample_size
        if side is None:
            raise UserError("the unet's config has no sample_size, which is the size of the pictures")
        sides = (side, side) if isinstance(side, int) else tuple(side)
        return (batch_size, self.unet.config.in_channels, *sides)

    def _draw(
        self, batch_size: int, steps: int, noise: Noise, output_type: str, return_dict: bool, **options: Any
    ) -> ImagePipelineOutput | tuple:
        check_output(output_type, PICTURES)
        shape = self._shape(batch_size)
        self.scheduler.set_timesteps(steps)
        network = self.graph("unet", _output, self.unet)
        sample = Tensor(noise.draw(shape, "x_T"))
        times = self.scheduler.timesteps.asnumpy().tolist()
        for _, t in self.progress(times):
            output = network(sample, Tensor(np.full(batch_size, t, np.float32)))
            sample = self.scheduler.step(output, t, sample, noise=noise.draw, **options).prev_sample
        images = as_asked(shown(sample), output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)


class DDPMPipeline(_Unconditional):
    """diffusers' DDPMPipeline: ancestral sampling (Ho et al., https://arxiv.org/abs/2006.11239, Algorithm 2).

    Args:
        unet: the network.
        scheduler: a scheduler; of another kind than DDPM's, one with its configuration is made.
    """

    kind = schedulers.DDPMScheduler

    def __call__(
        self,
        batch_size: int = 1,
        generator: np.random.Generator | None = None,
        num_inference_steps: int = 1000,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        seed: int | None = None,
        first_image: int = 0,
        noise: Iterable[Any] | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Draws ``batch_size`` pictures.

        Args:
            batch_size: how many.
            generator, seed, noise: where the noise comes from: a numpy Generator, a seed (picture i of a seed is the
                same whatever ``batch_size`` is), or the arrays themselves, (B, C, H, W): x_T, then one for each step
                but the last.
            num_inference_steps: how many steps.
            first_image: of a seed: the number of the first picture, where more calls draw the others.
            output_type: "pil" or "np".
            return_dict: False: a tuple of one.

        Raises:
            UserError: for values that do not fit.
        """
        source = Noise(noise, generator, seed, first_image)
        return self._draw(batch_size, num_inference_steps, source, output_type, return_dict)


class DDIMPipeline(_Unconditional):
    """diffusers' DDIMPipeline: denoising diffusion implicit models (Song et al., https://arxiv.org/abs/2010.02502).

    Args:
        unet: the network.
        scheduler: a scheduler; of another kind than DDIM's, one with its configuration is made.
    """

    kind = schedulers.DDIMScheduler

    def __call__(
        self,
        batch_size: int = 1,
        generator: np.random.Generator | None = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        use_clipped_model_output: bool | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        *,
        seed: int | None = None,
        first_image: int = 0,
        noise: Iterable[Any] | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Draws ``batch_size`` pictures.

        Args:
            batch_size, generator, seed, first_image, noise, output_type, return_dict: as of `DDPMPipeline`; steps draw
                noise where ``eta`` is not 0.
            eta: 0 deterministic ... 1 as noisy as DDPM.
            num_inference_steps: how many steps.
            use_clipped_model_output: see `DDIMScheduler.step`.

        Raises:
            UserError: for values that do not fit.
        """
        check_number("eta", eta, from_0_to_1, "a number from 0 to 1")
        source = Noise(noise, generator, seed, first_image)
        return self._draw(
            batch_size, num_inference_steps, source, output_type, return_dict, eta=eta,
            use_clipped_model_output=bool(use_clipped_model_output),
        )  # fmt: skip
