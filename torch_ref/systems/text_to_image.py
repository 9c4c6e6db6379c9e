"""Drawing with Stable Diffusion's networks in PyTorch, to be read beside the papers: guidance, and three beginnings.

    LDM     Rombach et al. 2022, https://arxiv.org/abs/2112.10752     Flawed   Lin et al. 2023, arXiv 2305.08891
    CFG     Ho & Salimans 2022, https://arxiv.org/abs/2207.12598      SDEdit   Meng et al. 2021, arXiv 2108.01073
    RePaint Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865

z are latents (B, 4, h, w), images (B, 3, H, W) in [0, 1], a mask (B, 1, H, W) is 1 where is to be drawn. What a prompt
says is given as the text encoder's vectors, and noise is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ref.systems.schedulers import Scheduler
from torch_ref.systems.stable_diffusion import AutoencoderKL, DenoisingUnet


def guided(plain: Tensor, prompted: Tensor, scale: float) -> Tensor:
    """eps(negative) + s (eps(prompt) - eps(negative)): CFG eq. 6 with s = 1 + w."""
    return plain + scale * (prompted - plain)


def rescaled(x: Tensor, prompted: Tensor, share: float) -> Tensor:
    """A guided output whose deviation, image by image, is by ``share`` that of the prompted one   (Flawed, 15, 16)."""
    axes = tuple(range(1, x.ndim))
    as_prompted = x * prompted.std(axes, keepdim=True) / x.std(axes, keepdim=True)
    return share * as_prompted + (1 - share) * x


class Noise(NamedTuple):
    """Standard normal arrays like the latents, each where it is used.

    Attributes:
        first: of z_T, or what an image begins with.
        image: by which the image's latents are drawn from their distribution.
        known: by which those of what is known of it are.
        steps: for the steps of a scheduler that needs some, in order.
    """

    first: Tensor
    image: Tensor | None = None
    known: Tensor | None = None
    steps: Sequence[Tensor] = ()


class Asked(NamedTuple):
    """How is drawn.

    Attributes:
        steps: of the whole chain.
        scale, share: of the guidance and its rescaling; a scale of at most 1 is none.
        strength: of an image: which part of the chain it goes through, from its noisier end.
        of_a_step: more arguments of the scheduler's step.
    """

    steps: int
    scale: float = 7.5
    share: float = 0.0
    strength: float = 1.0
    of_a_step: Mapping = {}


Change = Callable[[int, Tensor], Tensor]


def unchanged(i: int, z: Tensor) -> Tensor:
    """The latents behind step ``i`` as they are."""
    return z


@dataclass
class TextToImage:
    """The networks and how they are used; ``scaling_factor`` brings latents to a deviation near 1 (LDM, appendix G)."""

    unet: DenoisingUnet
    autoencoder: AutoencoderKL
    scheduler: Scheduler
    scaling_factor: float = 0.18215

    # --- latents ------------------------------------------------------------------------------------------------------

    def latents_of(self, images: Tensor, noise: Tensor) -> Tensor:
        """A draw from the images' distribution, scaled."""
        mean, logvar = self.autoencoder.encode(2 * images - 1)
        return self.scaling_factor * (mean + torch.exp(logvar / 2) * noise)

    def images_of(self, z: Tensor) -> Tensor:
        """Scaled latents decoded, what lies outside of [0, 1] cut off."""
        decoded = self.autoencoder.decoder(self.autoencoder.post_quant_conv(z / self.scaling_factor))
        return ((decoded + 1) / 2).clamp(0, 1)

    def noised(self, z: Tensor, noise: Tensor, time: float) -> Tensor:
        """The latents as they are at ``time`` of the chain, at which the scheduler stands."""
        return self.scheduler.add_noise(z, noise, torch.tensor([time] * len(z)))

    # --- the chain ----------------------------------------------------------------------------------------------------

    def times(self, steps: int, strength: float) -> list[float]:
        """Those of the last ``strength`` of the chain   (SDEdit, Algorithm 1: from t_0 on)."""
        self.scheduler.set_timesteps(steps)
        first = steps - int(steps * strength)
        self.scheduler.set_begin_index(first)
        return self.scheduler.times[first:]

    def eps(
        self, z: Tensor, time: float, prompt: Tensor, negative: Tensor | None, asked: Asked, beside: Tensor | None
    ) -> Tensor:
        """What the network says of z, with what it sees ``beside`` it, guided; both prompts (B, T, width)."""
        seen = self.scheduler.scale_model_input(z, time)
        seen = seen if beside is None else torch.cat((seen, beside), 1)
        t = torch.full((len(z),), time, dtype=z.dtype)
        prompted = self.unet(seen, t, prompt)
        if asked.scale <= 1:
            return prompted
        found = guided(self.unet(seen, t, negative), prompted, asked.scale)
        return rescaled(found, prompted, asked.share) if asked.share else found

    def draw(
        self,
        prompt: Tensor,
        negative: Tensor | None,
        noise: Noise,
        asked: Asked,
        image: Tensor | None = None,
        mask: Tensor | None = None,
        change: Change = unchanged,
    ) -> tuple[Tensor, Tensor]:
        """(the latents behind every step (steps, B, 4, h, w), the images).

        Without ``image`` from noise alone; with it from the image at the noise that ``strength`` says, with a ``mask``
        and all of the strength from noise too. What a mask leaves is the image's behind every step (RePaint, eq. 8),
        unless the network sees it: then it is the network's affair. ``change`` has the last word on each step.
        """
        scheduler = self.scheduler
        times = self.times(asked.steps, 1.0 if image is None else asked.strength)
        small = None if mask is None else F.interpolate(mask, noise.first.shape[2:], mode="nearest")
        sees = mask is not None and self.unet.conv_in.in_channels > noise.first.shape[1]
        beside = None
        if sees:
            known = image * (1 - mask) + 0.5 * mask  # gray where is to be drawn
            beside = torch.cat((small, self.latents_of(known, noise.known)), 1)
        start = None if noise.image is None else self.latents_of(image, noise.image)
        if image is None or (mask is not None and asked.strength == 1):
            z = scheduler.init_noise_sigma * noise.first
        else:
            z = self.noised(start, noise.first, times[0])
        of_steps, chain = iter(noise.steps), []
        for i, time in enumerate(times):
            eps = self.eps(z, time, prompt, negative, asked, beside)
            z = scheduler.step(eps, time, z, noise=next(of_steps, None), **asked.of_a_step).prev_sample
            if mask is not None and not sees:
                there = self.noised(start, noise.first, times[i + 1]) if i + 1 < len(times) else start
                z = small * z + (1 - small) * there
            z = change(i, z)
            chain.append(z)
        return torch.stack(chain), self.images_of(z)
