"""torch_ref, trained as PyTorch users train: torch.optim.Adam and clip_grad_norm_, which are its fastest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import sizes


def start(threads: int) -> None:
    """Imports PyTorch and gives it ``threads``."""
    import torch

    import torch_ref  # noqa: F401

    torch.set_num_threads(threads)


class _Denoiser:
    """A network of torch_ref, eager or through torch.compile, and what is done with it whatever it is.

    Attributes:
        unet: the network; model: the same, compiled where that is asked for.
        inputs: what it is called with.
    """

    def __init__(self, workload: sizes.Workload, unet, weights: Mapping[str, np.ndarray], inputs, compiled: bool):
        import torch

        self.workload = workload
        self.unet = unet
        self.weights = weights
        self.inputs = inputs
        self.model = torch.compile(unet) if compiled else unet

    def load(self) -> None:
        """Puts the initial weights back."""
        import torch

        self.unet.load_state_dict({name: torch.from_numpy(value) for name, value in self.weights.items()})

    def denoise(self) -> dict[str, np.ndarray]:
        """The network once, without gradients; under guidance on both halves of a step."""
        import torch

        with torch.no_grad():
            return {"output": self.model(*self.inputs).numpy()}


class Guided(_Denoiser):
    """torch_ref's network of Stable Diffusion and its DDIM steps."""

    def __init__(
        self,
        workload: sizes.Workload,
        weights: Mapping[str, np.ndarray],
        names: Mapping[str, str],
        compiled: bool = False,
    ):
        import torch

        from torch_ref.systems.schedulers import DDIMScheduler
        from torch_ref.systems.stable_diffusion import conditional_unet

        widths = workload.widths()
        unet = conditional_unet(widths, [4] * len(widths), sizes.TEXT_DIM, [True] * len(widths), groups=8)
        x, t = sizes.denoising_inputs(workload)
        self.words = torch.from_numpy(sizes.words(workload))
        inputs = torch.from_numpy(x.repeat(2, 0)), torch.from_numpy(t.repeat(2)), self.words
        super().__init__(workload, unet, weights, inputs, compiled)
        self.scheduler = DDIMScheduler(**sizes.BETAS_OF_STABLE_DIFFUSION, clip_sample=False)
        self.latents = torch.from_numpy(sizes.tape(workload)[0])

    def sample(self) -> dict[str, np.ndarray]:
        """A whole DDIM chain under guidance from the given noise: latents."""
        import torch

        x, count = self.latents, 2 * self.workload.batch
        self.scheduler.set_timesteps(self.workload.ddim_steps)
        with torch.no_grad():
            for time in self.scheduler.times:
                plain, prompted = self.model(torch.cat((x, x)), torch.full((count,), time), self.words).chunk(2)
                x = self.scheduler.step(plain + sizes.GUIDANCE * (prompted - plain), time, x).prev_sample
        return {"images": x.numpy()}


class Contestant(_Denoiser):
    """torch_ref's Unet with the given weights, eager or through torch.compile."""

    def __init__(
        self,
        workload: sizes.Workload,
        weights: Mapping[str, np.ndarray],
        names: Mapping[str, str],
        compiled: bool = False,
    ):
        import torch

        from torch_ref import GaussianDiffusion, Unet

        inputs = tuple(torch.from_numpy(value) for value in sizes.denoising_inputs(workload))
        super().__init__(workload, Unet(**workload.unet()), weights, inputs, compiled)
        self.diffusion = GaussianDiffusion(
            self.unet, image_size=workload.size.side, timesteps=sizes.TIMESTEPS, sampling_timesteps=workload.ddim_steps
        )
        self.diffusion.model = self.model
        self.optimizer = torch.optim.Adam(self.unet.parameters(), lr=sizes.LEARNING_RATE, betas=sizes.BETAS)
        self.batch = sizes.training_inputs(workload)
        self.tape = sizes.tape(workload)

    def train(self) -> dict[str, np.ndarray]:
        """One update: loss and norm of the gradient."""
        import torch

        img, t, noise = (torch.from_numpy(value) for value in self.batch)
        self.optimizer.zero_grad()
        loss = self.diffusion(img, t.long(), noise)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.unet.parameters(), sizes.MAX_GRAD_NORM)
        self.optimizer.step()
        return {"loss": np.float32(loss.item()), "gradient norm": np.float32(norm.item())}

    def sample(self) -> dict[str, np.ndarray]:
        """A whole DDIM chain from the given noise."""
        from torch_ref import ddim

        return {"images": ddim(self.diffusion, self.workload.batch, noise=iter(self.tape)).numpy()}
