"""ms_ddpm as its Trainer and its samplers run it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .. import sizes


def start(threads: int) -> None:
    """Starts MindSpore. Threads are pinned from outside, by the process's cores and OMP_NUM_THREADS."""
    from ms_ddpm import runtime

    runtime.setup("CPU")
    import ms_ddpm.samplers
    import ms_ddpm.storage.convert
    import ms_ddpm.training.train_step  # noqa: F401


def write_weights(workload: sizes.Workload, path: Path) -> None:
    """Initial weights under PyTorch's names, and beside them our names for the same, for all contestants to load."""
    from ms_ddpm import Unet, convert

    if workload.size.guided:  # where both are the same
        weights = {name: value.asnumpy() for name, value in _guided_unet(workload).parameters_and_names()}
        np.savez(path, **weights)
        path.with_suffix(".json").write_text(json.dumps({name: name for name in weights}))
        return
    unet = Unet(**workload.unet(), rng=workload.seed)
    np.savez(path, **convert.to_torch(unet))
    path.with_suffix(".json").write_text(json.dumps(convert.torch_names(unet)))


def _guided_unet(workload: sizes.Workload):
    """Stable Diffusion's network, with transformers at every width."""
    from ms_ddpm import UNet2DConditionModel

    levels = len(workload.widths())
    return UNet2DConditionModel(
        sample_size=workload.size.side, block_out_channels=workload.widths(), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * levels, up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=sizes.TEXT_DIM, attention_head_dim=4, rng=workload.seed,
    )  # fmt: skip


class Guided:
    """A `StableDiffusionPipeline` that is given what a text encoder would have made of its prompts."""

    def __init__(self, workload: sizes.Workload, weights: Mapping[str, np.ndarray], names: Mapping[str, str]):
        from mindspore import Tensor

        from ms_ddpm import AutoencoderKL, CLIPTextModel, DDIMScheduler, StableDiffusionPipeline
        from ms_ddpm.devices.runtime import compiled

        self.workload = workload
        self.weights = weights
        self.unet = _guided_unet(workload)
        scheduler = DDIMScheduler(**sizes.BETAS_OF_STABLE_DIFFUSION, clip_sample=False)
        text_encoder = CLIPTextModel(  # not asked
            vocab_size=8, hidden_size=sizes.TEXT_DIM, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
        self.pipe = StableDiffusionPipeline(
            AutoencoderKL(norm_num_groups=1, block_out_channels=(1,)), text_encoder, None, self.unet, scheduler
        )
        self.pipe.set_progress_bar_config(disable=True)
        x, t = sizes.denoising_inputs(workload)
        self.inputs = [
            Tensor(value) for value in (x.repeat(2, 0), t.repeat(2).astype(np.float32), sizes.words(workload))
        ]
        self.latents = sizes.tape(workload)[0]

        def forward(x, t, words):
            return self.unet(x, t, words)

        self.forward = compiled(forward)

    def load(self) -> None:
        """Puts the initial weights back."""
        from ms_ddpm.storage.weights import set_parameters

        set_parameters(self.unet, self.weights, "the initial weights")

    def denoise(self) -> dict[str, np.ndarray]:
        """The network once, on both halves of a guided step."""
        return {"output": self.forward(*self.inputs).asnumpy()}

    def sample(self) -> dict[str, np.ndarray]:
        """A whole DDIM chain under guidance from the given noise: latents."""
        without, prompted = np.split(sizes.words(self.workload), 2)
        images = self.pipe(
            prompt_embeds=prompted, negative_prompt_embeds=without, guidance_scale=sizes.GUIDANCE,
            num_inference_steps=self.workload.ddim_steps, latents=self.latents, output_type="latent",
        ).images  # fmt: skip
        return {"images": images}


class Training:
    """`TrainStep`, a denoising graph and the DDIM sampler around any network of the library's calling convention."""

    def __init__(self, unet: object, workload: sizes.Workload):
        from mindspore import Tensor

        from ms_ddpm import GaussianDiffusion
        from ms_ddpm.devices.runtime import compiled

        self.unet = unet
        self.workload = workload
        self.diffusion = GaussianDiffusion(
            unet, image_size=workload.size.side, timesteps=sizes.TIMESTEPS, sampling_timesteps=workload.ddim_steps
        ).set_train(True)
        self.batch = (*sizes.training_inputs(workload), False, None)
        self.inputs = tuple(Tensor(value) for value in sizes.denoising_inputs(workload))
        self.tape = sizes.tape(workload)
        self.step = None

        def forward(x, t):
            return unet(x, t)

        self.forward = compiled(forward)

    def make_step(self) -> Callable[[], tuple[float, float]]:
        """The training step of the library: one graph, flat Adam."""
        from ms_ddpm.training.amp import DynamicLossScale
        from ms_ddpm.training.optim import Adam
        from ms_ddpm.training.train_step import TrainStep

        optimizer = Adam(self.diffusion.trainable_params(), lr=sizes.LEARNING_RATE, betas=sizes.BETAS)
        step = TrainStep(
            self.diffusion, optimizer, DynamicLossScale(enabled=False),
            max_grad_norm=sizes.MAX_GRAD_NORM, accumulate=1,
        )  # fmt: skip
        return lambda: step(sizes.LEARNING_RATE, [self.batch])[:2]

    def train(self) -> dict[str, np.ndarray]:
        """One update: loss and norm of the gradient."""
        if self.step is None:
            self.step = self.make_step()
        loss, norm = self.step()
        return {"loss": np.float32(loss), "gradient norm": np.float32(norm)}

    def denoise(self) -> dict[str, np.ndarray]:
        """The network once, without gradients."""
        return {"output": self.forward(*self.inputs).asnumpy()}

    def sample(self) -> dict[str, np.ndarray]:
        """A whole DDIM chain from the given noise."""
        from ms_ddpm import samplers

        images = samplers.ddim(self.diffusion, self.workload.batch, noise=self.tape, progress=False)
        return {"images": images.asnumpy()}


class Contestant(Training):
    """ms_ddpm's Unet with the given weights (PyTorch's names)."""

    def __init__(self, workload: sizes.Workload, weights: Mapping[str, np.ndarray], names: Mapping[str, str]):
        from ms_ddpm import Unet

        super().__init__(Unet(**workload.unet(), rng=workload.seed), workload)
        self.weights = weights

    def load(self) -> None:
        """Puts the initial weights back."""
        from ms_ddpm import convert

        convert.from_torch(self.unet, self.weights)
