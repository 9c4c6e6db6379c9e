"""Every layer of both networks, with MindSpore's weights and the last batch of the run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import torch_ref
from ms_ddpm import schedules
from ms_ddpm.config import Config
from parity_tests.make import computation
from parity_tests.unet_layers import localise
from portparity.arrays import normal
from portparity.backends import leg

from . import sides

IMAGES = 4  # of the batch; each layer is computed a dozen times


class Layers:
    """Judges the layers, each alone and in the free run, forward and backward (`parity_tests.unet_layers`)."""

    def __init__(self, config: Config):
        self.config = config

    def look(self, weights: str, tape: str) -> Mapping:
        """The layers as results.json has them."""
        config, batch = self.config, sides.read(tape)
        image, t, noise = (batch[name][-1][:IMAGES] for name in ("img", "t", "noise"))
        betas = schedules.beta_schedule(config.beta_schedule, config.timesteps, **config.schedule_fn_kwargs)
        abar = schedules.diffusion_tables(betas)["alphas_cumprod"][t][:, None, None, None]
        x = np.sqrt(abar) * (2 * image - 1) + np.sqrt(1 - abar) * noise

        def inputs(rng: np.random.Generator) -> sides.Arrays:
            found = sides.read(weights) | {"x": x.astype(np.float32), "time": t.astype(np.int32)}
            if config.self_condition:
                found["x_self_cond"] = normal(rng, *image.shape)
            out = config.channels * (2 if config.learned_variance else 1)
            return found | {"cotangent": normal(rng, len(image), out, *image.shape[2:])}

        unet = sides.arguments_of(torch_ref.Unet, config)
        made = computation(
            "compare/layers", "network", {"unet": unet}, inputs, rule="layers",
            scales=leg("torch", "network_scales", {"unet": unet}),
        )  # fmt: skip
        return {"layers": [layer.as_json() for layer in localise(made, "mindspore")]}
