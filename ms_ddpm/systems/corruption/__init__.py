"""A network that undoes noise, and makes images by going from noise to its answer a little at a time."""

from __future__ import annotations

from .. import STEPS, Option, System
from .config import CorruptionConfig


class CorruptionSystem(System):
    """A plain network asked for the image behind any amount of noise; see `ms_ddpm.systems.corruption.corruption`."""

    name = "corruption"
    summary = "a plain network that undoes one of five kinds of noise"
    Config = CorruptionConfig
    can_animate = True
    sampling = (STEPS,)
    looking = (
        Option("amounts", float, "how much noise restorations.png shows, from 0 (none) to 1 (nothing else) "
               "[0.25 0.5 0.75 1]", metavar="A", many=True),
    )  # fmt: skip

    def build(self, config):
        from .corruption import build_corruption

        return build_corruption(config)

    def describe(self, cell):
        from .described import describe

        return describe(cell)

    def parameter_count(self, config):
        from .size import parameter_count

        return parameter_count(config.channels)

    def sample(self, run):
        from .pictures import look

        super().sample(run)
        for line in look(run):
            run.say(line)

    def report(self, trainer, config):
        from .pictures import report

        return report(trainer, config)

    def torch_part(self, cell):
        return cell.model


SYSTEM = CorruptionSystem()
