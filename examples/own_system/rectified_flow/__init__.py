"""Rectified flow on points of the plane, as a system of ms_ddpm: Liu et al., https://arxiv.org/abs/2209.03003.

`ms_ddpm.systems` says what each method is for. This file imports MindSpore inside the methods alone, since ``--help``
reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ms_ddpm.config import Config
from ms_ddpm.config.keys import key
from ms_ddpm.systems import Option, System


@dataclass
class FlowConfig(Config):
    """The keys of this system; all others are everybody's."""

    system: str = key("flow", "name", "what is trained")
    points: int = key(2000, "int", "points of the training set", low=2)
    arms: int = key(2, "int", "arms of the spiral that they lie on", low=1, high=12)
    width: int = key(64, "int", "neurons of each hidden layer", low=1)
    steps: int = key(20, "int", "Euler steps of sampling", low=1, high=10_000, free=True)


class Flow(System):
    """Straight paths from noise to data: x_t = (1 - t) z + t x, and a network that knows their velocity x - z."""

    name = "flow"
    summary = "rectified flow on points of a spiral"
    Config = FlowConfig
    sampling = (Option("sampling_steps", int, "Euler steps [as configured]", name="steps", metavar="S", least=1),)

    def build(self, config):
        from .model import RectifiedFlow

        return RectifiedFlow(config.width, config.steps, seed=config.seed)

    def open_data(self, config, cell):
        from .data import spiral

        return spiral(config.points, config.arms, config.seed)

    def sample_fn(self, cell, dataset, config):
        from .pictures import density

        return lambda cell, num: density(cell.sample(1000, seed=config.seed).asnumpy())

    def to_images(self, cell, batch):
        from .pictures import density

        return density(batch)

    def sample(self, run):
        from ms_ddpm.pictures.images import save_grid

        from .pictures import density, save

        points = run.cell.sample(run.args["num"], seed=run.args["seed"], **run.options).asnumpy()
        save(points, run.folder / "points.npz")
        save_grid(density(points), run.folder / "grid.png")
        run.say(f"{len(points)} points: {run.folder / 'points.npz'}, {run.folder / 'grid.png'}")


SYSTEM = Flow()
